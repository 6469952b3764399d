# DeleteTopics, v1 to v6
# v4: flexible    v5: error messages    v6: by name or by id
"""Deletes topics, through the controller."""

from quorumlog.metadata.requests import DeleteTopics, DeleteTopicsReply, TopicReference
from quorumlog.wire.errors import ClusterError
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..services import Services
from .timeouts import request_timeout_s


async def handle_delete_topics(services: Services, call: Call) -> Body:
    wanted = _wanted(call)
    try:
        reply = await services.controller.request(DeleteTopics(wanted), timeout_s=request_timeout_s(call))
    except ClusterError as error:
        refused = {"error_code": error.code, "error_message": error.message}
        return {"responses": [{"name": one.name, "topic_id": one.topic_id or NO_TOPIC_ID} | refused for one in wanted]}
    assert isinstance(reply, DeleteTopicsReply)
    return {
        "responses": [
            {
                "name": topic.name,
                "topic_id": topic.topic_id or NO_TOPIC_ID,
                "error_code": topic.error_code,
                "error_message": topic.error_message,
            }
            for topic in reply.topics
        ]
    }


def _wanted(call: Call) -> tuple[TopicReference, ...]:
    if call.version < 6:
        return tuple(TopicReference(name=name) for name in call.message.topic_names)
    return tuple(
        TopicReference(name=topic.name, topic_id=None if topic.name is not None else topic.topic_id)
        for topic in call.message.topics
    )


API = Api(key=20, versions=range(1, 7), handle=handle_delete_topics)
