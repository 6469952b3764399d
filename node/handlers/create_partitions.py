# CreatePartitions, v0 to v3
# v2: flexible
"""Gives topics more partitions, through the controller."""

from typing import Any

from quorumlog.metadata.requests import CreatePartitions, CreatePartitionsReply, NewPartitions
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_count
from .timeouts import request_timeout_s


async def handle_create_partitions(services: Services, call: Call) -> Body:
    request = CreatePartitions(
        tuple(_new_partitions(topic) for topic in call.message.topics), validate_only=call.message.validate_only
    )
    try:
        check_count(request.topics, "topics")
        reply = await services.controller.request(request, timeout_s=request_timeout_s(call))
    except ClusterError as error:
        refused = {"error_code": error.code, "error_message": error.message}
        return {"results": [{"name": topic.name} | refused for topic in request.topics]}
    assert isinstance(reply, CreatePartitionsReply)
    return {
        "results": [
            {"name": result.name, "error_code": result.error_code, "error_message": result.error_message}
            for result in reply.topics
        ]
    }


def _new_partitions(topic: Any) -> NewPartitions:
    assignments = topic.assignments
    replicas = None if assignments is None else tuple(tuple(one.broker_ids) for one in assignments)
    return NewPartitions(name=topic.name, count=topic.count, assignments=replicas)


API = Api(key=37, versions=range(4), handle=handle_create_partitions)
