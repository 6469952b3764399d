# ElectLeaders, v0 to v2
# v1: unclean elections, a code for the whole    v2: flexible
"""Gives leadership to the preferred replicas, or to whoever lives (KIP-460), through the controller."""

from itertools import groupby
from typing import Any

from quorumlog.metadata.requests import ElectionResult, ElectLeaders, ElectLeadersReply, TopicPartitions
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_partition_count
from .timeouts import request_timeout_s

PREFERRED, UNCLEAN = 0, 1


async def handle_elect_leaders(services: Services, call: Call) -> Body:
    named = call.message.topic_partitions
    topics = None if named is None else tuple(TopicPartitions(topic.topic, tuple(topic.partitions)) for topic in named)
    try:
        request = ElectLeaders(preferred=_election_type(call) == PREFERRED, partitions=topics)
        check_partition_count(topic.partitions for topic in topics or ())
        reply = await services.controller.request(request, timeout_s=request_timeout_s(call))
    except ClusterError as error:
        return {"error_code": error.code, "replica_election_results": _refused(topics or (), error)}
    assert isinstance(reply, ElectLeadersReply)
    return {"error_code": ErrorCode.none, "replica_election_results": _results(reply.partitions)}


def _election_type(call: Call) -> int:
    """Raises INVALID_REQUEST."""
    kind: int = call.message.election_type if call.version >= 1 else PREFERRED
    if kind not in (PREFERRED, UNCLEAN):
        raise ClusterError(ErrorCode.invalid_request, f"election type {kind}; allowed are {PREFERRED} and {UNCLEAN}")
    return kind


def _refused(topics: tuple[TopicPartitions, ...], error: ClusterError) -> list[dict[str, Any]]:
    """Kafka says it of each partition as well: v0 has no code for the whole."""
    return _results(
        tuple(ElectionResult(one.topic, partition, error.code, error.message) for one in topics for partition in one.partitions)
    )


def _results(results: tuple[ElectionResult, ...]) -> list[dict[str, Any]]:
    return [
        {
            "topic": topic,
            "partition_result": [
                {"partition_id": one.partition, "error_code": one.error_code, "error_message": one.error_message} for one in group
            ],
        }
        for topic, group in groupby(results, key=lambda one: one.topic)
    ]


API = Api(key=43, versions=range(3), handle=handle_elect_leaders)
