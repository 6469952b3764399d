# OffsetForLeaderEpoch, v2 to v4
# v2: current leader epoch    v3: replica id    v4: flexible
"""Tells a consumer where an epoch ended, so that it notices records that it read from a deposed leader (KIP-320)."""

from typing import Any

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_offset_for_leader_epoch(services: Services, call: Call) -> Body:
    topics = [
        {"topic": topic.topic, "partitions": [_answer(services, topic.topic, wanted) for wanted in topic.partitions]}
        for topic in call.message.topics
    ]
    return {"topics": topics}


def _answer(services: Services, topic: str, wanted: Any) -> dict[str, Any]:
    tp = TopicPartition(topic, wanted.partition)
    try:
        partition = services.replicas.get(tp, services.image)
        epoch, end_offset = partition.offset_for_leader_epoch(wanted.leader_epoch, wanted.current_leader_epoch)
    except ClusterError as error:
        return {"partition": tp.partition, "error_code": error.code, "leader_epoch": -1, "end_offset": -1}
    return {"partition": tp.partition, "error_code": ErrorCode.none, "leader_epoch": epoch, "end_offset": end_offset}


API = Api(key=23, versions=range(2, 5), handle=handle_offset_for_leader_epoch)
