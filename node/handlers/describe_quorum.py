# DescribeQuorum, v0 to v2
# v1: when a voter was heard and had caught up    v2: error messages, the nodes' addresses
"""Tells how the metadata quorum stands, as its leader sees it. It is shown as Kafka's: one partition of one topic."""

from typing import Any

from quorumlog.metadata.image import Broker
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..quorum_view import QuorumState, VoterState
from ..services import Services

TOPIC, PARTITION = "__cluster_metadata", 0
TIMEOUT_S = 5.0
UNKNOWN = -1


async def handle_describe_quorum(services: Services, call: Call) -> Body:
    topics = call.message.topics
    if [(topic.topic_name, [one.partition_index for one in topic.partitions]) for topic in topics] != [(TOPIC, [PARTITION])]:
        return {"topics": [_unknown(topic) for topic in topics]}
    try:
        state = await services.quorum.state(timeout_s=TIMEOUT_S)
    except ClusterError as error:
        return {"error_code": error.code, "error_message": error.message}
    return {"topics": [{"topic_name": TOPIC, "partitions": [_describe(services, state)]}], "nodes": _nodes(services, state)}


def _unknown(topic: Any) -> dict[str, Any]:
    message = f"the quorum is described as partition {PARTITION} of {TOPIC}"
    refused = {"error_code": ErrorCode.unknown_topic_or_partition, "error_message": message}
    return {
        "topic_name": topic.topic_name,
        "partitions": [{"partition_index": one.partition_index} | refused for one in topic.partitions],
    }


def _describe(services: Services, state: QuorumState) -> dict[str, Any]:
    end = max(voter.last_index for voter in state.voters)
    voters = {voter.node_id for voter in state.voters}
    now_ms = services.clock.wall_ms()
    brokers = services.image.brokers
    observers = [VoterState(node, 0) for node in sorted(brokers) if node not in voters]
    return {
        "partition_index": PARTITION,
        "leader_id": state.leader,
        "leader_epoch": state.term,
        "high_watermark": state.commit_index + 1,
        "current_voters": [_replica(voter, brokers.get(voter.node_id), end, now_ms) for voter in state.voters],
        "observers": [_replica(observer, brokers.get(observer.node_id), end, now_ms) for observer in observers],
    }


def _replica(replica: VoterState, broker: Broker | None, end: int, now_ms: int) -> dict[str, Any]:
    """The log's end is the offset after its last entry. Of observers, to whom any voter sends, nobody keeps where they are."""
    return {
        "replica_id": replica.node_id,
        "replica_directory_id": NO_TOPIC_ID if broker is None else broker.storage_id,
        "log_end_offset": replica.last_index + 1 if replica.last_index else UNKNOWN,
        "last_fetch_timestamp": UNKNOWN,
        "last_caught_up_timestamp": now_ms if replica.last_index == end else UNKNOWN,
    }


def _nodes(services: Services, state: QuorumState) -> list[dict[str, Any]]:
    addresses = services.config.voter_addresses
    known = [(voter.node_id, addresses[voter.node_id]) for voter in state.voters if voter.node_id in addresses]
    return [
        {"node_id": node, "listeners": [{"name": "CONTROLLER", "host": address.host, "port": address.port}]}
        for node, address in known
    ]


API = Api(key=55, versions=range(3), handle=handle_describe_quorum)
