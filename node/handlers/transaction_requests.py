"""What the handlers of transaction APIs share."""

from collections.abc import Iterable
from typing import Any

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..group_coordinator_replies import Outcome

FENCED_VERSION = 2  # of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn: clients know PRODUCER_FENCED


def producer_of(message: Any) -> Producer:
    return Producer(message.producer_id, message.producer_epoch)


def code_for(code: ErrorCode, *, knows_fenced: bool) -> ErrorCode:
    """As the client's version understands it."""
    return ErrorCode.invalid_producer_epoch if code is ErrorCode.producer_fenced and not knows_fenced else code


def code_of(outcome: Outcome, *, knows_fenced: bool) -> ErrorCode:
    code = outcome.code if isinstance(outcome, ClusterError) else outcome["error_code"]
    return code_for(code, knows_fenced=knows_fenced)


def places_of(topics: Iterable[Any]) -> list[TopicPartition]:
    """Each partition that is named, once, in the order of the request."""
    return list(dict.fromkeys(TopicPartition(topic.name, index) for topic in topics for index in topic.partitions))


def check_transactional_id(transactional_id: str) -> None:
    if not transactional_id:
        raise ClusterError(ErrorCode.invalid_request, "the transactional id is empty")
