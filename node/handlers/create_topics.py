# CreateTopics, v2 to v7
# v4: defaults for partitions and replicas    v5: flexible, answers with the topic's settings    v7: topic ids
"""Creates topics, through the controller."""

from dataclasses import replace
from typing import Any

from immutables import Map

from quorumlog.metadata.requests import ConfigEntry, CreatedTopic, CreateTopics, CreateTopicsReply, NewTopic, PartitionAssignment
from quorumlog.metadata.topic_config import describe_topic_config
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_count
from .timeouts import request_timeout_s


async def handle_create_topics(services: Services, call: Call) -> Body:
    request = CreateTopics(tuple(_new_topic(topic) for topic in call.message.topics), validate_only=call.message.validate_only)
    try:
        check_count(request.topics, "topics")
        reply = await services.controller.request(request, timeout_s=request_timeout_s(call))
    except ClusterError as error:
        refused = {"error_code": error.code, "error_message": error.message, "configs": []}
        return {"topics": [{"name": topic.name} | refused for topic in request.topics]}
    assert isinstance(reply, CreateTopicsReply)
    configs = {topic.name: {entry.key: entry.value or "" for entry in topic.configs} for topic in request.topics}
    return {"topics": [_describe(services, topic, configs[topic.name]) for topic in reply.topics]}


def _new_topic(topic: Any) -> NewTopic:
    assignments = tuple(PartitionAssignment(one.partition_index, tuple(one.broker_ids)) for one in topic.assignments)
    return NewTopic(
        name=topic.name,
        num_partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=assignments or None,
        configs=tuple(ConfigEntry(config.name, config.value) for config in topic.configs),
    )


def _describe(services: Services, topic: CreatedTopic, configs: dict[str, str]) -> dict[str, Any]:
    """With its settings, also of one that was only validated."""
    answer: dict[str, Any] = {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "error_code": topic.error_code,
        "error_message": topic.error_message,
        "num_partitions": topic.num_partitions,
        "replication_factor": topic.replication_factor,
        "configs": [],
    }
    if topic.error_code is ErrorCode.none:
        image = replace(services.image, topic_configs=Map({topic.name: Map(configs)}))
        answer["configs"] = [
            {
                "name": entry.name,
                "value": entry.value,
                "read_only": entry.read_only,
                "config_source": entry.source,
                "is_sensitive": entry.sensitive,
            }
            for entry in describe_topic_config(image, topic.name, services.config.broker_defaults)
        ]
    return answer


API = Api(key=19, versions=range(2, 8), handle=handle_create_topics)
