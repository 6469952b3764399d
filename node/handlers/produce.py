# Produce, v3 to v13
# v3: record batches, transactions    v5: log start offset    v7: zstd    v8: record errors    v9: flexible
# v10: leader hints (KIP-951)    v11: TRANSACTION_ABORTABLE    v12: joins transactions by itself (KIP-890)    v13: topic ids
"""Takes record batches. Everything is appended before the handler returns, so that order is arrival order; the answer waits.

But for the first batch of a transaction on a partition: the coordinator is asked before, and what follows it waits behind it.
acks=all waits for the high watermark, acks=1 for this node's own flush, acks=0 for nothing and is not answered.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.host.ports import StorageError
from quorumlog.metadata.internal_topics import is_internal
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.topic_rules import RecordsRefused
from quorumlog.partitions.verification import Guard
from quorumlog.wire.batches import COMPRESSION_MASK, TRANSACTIONAL, BatchHeader, Buffer
from quorumlog.wire.catalogue import PRODUCE
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.produce import (
    VERSIONS,
    ProducedPartition,
    ProducedTopic,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceTopic,
    decode_produce,
    encode_produce_response,
)

from ..dispatch import Api, BadRequest, Body, Call
from ..services import Services
from ..transaction_verifier import Verdict, refusal
from .leader_hints import endpoints_of, leader_hint

ALL, LEADER, NONE = -1, 1, 0
TIMEOUT_MAX_S = 3600.0
ZSTD_FROM, ABORTABLE_FROM, ADDING_FROM = 7, 11, 12
ATTRIBUTES = 22  # in a batch, the lower byte of them


@dataclass(slots=True)
class Outcome:
    """One partition's part of the request: the answer and what it waits for, or why not. It holds nothing of the request."""

    index: int
    tp: TopicPartition
    produced: ProducedPartition | None = None
    error: ClusterError | None = None
    stored: asyncio.Future[None] | None = None
    verified: Verdict | None = None
    """Resolved when the batch was appended, or refused, by what the coordinator of its transaction said."""


@dataclass(frozen=True, slots=True)
class TopicOutcomes:
    name: str | None
    topic_id: UUID
    partitions: list[Outcome]


def handle_produce(services: Services, call: Call) -> Body | Awaitable[Body]:
    request: ProduceRequest = call.message
    append = _refuse_zstd if call.version < ZSTD_FROM and _has_zstd(request) else _append
    if request.transactional_id is None and _is_transactional(request):
        append = _refuse_transactional
    topics = [
        TopicOutcomes(topic.name, topic.topic_id, [append(services, call, topic, one) for one in topic.partitions])
        for topic in request.topics
    ]
    outcomes = [outcome for topic in topics for outcome in topic.partitions]
    verdicts = [outcome.verified for outcome in outcomes if outcome.verified is not None]
    if verdicts:
        return _answer_when_verified(services, request.acks, request.timeout_ms, topics, verdicts)
    return _answer(services, request.acks, request.timeout_ms, topics)


async def _answer_when_verified(
    services: Services, acks: int, timeout_ms: int, topics: list[TopicOutcomes], verdicts: list[Verdict]
) -> Body:
    try:
        await asyncio.wait(verdicts)
    except asyncio.CancelledError:
        for verdict in verdicts:  # nobody would hear that the batch was stored
            verdict.cancel()
        raise
    answer = _answer(services, acks, timeout_ms, topics)
    return await answer if isinstance(answer, Coroutine) else answer


def _answer(services: Services, acks: int, timeout_ms: int, topics: list[TopicOutcomes]) -> Body | Coroutine[Any, Any, Body]:
    outcomes = [outcome for topic in topics for outcome in topic.partitions]
    if acks == NONE:
        refused = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
        if refused is not None:  # the only way to tell a producer that expects no answer
            raise BadRequest(f"produce with acks=0: {refused}")
        return None
    if any(outcome.stored is not None and not outcome.stored.done() for outcome in outcomes):
        return _answer_when_stored(services, acks, timeout_ms, topics)
    return _response(services, topics)


def _append(services: Services, call: Call, topic: ProduceTopic, wanted: ProducePartition) -> Outcome:
    request: ProduceRequest = call.message
    name = _name_of(services, topic)
    outcome = Outcome(wanted.index, TopicPartition(name or "", wanted.index))
    try:
        _check(services, request, topic, name, wanted)
        partition = services.replicas.get(outcome.tp, services.image)
        assert wanted.records is not None
        is_of_transaction = request.transactional_id is not None and _is_of_transaction(wanted.records)
        if is_of_transaction and (asked := partition.transaction_to_verify(wanted.records)) is not None:
            _append_when_verified(services, call, outcome, wanted, *asked)
        else:
            _append_to(services, request, partition, outcome, wanted)
    except ClusterError as error:
        outcome.error = error.with_traceback(None)  # whose frames would keep the request
    return outcome


