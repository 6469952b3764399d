# DeleteTopics, v1 to v6
# v4: flexible    v5: error messages    v6: by name or by id
"""Deletes topics, through the controller."""

from collections import Counter
from typing import Any
from uuid import UUID

from quorumlog.metadata.requests import DeleteTopics, DeleteTopicsReply, TopicReference
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_count
from .timeouts import request_timeout_s


async def handle_delete_topics(services: Services, call: Call) -> Body:
    named = Counter(_named(call))
    meant = Counter(_meant(services, name, topic_id) for name, topic_id in named)
    wanted, responses = [], []
    for (name, topic_id), times in named.items():
        try:
            _check(name, topic_id, times, meant[_meant(services, name, topic_id)])
            wanted.append(TopicReference(name=name, topic_id=topic_id if name is None else None))
        except ClusterError as error:
            responses.append(_response(name, topic_id, error.code, error.message))
    return {"responses": [*responses, *await _delete(services, tuple(wanted), request_timeout_s(call))]}


async def _delete(services: Services, wanted: tuple[TopicReference, ...], timeout_s: float) -> list[dict[str, Any]]:
    if not wanted:
        return []
    try:
        check_count(wanted, "topics")
        reply = await services.controller.request(DeleteTopics(wanted), timeout_s=timeout_s)
    except ClusterError as error:
        return [_response(one.name, one.topic_id, error.code, error.message) for one in wanted]
    assert isinstance(reply, DeleteTopicsReply)
    return [_response(one.name, one.topic_id, one.error_code, one.error_message) for one in reply.topics]


def _named(call: Call) -> list[tuple[str | None, UUID]]:
    if call.version < 6:
        return [(name, NO_TOPIC_ID) for name in call.message.topic_names]
    return [(topic.name, topic.topic_id) for topic in call.message.topics]


def _meant(services: Services, name: str | None, topic_id: UUID) -> str | UUID:
    """The topic's name, if the id is a topic's."""
    return name if name is not None else services.image.topic_names.get(topic_id, topic_id)


def _check(name: str | None, topic_id: UUID, times_named: int, ways_named: int) -> None:
    """A deletion that may be a slip is refused, as Kafka does. Raises INVALID_REQUEST."""
    if name is None and topic_id == NO_TOPIC_ID:
        raise ClusterError(ErrorCode.invalid_request, "a topic with neither name nor id")
    if name is not None and topic_id != NO_TOPIC_ID:
        raise ClusterError(
            ErrorCode.invalid_request, f"topic {name[:249]!r} with the id {topic_id}; only one of the two is taken"
        )
    if times_named > 1 or ways_named > 1:
        raise ClusterError(ErrorCode.invalid_request, f"topic {name[:249] if name is not None else topic_id!s} is named twice")


def _response(name: str | None, topic_id: UUID | None, code: ErrorCode, message: str | None) -> dict[str, Any]:
    return {"name": name, "topic_id": topic_id or NO_TOPIC_ID, "error_code": code, "error_message": message}


API = Api(key=20, versions=range(1, 7), handle=handle_delete_topics)
