# DeleteRecords, v0 to v2
# v2: flexible
"""Moves the start of a log forward: what lies before is gone for readers at once, and from the disks with its segments."""

from typing import Any

from quorumlog.metadata.internal_topics import is_internal
from quorumlog.metadata.topic_config import CLEANUP_POLICY, TOPIC_SETTINGS, topic_value
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_delete_records(services: Services, call: Call) -> Body:
    topics = [
        {"name": topic.name, "partitions": [_delete(services, topic.name, wanted) for wanted in topic.partitions]}
        for topic in call.message.topics
    ]
    return {"topics": topics}


def _delete(services: Services, topic: str, wanted: Any) -> dict[str, Any]:
    tp = TopicPartition(topic, wanted.partition_index)
    try:
        if is_internal(topic):
            raise ClusterError(ErrorCode.invalid_topic_exception, f"{topic} is its coordinators' alone")
        partition = services.replicas.get(tp, services.image)
        partition.check_leads()
        _check_policy(services, tp)
        low_watermark = partition.delete_records(wanted.offset)
    except ClusterError as error:
        return {"partition_index": tp.partition, "low_watermark": -1, "error_code": error.code}
    services.replicas.on_log_start(partition)
    return {"partition_index": tp.partition, "low_watermark": low_watermark, "error_code": ErrorCode.none}


def _check_policy(services: Services, tp: TopicPartition) -> None:
    """As Kafka does: what is only compacted keeps the last of each key, and so is not cut off either."""
    if topic_value(TOPIC_SETTINGS[CLEANUP_POLICY], services.image, tp.topic, services.config.broker_defaults) == "compact":
        raise ClusterError(ErrorCode.policy_violation, f"{tp}: {CLEANUP_POLICY} is compact, without delete")


API = Api(key=21, versions=range(3), handle=handle_delete_records)
