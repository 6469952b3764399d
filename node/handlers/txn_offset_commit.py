# TxnOffsetCommit, v0 to v5
# v2: leader epochs    v3: flexible, the member that commits    v4: TRANSACTION_ABORTABLE    v5: takes part by itself (KIP-890)
"""Stores how far a group has read as part of a transaction: it counts when that commits."""

from quorumlog.coordinators.results import Result, Waiter, Writer
from quorumlog.coordinators.shard import GroupShard
from quorumlog.coordinators.transaction_state import Producer
from quorumlog.partitions.verification import Guard
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from ..transaction_verifier import refusal
from .group_requests import check_group_id, request_of
from .transaction_requests import producer_of

LOADING_VERSION, ABORTABLE_VERSION, ADDING_VERSION = 2, 4, 5


async def handle_txn_offset_commit(services: Services, call: Call) -> Body:
    message, producer = call.message, producer_of(call.message)

    def commit(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.commit_in_transaction(request_of(call, waiter), writer, services.clock.wall_ms())

    try:
        check_group_id(message.group_id)
        guard = await _verified(services, call, producer)
        writer = Writer(producer.producer_id, producer.epoch, guard)
        outcome = await services.groups.ask_in_transaction(message.group_id, writer, commit)
    except ClusterError as error:
        outcome = error
    return _refused(call, outcome.code) if isinstance(outcome, ClusterError) else outcome


async def _verified(services: Services, call: Call, producer: Producer) -> Guard | None:
    """Ask the transaction's coordinator, unless this partition takes part in it already. Raises ClusterError."""
    led = services.groups.led_by_us(call.message.group_id)
    led.look()
    guard = led.partition.guard_for(*producer)
    if guard is None:
        return None
    tp, is_adding = led.partition.tp, call.version >= ADDING_VERSION
    code = await services.verifier.ask(tp, guard, call.message.transactional_id, producer, is_adding=is_adding)
    error = refusal(code, tp, knows_abortable=call.version >= ABORTABLE_VERSION, knows_concurrent=is_adding)
    if error is not None:
        raise error
    return guard


def _refused(call: Call, code: ErrorCode) -> Body:
    if code is ErrorCode.not_enough_replicas:  # of what passes: tried again without looking for the coordinator (as Kafka does)
        code = ErrorCode.coordinator_load_in_progress
    if code is ErrorCode.coordinator_load_in_progress and call.version < LOADING_VERSION:
        code = ErrorCode.coordinator_not_available  # KAFKA-7296: producers of old fall over the other one
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [{"partition_index": one.partition_index, "error_code": code} for one in topic.partitions],
            }
            for topic in call.message.topics
        ]
    }


API = Api(key=28, versions=range(6), handle=handle_txn_offset_commit)
