# DescribeTopicPartitions, v0
"""Topics and their partitions in pages: a request says where to begin, an answer where the next page does (KIP-966)."""

from typing import Any

from quorumlog.metadata.image import Image, PartitionState, Topic
from quorumlog.metadata.internal_topics import is_internal
from quorumlog.metadata.topics import check_name
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..services import Services
from .authorized_operations import TOPIC_OPERATIONS
from .metadata import describe_partition

PAGE_PARTITIONS_MAX = 2_000


def handle_describe_topic_partitions(services: Services, call: Call) -> Body:
    message, image = call.message, services.image
    cursor = message.cursor
    first_topic, first_partition = ("", 0) if cursor is None else (cursor.topic_name, cursor.partition_index)
    named = {topic.name for topic in message.topics}
    if first_partition < 0 or (named and cursor is not None and first_topic not in named):
        # The schema has no place for an error of the whole request, so each topic has it.
        return {"topics": [_refused(name, ErrorCode.invalid_request) for name in sorted(named)]}
    names = sorted(name for name in (named or image.topics) if name >= first_topic)
    room = max(1, min(PAGE_PARTITIONS_MAX, message.response_partition_limit))
    return _page(image, names, first_partition if cursor is not None and first_topic in names[:1] else 0, room)


def _page(image: Image, names: list[str], first_partition: int, room: int) -> dict[str, Any]:
    topics: list[dict[str, Any]] = []
    for name in names:
        if room == 0:
            return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": 0}}
        topic = image.topics.get(name)
        if topic is None:
            topics.append(_unknown(name))
            continue
        states = [state for number, state in sorted(topic.partitions.items()) if number >= first_partition]
        topics.append(_describe(image, topic, states[:room]))
        if len(states) > room:
            return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": states[room].partition}}
        room -= len(states)
        first_partition = 0
    return {"topics": topics, "next_cursor": None}


def _unknown(name: str) -> dict[str, Any]:
    try:
        check_name(name)
    except ClusterError as error:
        return _refused(name, error.code)
    return _refused(name, ErrorCode.unknown_topic_or_partition)


def _refused(name: str, code: ErrorCode) -> dict[str, Any]:
    return {"error_code": code, "name": name, "topic_id": NO_TOPIC_ID, "partitions": []}


def _describe(image: Image, topic: Topic, states: list[PartitionState]) -> dict[str, Any]:
    return {
        "error_code": ErrorCode.none,
        "name": topic.name,
        "topic_id": topic.topic_id,
        "is_internal": is_internal(topic.name),
        "topic_authorized_operations": TOPIC_OPERATIONS,
        "partitions": [
            describe_partition(image, state) | {"eligible_leader_replicas": state.elr, "last_known_elr": ()} for state in states
        ],
    }


API = Api(key=75, versions=range(1), handle=handle_describe_topic_partitions)