def _append_when_verified(
    services: Services, call: Call, outcome: Outcome, wanted: ProducePartition, header: BatchHeader, guard: Guard
) -> None:
    """Ask the coordinator whether the batch may begin a transaction here, and append it by what it says."""
    request: ProduceRequest = call.message
    producer = Producer(header.producer_id, header.producer_epoch)
    knows_abortable, is_adding = call.version >= ABORTABLE_FROM, call.version >= ADDING_FROM

    def append(verdict: Verdict) -> None:
        try:
            code = ErrorCode.coordinator_not_available if verdict.cancelled() else verdict.result()
            error = refusal(code, outcome.tp, knows_abortable=knows_abortable, knows_concurrent=is_adding)
            if error is not None:
                raise error
            _check_fresh_enough(services, request)
            partition = services.replicas.get(outcome.tp, services.image)
            _append_to(services, request, partition, outcome, wanted, guard)
        except ClusterError as refused:
            outcome.error = refused.with_traceback(None)
        except StorageError as failure:  # whoever asked may be gone: nobody else would stop the node
            services.verifier.on_fatal(failure)

    assert request.transactional_id is not None
    outcome.verified = services.verifier.ask(outcome.tp, guard, request.transactional_id, producer, is_adding=is_adding)
    outcome.verified.add_done_callback(append)  # before whoever waits for it hears of it


def _append_to(
    services: Services,
    request: ProduceRequest,
    partition: Partition,
    outcome: Outcome,
    wanted: ProducePartition,
    guard: Guard | None = None,
) -> None:
    """Raises ClusterError."""
    assert wanted.records is not None
    clock = services.clock
    appended = partition.append(wanted.records, acks=request.acks, now=clock.now(), wall_ms=clock.wall_ms(), guard=guard)
    if not appended.duplicate:
        services.replicas.on_appended(partition, [appended])
    outcome.produced = ProducedPartition(
        wanted.index,
        base_offset=appended.answered_offset,
        log_append_time_ms=appended.log_append_time_ms,
        log_start_offset=appended.log_start_offset,
    )
    outcome.stored = _stored(services, partition, request.acks, appended.last_offset + 1)


def _is_of_transaction(records: Buffer) -> bool:
    return len(records) > ATTRIBUTES and bool(records[ATTRIBUTES] & TRANSACTIONAL)


def _is_transactional(request: ProduceRequest) -> bool:
    views = (one.records for topic in request.topics for one in topic.partitions if one.records is not None)
    return any(_is_of_transaction(view) for view in views)


def _refuse_transactional(services: Services, _call: Call, topic: ProduceTopic, wanted: ProducePartition) -> Outcome:
    """Of the whole request, as Kafka does: nobody may write to a transaction that he does not name."""
    tp = TopicPartition(_name_of(services, topic) or "", wanted.index)
    code = ErrorCode.transactional_id_authorization_failed
    return Outcome(
        wanted.index, tp, error=ClusterError(code, f"{tp}: a transactional batch in a request without transactional id")
    )


def _has_zstd(request: ProduceRequest) -> bool:
    views = [one.records for topic in request.topics for one in topic.partitions if one.records is not None]
    return any(len(view) > ATTRIBUTES and view[ATTRIBUTES] & COMPRESSION_MASK == Compression.ZSTD for view in views)


def _refuse_zstd(services: Services, _call: Call, topic: ProduceTopic, wanted: ProducePartition) -> Outcome:
    """Of the whole request, as Kafka does: who asks in such versions cannot read what he writes (KIP-110)."""
    tp = TopicPartition(_name_of(services, topic) or "", wanted.index)
    message = f"{tp}: zstd is taken in produce requests from version {ZSTD_FROM} on"
    return Outcome(wanted.index, tp, error=ClusterError(ErrorCode.unsupported_compression_type, message))


def _name_of(services: Services, topic: ProduceTopic) -> str | None:
    return topic.name if topic.name is not None else services.image.topic_names.get(topic.topic_id)


