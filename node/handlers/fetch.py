# Fetch, v4 to v18
# v4: isolation level    v5: log start offset    v7: sessions    v9: leader epoch of the client    v11: rack
# v12: flexible, truncation detection (KIP-595)    v13: topic ids    v15: replica state as a tag    v16: leader hints (KIP-951)
"""Serves stored batches, unchanged. If there is too little, waits for more, up to the client's time.

A request with a session (KIP-227) looks only at those of its partitions that may have news, and tells only what has changed.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from quorumlog.partitions.partition import Partition, ReadResult, Role
from quorumlog.wire.catalogue import FETCH
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.fetch import (
    TOPIC_IDS_FROM,
    VERSIONS,
    AbortedTransaction,
    EpochEndOffset,
    FetchedPartition,
    FetchedTopic,
    FetchRequest,
    FetchResponse,
    decode_fetch,
    encode_fetch_response,
)
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..fetch_sessions import FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION, Asked, FetchSession, News, asked_in
from ..services import Services
from .closest_replica import ClosestReplica
from .leader_hints import endpoints_of, leader_hint

WAIT_MAX_S = 300.0
PAUSE_MIN_S, PAUSE_MAX_S = 0.005, 0.1  # before another look for someone who wants more than a byte
READ_COMMITTED = 1
FOLLOWERS_FROM = 11  # a client of before would not know why a follower is behind
NO_REPLICA = -1


@dataclass(slots=True)
class Read:
    """One partition's part of the answer."""

    asked: Asked
    tp: TopicPartition
    result: ReadResult | None = None
    error: ClusterError | None = None
    news: News | None = None  # where there is a session
    replica: int | None = None  # that the client should read from in place of us

    @property
    def size(self) -> int:
        return self.result.size if self.result is not None else 0

    @property
    def is_urgent(self) -> bool:
        """The client must hear of it at once."""
        if self.error is not None or self.replica is not None:
            return True
        return self.result is not None and self.result.diverging is not None


@dataclass(slots=True)
class Look:
    """What can be read now."""

    reads: list[Read]
    size: int = 0
    is_urgent: bool = False


def handle_fetch(services: Services, call: Call) -> Body | Awaitable[Body]:
    request: FetchRequest = call.message
    if request.replica_id >= 0:  # our followers do not fetch with Kafka's protocol
        return _refused(request, ErrorCode.invalid_request)
    try:
        fetch = _begin(services, call)
    except ClusterError as error:
        return FetchResponse((), error_code=error.code)
    look = fetch.look()
    if fetch.is_enough(look) or request.max_wait_ms <= 0 or fetch.is_empty:
        return fetch.answer(look)
    return fetch.wait_and_answer()


def _refused(request: FetchRequest, code: ErrorCode) -> FetchResponse:
    """Each partition has the code as well: the oldest versions have no place for the one of the request."""
    topics = tuple(
        FetchedTopic(
            topic.name, topic.topic_id, tuple(FetchedPartition(one.partition, error_code=code) for one in topic.partitions)
        )
        for topic in request.topics
    )
    return FetchResponse(topics, error_code=code)


def _begin(services: Services, call: Call) -> "Fetch":
    """Raises ClusterError where the request speaks of a session that is not, or is not there."""
    request: FetchRequest = call.message
    sessions = services.fetch_sessions
    if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
        sessions.close(request.session_id)  # a client that begins anew, or goes, is done with it
        return Fetch(services, call, asked_in(request.topics))
    session = sessions.step(request, uses_topic_ids=call.version >= TOPIC_IDS_FROM, now=services.clock.now())
    return Fetch(services, call, asked_in(request.topics)) if session is None else SessionFetch(services, call, session)


