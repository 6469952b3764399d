# ListPartitionReassignments, v0
"""Tells which partitions are being moved, from the image of this node (KIP-455)."""

from collections.abc import Iterable
from typing import Any

from quorumlog.metadata.image import PartitionState
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_list_partition_reassignments(services: Services, call: Call) -> Body:
    topics, asked = services.image.topics, call.message.topics
    if asked is None:
        listed = ((name, [state for _, state in sorted(topic.partitions.items())]) for name, topic in sorted(topics.items()))
    else:
        listed = (
            (one.name, [held.partitions[index] for index in one.partition_indexes if index in held.partitions])
            for one in asked
            if (held := topics.get(one.name)) is not None
        )
    return {"error_code": ErrorCode.none, "error_message": None, "topics": _moving(listed)}


def _moving(topics: Iterable[tuple[str, list[PartitionState]]]) -> list[dict[str, Any]]:
    """Topics without a partition that moves are left out, as Kafka does."""
    described = ({"name": name, "partitions": [_describe(one) for one in states if one.is_moving]} for name, states in topics)
    return [topic for topic in described if topic["partitions"]]


def _describe(state: PartitionState) -> dict[str, Any]:
    return {
        "partition_index": state.partition,
        "replicas": state.replicas,
        "adding_replicas": state.adding,
        "removing_replicas": state.removing,
    }


API = Api(key=46, versions=range(1), handle=handle_list_partition_reassignments)