def _check(services: Services, request: ProduceRequest, topic: ProduceTopic, name: str | None, wanted: ProducePartition) -> None:
    if name is None:
        raise ClusterError(ErrorCode.unknown_topic_id, f"there is no topic with id {topic.topic_id}")
    if request.acks not in (ALL, LEADER, NONE):
        raise ClusterError(ErrorCode.invalid_required_acks, f"acks is {request.acks}; allowed are -1 (all), 0 and 1")
    _check_fresh_enough(services, request)
    if is_internal(name):
        raise ClusterError(ErrorCode.invalid_topic_exception, f"{name} is written by its coordinators, and by nobody else")
    if wanted.records is None:
        raise ClusterError(ErrorCode.invalid_record, f"no records for {name}-{wanted.index}")


def _check_fresh_enough(services: Services, request: ProduceRequest) -> None:
    if request.acks != ALL:
        _check_fresh(services)


def _check_fresh(services: Services) -> None:
    """Without acks=all nobody else would stop a deposed leader from saying yes."""
    if not services.session.is_fresh:
        raise ClusterError(ErrorCode.not_leader_or_follower, f"node {services.config.node_id} has lost touch with the controller")


def _stored(services: Services, partition: Partition, acks: int, end_offset: int) -> asyncio.Future[None] | None:
    if acks == ALL and partition.high_watermark < end_offset:
        return services.replicas.committed.reached(partition.tp, end_offset)
    if acks == LEADER and partition.flushed_offset < end_offset:
        return services.replicas.flushed.reached(partition.tp, end_offset)
    return None


async def _answer_when_stored(services: Services, acks: int, timeout_ms: int, topics: list[TopicOutcomes]) -> Body:
    """The request itself is let go of: many may wait here, and each frame may be large."""
    waiting = [outcome for topic in topics for outcome in topic.partitions if outcome.stored is not None]
    # One timer a request: a timeout for each wait would be a third of what an answer costs.
    timeout_s = min(TIMEOUT_MAX_S, max(0.0, timeout_ms / 1000))
    expiry = asyncio.get_running_loop().call_later(timeout_s, _expire, waiting, timeout_ms)
    try:
        for outcome in waiting:
            await _wait_stored(outcome)
    finally:
        expiry.cancel()
        for outcome in waiting:
            _drop(outcome)
    if acks == LEADER:
        _recheck_fresh(services, waiting)
    return _response(services, topics)


def _recheck_fresh(services: Services, outcomes: list[Outcome]) -> None:
    """The sync may have taken a long sleep, in which another was elected."""
    try:
        _check_fresh(services)
    except ClusterError as error:
        for outcome in outcomes:
            outcome.error = outcome.error or error


async def _wait_stored(outcome: Outcome) -> None:
    assert outcome.stored is not None
    try:
        await outcome.stored
    except ClusterError as error:
        outcome.error = error


def _expire(waiting: list[Outcome], timeout_ms: int) -> None:
    for outcome in waiting:
        if outcome.stored is not None and not outcome.stored.done():
            reason = f"{outcome.tp}: stored here, but not acknowledged by all in sync within {timeout_ms} ms"
            outcome.stored.set_exception(ClusterError(ErrorCode.request_timed_out, reason))


def _drop(outcome: Outcome) -> None:
    """Nobody waits for it any more: what comes of it is no error that nobody has seen."""
    if outcome.stored is not None and not outcome.stored.cancel() and not outcome.stored.cancelled():
        outcome.stored.exception()


def _response(services: Services, topics: list[TopicOutcomes]) -> ProduceResponse:
    produced = tuple(
        ProducedTopic(topic.name, topic.topic_id, tuple(_produced(services, outcome) for outcome in topic.partitions))
        for topic in topics
    )
    hints = [one.current_leader for topic in produced for one in topic.partitions if one.current_leader is not None]
    return ProduceResponse(produced, node_endpoints=endpoints_of(services.image, hints) if hints else ())


def _produced(services: Services, outcome: Outcome) -> ProducedPartition:
    if outcome.error is not None:
        code = outcome.error.code
        return ProducedPartition(
            outcome.index,
            error_code=code,
            error_message=outcome.error.message,
            record_errors=outcome.error.record_errors if isinstance(outcome.error, RecordsRefused) else (),
            current_leader=leader_hint(services.image, outcome.tp, code),
        )
    assert outcome.produced is not None
    return outcome.produced


API = Api(
    key=PRODUCE,
    versions=VERSIONS,
    handle=handle_produce,
    decode=decode_produce,
    encode=lambda version, body: (encode_produce_response(version, body),),
)
