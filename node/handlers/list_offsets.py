# ListOffsets, v1 to v11
# v2: isolation level    v4: leader epochs    v6: flexible    v7: max timestamp (-3)    v8: earliest local (-4)
# v9: latest tiered (-5)    v10: timeout    v11: earliest pending upload (-6)
"""Finds offsets by time: the earliest, the latest, the one of a timestamp, the one with the greatest timestamp."""

from collections import Counter
from typing import Any

from quorumlog.partitions.partition import Partition, Role
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING = -1, -2, -3, -4, -5, -6
MEANT_FROM = {LATEST: 1, EARLIEST: 1, MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING: 11}
NEVER = 1 << 15
NEEDING_THE_END = (LATEST, MAX_TIMESTAMP)
UNKNOWN = -1
READ_COMMITTED = 1


def handle_list_offsets(services: Services, call: Call) -> Body:
    named = Counter((topic.name, wanted.partition_index) for topic in call.message.topics for wanted in topic.partitions)
    topics = [
        {
            "name": topic.name,
            "partitions": [
                _answer(services, call, topic.name, wanted, named[topic.name, wanted.partition_index])
                for wanted in topic.partitions
            ],
        }
        for topic in call.message.topics
    ]
    return {"topics": topics}


def _answer(services: Services, call: Call, topic: str, wanted: Any, times_named: int) -> dict[str, Any]:
    tp = TopicPartition(topic, wanted.partition_index)
    answer = {
        "partition_index": tp.partition,
        "error_code": ErrorCode.none,
        "timestamp": UNKNOWN,
        "offset": UNKNOWN,
        "leader_epoch": -1,
    }
    try:
        if times_named > 1:  # as Kafka does; a search by time may read and decompress, once a request is enough
            raise ClusterError(ErrorCode.invalid_request, f"{tp} is named {times_named} times")
        if wanted.timestamp < 0 and call.version < MEANT_FROM.get(wanted.timestamp, NEVER):
            raise ClusterError(
                ErrorCode.unsupported_version, f"timestamp {wanted.timestamp} has no meaning in version {call.version}"
            )
        partition = services.replicas.get(tp, services.image)
        partition.check_leads(wanted.current_leader_epoch)
        found = _find(partition, wanted.timestamp, call.message.isolation_level == READ_COMMITTED)
        if not partition.knows_committed and (wanted.timestamp in NEEDING_THE_END or (wanted.timestamp >= 0 and not found)):
            # Else a reader that begins at the end would begin before what others have read already (KIP-207).
            code = ErrorCode.offset_not_available if call.version >= 5 else ErrorCode.leader_not_available
            raise ClusterError(code, f"{tp}: its new leader does not know yet how far it is committed")
        return answer | found
    except ClusterError as error:
        return answer | {"error_code": error.code}


def _find(partition: Partition, timestamp: int, committed_only: bool) -> dict[str, Any]:
    assert partition.role is Role.LEADER, partition.role
    if timestamp == LATEST:
        offset = partition.last_stable_offset if committed_only else partition.high_watermark
        return {"offset": offset, "leader_epoch": partition.leader_epoch}
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        offset = partition.log_start_offset
        return {"offset": offset, "leader_epoch": partition.epoch_at(offset)}
    if timestamp == MAX_TIMESTAMP:
        found_timestamp, offset = partition.max_timestamp(isolation_committed=committed_only)
        found_epoch = partition.epoch_at(offset) if offset >= 0 else UNKNOWN
        return {"timestamp": found_timestamp, "offset": offset, "leader_epoch": found_epoch}
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING):  # nothing is tiered
        return {}
    found = partition.offset_for_timestamp(timestamp, isolation_committed=committed_only)
    if found is None:
        return {}
    offset, found_timestamp, found_epoch = found
    return {"timestamp": found_timestamp, "offset": offset, "leader_epoch": found_epoch}


API = Api(key=2, versions=range(1, 12), handle=handle_list_offsets)
