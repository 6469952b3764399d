# Metadata, v0 to v13
# v0: an empty list asks for all topics    v1: null does    v4: allow auto creation    v5: offline replicas    v7: leader epochs
# v8: authorized operations    v9: flexible    v10: topic ids    v12: lookup by topic id    v13: top-level error code
"""Tells a client who is in the cluster and who leads what. Creates unknown topics where that is allowed."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from quorumlog.metadata.broker_config import broker_value
from quorumlog.metadata.image import NO_LEADER, Image, PartitionState, Topic
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, is_internal
from quorumlog.metadata.requests import NewTopic
from quorumlog.metadata.topics import check_name
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..group_coordinator import new_offsets_topic
from ..services import Services
from ..transaction_coordinator import new_transactions_topic
from .authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS

OPERATIONS_FROM = 8
WITHOUT_IDS = (10, 11)  # have the field already, but nothing may be in it
NOTICE_S = 0.025  # a death is noticed by all within this time


def handle_metadata(services: Services, call: Call) -> Body | Awaitable[Body]:
    # Who asks for certain topics has most often lost a leader, and may know of it before we do.
    if services.suspects.any or call.message.topics:
        return _answer_with_news(services, call)
    return _answer(services, call)


async def _answer_with_news(services: Services, call: Call) -> Body:
    """Answer a moment later, with the new leaders if a node has just died: told of the dead one again, the client would come
    back only after its back-off, which grows to a second."""
    await asyncio.sleep(NOTICE_S)
    await services.suspects.news()
    return _answer(services, call)


def _answer(services: Services, call: Call) -> Body:
    wanted = call.message.topics
    if wanted is None or (call.version == 0 and not wanted):
        topics = [_describe(services.image, topic) for _, topic in sorted(services.image.topics.items())]
        return _response(services, call, topics)
    # Each once, as Kafka answers: an answer may take a thousand times the bytes of a question.
    wanted = list({(topic.name, topic.topic_id): topic for topic in wanted}.values())
    if call.version in WITHOUT_IDS and any(topic.name is None or topic.topic_id != NO_TOPIC_ID for topic in wanted):
        return _response(services, call, [_refused(topic) for topic in wanted])
    missing = [topic.name for topic in wanted if topic.name is not None and _is_missing(services.image, topic.name)]
    if missing and _may_create(services, call):
        # They are unknown in this answer, as in Kafka's: who asks whether a topic is gone, or never was, is told so at once,
        # though the question creates it.
        services.first_uses.create(_new_topic(services, name) for name in missing)
    return _response(services, call, [_find(services.image, topic) for topic in wanted])


def _refused(wanted: Any) -> dict[str, Any]:
    """Kafka's answer to each topic of a request that uses ids before they may be; a name may not be null in it."""
    return {"error_code": ErrorCode.invalid_request, "name": wanted.name or "", "topic_id": wanted.topic_id, "partitions": []}


def _may_create(services: Services, call: Call) -> bool:
    allowed = call.version < 4 or call.message.allow_auto_topic_creation
    config = services.config
    return allowed and broker_value(services.image, "auto.create.topics.enable", config.broker_defaults, config.node_id) == "true"


def _new_topic(services: Services, name: str) -> NewTopic:
    """Coordinators' topics are made as they need them, whoever asks first."""
    if name == TRANSACTIONS_TOPIC:
        return new_transactions_topic(services.config)
    return new_offsets_topic(services.config) if name == OFFSETS_TOPIC else NewTopic(name)


def _find(image: Image, wanted: Any) -> dict[str, Any]:
    name = wanted.name
    if name is None:
        name = image.topic_names.get(wanted.topic_id)
        if name is None:
            return {"error_code": ErrorCode.unknown_topic_id, "name": None, "topic_id": wanted.topic_id, "partitions": []}
    topic = image.topics.get(name)
    if topic is not None:
        return _describe(image, topic)
    code = _name_error(name) or ErrorCode.unknown_topic_or_partition
    return {"error_code": code, "name": name, "topic_id": NO_TOPIC_ID, "partitions": []}


def _is_missing(image: Image, name: str) -> bool:
    """It is no topic, and could be one."""
    return name not in image.topics and _name_error(name) is None


def _name_error(name: str) -> ErrorCode | None:
    try:
        check_name(name)
    except ClusterError as error:
        return error.code
    return None


def _describe(image: Image, topic: Topic) -> dict[str, Any]:
    partitions = [describe_partition(image, state) for _, state in sorted(topic.partitions.items())]
    return {
        "error_code": ErrorCode.none,
        "name": topic.name,
        "topic_id": topic.topic_id,
        "is_internal": is_internal(topic.name),
        "partitions": partitions,
    }


def describe_partition(image: Image, state: PartitionState) -> dict[str, Any]:
    return {
        "error_code": ErrorCode.leader_not_available if state.leader == NO_LEADER else ErrorCode.none,
        "partition_index": state.partition,
        "leader_id": state.leader,
        "leader_epoch": state.leader_epoch,
        "replica_nodes": state.replicas,
        "isr_nodes": state.isr,
        "offline_replicas": [node for node in state.replicas if not image.is_live(node)],
    }


def _response(services: Services, call: Call, topics: list[dict[str, Any]]) -> Body:
    image = services.image
    if call.version >= OPERATIONS_FROM and call.message.include_topic_authorized_operations:
        topics = [topic | {"topic_authorized_operations": TOPIC_OPERATIONS} for topic in topics]
    # From version 11 on, DescribeCluster tells this, and the field is gone.
    of_cluster = call.version in range(OPERATIONS_FROM, 11) and call.message.include_cluster_authorized_operations
    live = [broker for _, broker in sorted(image.brokers.items()) if not broker.fenced]
    leader = services.cluster.leader
    return {
        "brokers": [{"node_id": b.node_id, "host": b.kafka.host, "port": b.kafka.port, "rack": b.rack} for b in live],
        "cluster_id": image.cluster_id,
        # Any broker forwards to the controller; the one that is the controller saves a step.
        "controller_id": leader if leader is not None and image.is_live(leader) else services.config.node_id,
        "cluster_authorized_operations": CLUSTER_OPERATIONS if of_cluster else NOT_ASKED,
        "topics": topics,
    }


API = Api(key=3, versions=range(14), handle=handle_metadata)
