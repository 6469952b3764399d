# Fetch, v4 to v18
# v4: isolation level    v5: log start offset    v7: sessions    v9: leader epoch of the client    v11: rack
# v12: flexible, truncation detection (KIP-595)    v13: topic ids    v15: replica state as a tag    v16: leader hints (KIP-951)
"""Serves stored batches, unchanged. If there is too little, waits for more, up to the client's time.

Sessions are declined: every answer says session 0, and clients then ask in full each time (KIP-227 allows it).
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from uuid import UUID

from quorumlog.partitions.partition import ReadResult
from quorumlog.wire.catalogue import FETCH
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.fetch import (
    VERSIONS,
    EpochEndOffset,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    decode_fetch,
    encode_fetch_response,
)
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services
from .leader_hints import endpoints_of, leader_hint

WAIT_MAX_S = 300.0
PAUSE_MIN_S, PAUSE_MAX_S = 0.005, 0.1  # before another look for someone who wants more than a byte
FULL_FETCHES = (0, -1)  # session epochs of requests that name all partitions: the first of a session, and those of none
READ_COMMITTED = 1


@dataclass(slots=True)
class Read:
    """One partition's part of the answer."""

    wanted: FetchPartition
    tp: TopicPartition
    result: ReadResult | None = None
    error: ClusterError | None = None


Topics = list[tuple[FetchTopic, list[Read]]]


def handle_fetch(services: Services, call: Call) -> Body | Awaitable[Body]:
    request: FetchRequest = call.message
    if request.session_epoch not in FULL_FETCHES:  # a step of a session, and we keep none
        return FetchResponse((), error_code=ErrorCode.fetch_session_id_not_found)
    if request.replica_id >= 0:  # our followers do not fetch with Kafka's protocol
        return _refused(request, ErrorCode.invalid_request)
    request = replace(request, topics=_without_repeats(request.topics))
    topics, size, urgent = _read_all(services, request)
    if urgent or size >= _enough(services, request) or request.max_wait_ms <= 0 or not topics:
        return _response(services, topics)
    return _wait_and_read(services, request)


def _refused(request: FetchRequest, code: ErrorCode) -> FetchResponse:
    """Each partition has the code as well: the oldest versions have no place for the one of the request."""
    topics = tuple(
        FetchedTopic(
            topic.name, topic.topic_id, tuple(FetchedPartition(one.partition, error_code=code) for one in topic.partitions)
        )
        for topic in request.topics
    )
    return FetchResponse(topics, error_code=code)


def _without_repeats(topics: tuple[FetchTopic, ...]) -> tuple[FetchTopic, ...]:
    """A partition that is named again counts as it was named last, as in Kafka: it is read once."""
    if len(topics) == 1 and len(topics[0].partitions) == 1:
        return topics
    named: dict[tuple[str | None, UUID], dict[int, FetchPartition]] = {}
    for topic in topics:
        named.setdefault((topic.name, topic.topic_id), {}).update((one.partition, one) for one in topic.partitions)
    return tuple(FetchTopic(name, topic_id, tuple(ones.values())) for (name, topic_id), ones in named.items())


def _enough(services: Services, request: FetchRequest) -> int:
    """Bytes that are worth an answer: never more than may be in one."""
    return min(request.min_bytes, request.max_bytes, services.config.fetch_bytes_max)


def _read_all(services: Services, request: FetchRequest) -> tuple[Topics, int, bool]:
    """What can be read now, its size, and whether there is something that the client must hear at once."""
    room = min(request.max_bytes, services.config.fetch_bytes_max, services.answer_room())
    topics: Topics = []
    size, urgent = 0, False
    for topic in request.topics:
        name = topic.name if topic.name is not None else services.image.topic_names.get(topic.topic_id)
        reads = []
        for wanted in topic.partitions:
            # The first batch of an answer comes whole even if it is over the limits: a reader must get on (KIP-74).
            limit = min(wanted.partition_max_bytes, room - size)
            read = _read(services, request, topic, name, wanted, limit if size else max(1, limit))
            reads.append(read)
            size += read.result.size if read.result is not None else 0
            urgent |= read.error is not None or (read.result is not None and read.result.diverging is not None)
        topics.append((topic, reads))
    return topics, size, urgent


