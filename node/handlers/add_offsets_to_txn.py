# AddOffsetsToTxn, v0 to v4
# v2: PRODUCER_FENCED    v3: flexible    v4: TRANSACTION_ABORTABLE
"""Lets the partition in which a group's offsets are take part in a transaction."""

from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services
from .transaction_requests import FENCED_VERSION, check_transactional_id, code_for, code_of, producer_of


async def handle_add_offsets_to_txn(services: Services, call: Call) -> Body:
    message, knows_fenced = call.message, call.version >= FENCED_VERSION
    try:
        check_transactional_id(message.transactional_id)
        place = await _place_of(services, message.group_id)
    except ClusterError as error:
        return {"error_code": code_for(error.code, knows_fenced=knows_fenced)}
    outcome = await services.transactions.add_partitions(message.transactional_id, producer_of(message), [place])
    return {"error_code": code_of(outcome, knows_fenced=knows_fenced)}


async def _place_of(services: Services, group_id: str) -> TopicPartition:
    """Creates the topic of offsets where there is none yet. Raises COORDINATOR_NOT_AVAILABLE if that cannot be done now."""
    index = services.groups.partition_of(group_id)
    if index is None:
        await services.groups.find(group_id)
        index = services.groups.partition_of(group_id)
    if index is None:
        raise ClusterError(ErrorCode.coordinator_not_available, f"there is no {OFFSETS_TOPIC} yet")
    return TopicPartition(OFFSETS_TOPIC, index)


API = Api(key=25, versions=range(5), handle=handle_add_offsets_to_txn)
