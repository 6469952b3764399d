# AlterPartitionReassignments, v0 to v1
# v1: a change of the number of replicas can be forbidden (KIP-860)
"""Begins to move partitions to other brokers, or takes that back, through the controller (KIP-455)."""

from itertools import groupby
from typing import Any

from quorumlog.metadata.requests import AlterReassignments, AlterReassignmentsReply, Reassignment, ReassignmentResult
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_partition_count
from .timeouts import request_timeout_s


async def handle_alter_partition_reassignments(services: Services, call: Call) -> Body:
    may_change = call.version < 1 or call.message.allow_replication_factor_change
    top = {"allow_replication_factor_change": may_change, "error_code": ErrorCode.none, "error_message": None}
    try:
        check_partition_count(topic.partitions for topic in call.message.topics)
        request = AlterReassignments(_wanted(call.message.topics), allow_replication_factor_change=may_change)
        reply = await services.controller.request(request, timeout_s=request_timeout_s(call))
    except ClusterError as error:
        refused = {"error_code": error.code, "error_message": error.message}
        return top | refused | {"responses": _refused(call.message.topics, refused)}
    assert isinstance(reply, AlterReassignmentsReply)
    return top | {"responses": _responses(reply.partitions)}


def _wanted(topics: Any) -> tuple[Reassignment, ...]:
    return tuple(
        Reassignment(topic.name, one.partition_index, None if one.replicas is None else tuple(one.replicas))
        for topic in topics
        for one in topic.partitions
    )


def _responses(results: tuple[ReassignmentResult, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": topic,
            "partitions": [
                {"partition_index": one.partition, "error_code": one.error_code, "error_message": one.error_message}
                for one in group
            ],
        }
        for topic, group in groupby(results, key=lambda one: one.topic)
    ]


def _refused(topics: Any, refused: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": topic.name, "partitions": [{"partition_index": one.partition_index} | refused for one in topic.partitions]}
        for topic in topics
    ]


API = Api(key=45, versions=range(2), handle=handle_alter_partition_reassignments)
