# DescribeProducers, v0
"""Tells which producers write to partitions, and how far each has come (KIP-664)."""

from typing import Any

from quorumlog.metadata.topics import check_name
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.producers import ProducerState
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services

UNKNOWN = -1


def handle_describe_producers(services: Services, call: Call) -> Body:
    # Each once: an answer may be far longer than the question.
    named = {topic.name: dict.fromkeys(topic.partition_indexes) for topic in call.message.topics}
    return {
        "topics": [
            {"name": name, "partitions": [_answer(services, TopicPartition(name, index)) for index in indexes]}
            for name, indexes in named.items()
        ]
    }


def _answer(services: Services, tp: TopicPartition) -> dict[str, Any]:
    try:
        check_name(tp.topic)
        partition = services.replicas.get(tp, services.image)
    except ClusterError as error:
        return {"partition_index": tp.partition, "error_code": error.code, "error_message": error.message, "active_producers": []}
    return {
        "partition_index": tp.partition,
        "error_code": ErrorCode.none,
        "active_producers": [_describe(partition, producer_id, state) for producer_id, state in partition.known_producers()],
    }


def _describe(partition: Partition, producer_id: int, state: ProducerState) -> dict[str, Any]:
    start = partition.transaction_start(producer_id)
    return {
        "producer_id": producer_id,
        "producer_epoch": state.epoch,
        "last_sequence": state.last_sequence,
        "last_timestamp": state.last_heard_ms,
        "coordinator_epoch": state.coordinator_epoch,
        "current_txn_start_offset": UNKNOWN if start is None else start,
    }


API = Api(key=61, versions=range(1), handle=handle_describe_producers)