class Fetch:
    """Lives while one request is in work that names all its partitions itself."""

    def __init__(self, services: Services, call: Call, asked: Sequence[Asked]) -> None:
        self._asked = asked
        self._services = services
        self._request: FetchRequest = call.message
        self._version = call.version
        self._rack = ClosestReplica.of(services, self._request.rack_id)
        # Bytes that are worth an answer: never more than may be in one.
        self._enough = min(self._request.min_bytes, self._request.max_bytes, services.config.fetch_bytes_max)

    @property
    def is_empty(self) -> bool:
        return not self._asked

    def is_enough(self, look: Look) -> bool:
        return look.is_urgent or look.size >= self._enough

    def look(self) -> Look:
        look = Look([])
        room = self._room()
        for asked in self._asked:
            self._read(look, asked, room)
        return look

    async def wait_and_answer(self) -> FetchResponse:
        """Look again when something becomes readable, until it is enough or the time is over.

        Who wants much is looked after less and less often: each look reads all there is, and may find that it is too little yet.
        """
        progress = asyncio.Event()
        pause_s = PAUSE_MIN_S
        self._subscribe(progress)
        try:
            async with asyncio.timeout(min(WAIT_MAX_S, self._request.max_wait_ms / 1000)):
                while (answer := self._answer_if_enough()) is None:
                    progress.clear()
                    await progress.wait()
                    if self._enough > 1:
                        await asyncio.sleep(pause_s)
                        pause_s = min(PAUSE_MAX_S, 2 * pause_s)
        except TimeoutError:
            answer = self.answer(self.look())
        finally:
            self._unsubscribe(progress)
        return answer

    def answer(self, look: Look) -> FetchResponse:
        return self._response(look.reads, self._open_session(look.reads))

    def _answer_if_enough(self) -> FetchResponse | None:
        """What was read is not kept while we wait."""
        look = self.look()
        return self.answer(look) if self.is_enough(look) else None

    def _open_session(self, reads: list[Read]) -> int:
        request = self._request
        if request.session_epoch != INITIAL_EPOCH or not self._asked:
            return NO_SESSION
        session = self._services.fetch_sessions.open(
            self._asked,
            isolation_level=request.isolation_level,
            uses_topic_ids=self._version >= TOPIC_IDS_FROM,
            now=self._services.clock.now(),
        )
        if session is None:
            return NO_SESSION
        for read in reads:
            session.watch(read.asked, read.tp)
            session.on_told(read.asked, self._news(read))
        return session.id

    def _subscribe(self, progress: asyncio.Event) -> None:
        self._services.replicas.reads.add(self._tps(), progress.set)

    def _unsubscribe(self, progress: asyncio.Event) -> None:
        self._services.replicas.reads.remove(self._tps(), progress.set)

    def _tps(self) -> list[TopicPartition]:
        return [self._tp(asked) for asked in self._asked]

    # --- reading

    def _room(self) -> int:
        """Bytes of records that the answer may have."""
        services = self._services
        return min(self._request.max_bytes, services.config.fetch_bytes_max, services.answer_room())

    def _read(self, look: Look, asked: Asked, room: int) -> Read:
        # The first batch of an answer comes whole even if it is over the limits: a reader must get on (KIP-74).
        limit = min(asked.wanted.partition_max_bytes, room - look.size)
        read = Read(asked, self._tp(asked))
        try:
            read.result = self._read_partition(read, limit if look.size else max(1, limit))
        except ClusterError as error:
            read.error = error.with_traceback(None)
        look.reads.append(read)
        look.size += read.size
        look.is_urgent |= read.is_urgent
        return read

    def _read_partition(self, read: Read, limit: int) -> ReadResult:
        services, asked = self._services, read.asked
        if not read.tp.topic and asked.topic is None:
            raise ClusterError(ErrorCode.unknown_topic_id, f"there is no topic with id {asked.topic_id}")
        partition = services.replicas.get(read.tp, services.image)
        if asked.topic is None and partition.topic_id != asked.topic_id:
            raise ClusterError(ErrorCode.inconsistent_topic_id, f"{read.tp} has id {partition.topic_id}, not {asked.topic_id}")
        try:
            read.replica = self._closer_than(partition, asked)
            if read.replica is not None:
                return partition.marks()
            return partition.read(
                asked.wanted.fetch_offset,
                max_bytes=limit,
                isolation_committed=self._request.isolation_level == READ_COMMITTED,
                current_leader_epoch=asked.wanted.current_leader_epoch,
                last_fetched_epoch=asked.wanted.last_fetched_epoch,
                from_follower=self._version >= FOLLOWERS_FROM,
            )
        finally:
            services.replicas.check_damage(partition)

    def _closer_than(self, partition: Partition, asked: Asked) -> int | None:
        """Another replica that the client should read from."""
        if self._rack is None or partition.role is not Role.LEADER:
            return None
        partition.check_leads(asked.wanted.current_leader_epoch)
        return self._rack.replica_for(partition, asked.wanted)

    def _tp(self, asked: Asked) -> TopicPartition:
        topic = asked.topic if asked.topic is not None else self._services.image.topic_names.get(asked.topic_id, "")
        return TopicPartition(topic, asked.wanted.partition)

    def _news(self, read: Read) -> News:
        result = read.result
        if result is None:
            return News((-1, -1, -1), is_urgent=True)
        end = result.last_stable_offset if self._request.isolation_level == READ_COMMITTED else result.high_watermark
        return News(
            (result.high_watermark, result.last_stable_offset, result.log_start_offset),
            size=result.size,
            is_at_end=read.asked.wanted.fetch_offset >= end,
            is_urgent=read.is_urgent,
        )

    # --- answering

    def _response(self, reads: list[Read], session_id: int) -> FetchResponse:
        image = self._services.image
        topics: dict[tuple[object, object], tuple[Asked, list[FetchedPartition]]] = {}
        hints = []
        for read in reads:
            asked = read.asked
            fetched = self._fetched(read)
            if fetched.current_leader is not None:
                hints.append(fetched.current_leader)
            topics.setdefault((asked.topic, asked.topic_id), (asked, []))[1].append(fetched)
        return FetchResponse(
            tuple(FetchedTopic(asked.topic, asked.topic_id, tuple(fetched)) for asked, fetched in topics.values()),
            session_id=session_id,
            node_endpoints=endpoints_of(image, hints) if hints else (),
        )

    def _fetched(self, read: Read) -> FetchedPartition:
        index, result = read.asked.wanted.partition, read.result
        if read.error is not None:
            code = read.error.code
            hint = leader_hint(self._services.image, read.tp, code)
            return FetchedPartition(index, error_code=code, aborted_transactions=(), current_leader=hint)
        assert result is not None
        diverging = result.diverging
        return FetchedPartition(
            index,
            high_watermark=result.high_watermark,
            last_stable_offset=result.last_stable_offset,
            log_start_offset=result.log_start_offset,
            records=result.buffers,
            aborted_transactions=self._aborted(result),
            preferred_read_replica=NO_REPLICA if read.replica is None else read.replica,
            diverging_epoch=EpochEndOffset(diverging.epoch, diverging.end_offset) if diverging is not None else None,
        )

    def _aborted(self, result: ReadResult) -> tuple[AbortedTransaction, ...] | None:
        if self._request.isolation_level != READ_COMMITTED:
            return None
        return tuple([AbortedTransaction(one.producer_id, one.first_offset) for one in result.aborted])