def _read(
    services: Services, request: FetchRequest, topic: FetchTopic, name: str | None, wanted: FetchPartition, limit: int
) -> Read:
    read = Read(wanted, TopicPartition(name or "", wanted.partition))
    try:
        if name is None:
            raise ClusterError(ErrorCode.unknown_topic_id, f"there is no topic with id {topic.topic_id}")
        partition = services.replicas.get(read.tp, services.image)
        try:
            read.result = partition.read(
                wanted.fetch_offset,
                max_bytes=limit,
                isolation_committed=request.isolation_level == READ_COMMITTED,
                current_leader_epoch=wanted.current_leader_epoch,
                last_fetched_epoch=wanted.last_fetched_epoch,
            )
        finally:
            services.replicas.check_damage(partition)
    except ClusterError as error:
        read.error = error.with_traceback(None)
    return read


async def _wait_and_read(services: Services, request: FetchRequest) -> Body:
    """Read again when something becomes readable, until it is enough or the time is over.

    Who wants much is looked after less and less often: each look reads all there is, and may find that it is too little yet.
    """
    tps = _partitions_of(services, request)
    progress = asyncio.Event()
    services.replicas.reads.add(tps, progress)
    pause_s = PAUSE_MIN_S
    try:
        async with asyncio.timeout(min(WAIT_MAX_S, request.max_wait_ms / 1000)):
            while (response := _look(services, request)) is None:
                progress.clear()
                await progress.wait()
                if _enough(services, request) > 1:
                    await asyncio.sleep(pause_s)
                    pause_s = min(PAUSE_MAX_S, 2 * pause_s)
    except TimeoutError:
        topics, _, _ = _read_all(services, request)
        return _response(services, topics)
    finally:
        services.replicas.reads.remove(tps, progress)
    return response


def _look(services: Services, request: FetchRequest) -> FetchResponse | None:
    """The answer if there is enough for one. What was read otherwise is not kept while we wait."""
    topics, size, urgent = _read_all(services, request)
    return _response(services, topics) if urgent or size >= _enough(services, request) else None


def _partitions_of(services: Services, request: FetchRequest) -> list[TopicPartition]:
    names = services.image.topic_names
    return [
        TopicPartition(name, wanted.partition)
        for topic in request.topics
        if (name := topic.name if topic.name is not None else names.get(topic.topic_id)) is not None
        for wanted in topic.partitions
    ]


def _response(services: Services, topics: Topics) -> FetchResponse:
    fetched = tuple(
        FetchedTopic(topic.name, topic.topic_id, tuple(_fetched(services, read) for read in reads)) for topic, reads in topics
    )
    hints = [one.current_leader for topic in fetched for one in topic.partitions if one.current_leader is not None]
    return FetchResponse(fetched, node_endpoints=endpoints_of(services.image, hints) if hints else ())


def _fetched(services: Services, read: Read) -> FetchedPartition:
    if read.error is not None:
        code = read.error.code
        return FetchedPartition(read.wanted.partition, error_code=code, current_leader=leader_hint(services.image, read.tp, code))
    result = read.result
    assert result is not None
    diverging = result.diverging
    return FetchedPartition(
        read.wanted.partition,
        high_watermark=result.high_watermark,
        last_stable_offset=result.last_stable_offset,
        log_start_offset=result.log_start_offset,
        records=result.buffers,
        diverging_epoch=EpochEndOffset(diverging.epoch, diverging.end_offset) if diverging is not None else None,
    )


API = Api(key=FETCH, versions=VERSIONS, handle=handle_fetch, decode=decode_fetch, encode=encode_fetch_response)