class SessionFetch(Fetch):
    """Lives while one step of a session is in work."""

    def __init__(self, services: Services, call: Call, session: FetchSession) -> None:
        super().__init__(services, call, ())
        self._session = session
        self._epoch = session.epoch

    @property
    def is_empty(self) -> bool:
        return False

    def is_enough(self, look: Look) -> bool:
        return super().is_enough(look) or self._session.refusal(self._epoch) is not None

    def look(self) -> Look:
        """Of those that may have news, those that have."""
        look = Look([])
        room = self._room()
        for asked in self._session.unsettled:
            if look.size and look.size >= room:
                break  # the rest is first in turn the next time
            read = self._read(look, asked, room)
            self._session.watch(asked, read.tp)
            read.news = news = self._news(read)
            if not self._session.is_worth_telling(asked, news):
                look.reads.pop()
        return look

    def answer(self, look: Look) -> FetchResponse:
        refusal = self._session.refusal(self._epoch)
        if refusal is not None:
            return FetchResponse((), error_code=refusal.code, session_id=self._session.id)
        for read in look.reads:
            assert read.news is not None
            self._session.on_told(read.asked, read.news)
        return self._response(look.reads, self._session.id)

    def _subscribe(self, progress: asyncio.Event) -> None:
        self._session.subscribe(progress.set)

    def _unsubscribe(self, progress: asyncio.Event) -> None:
        self._session.unsubscribe(progress.set)


API = Api(key=FETCH, versions=VERSIONS, handle=handle_fetch, decode=decode_fetch, encode=encode_fetch_response)
