# DescribeConfigs, v1 to v4
# v1: sources and synonyms    v3: types and documentation    v4: flexible
"""Tells what the settings of topics, brokers and groups are, where each value comes from, and what it means."""

from typing import Any

from quorumlog.metadata.broker_config import describe_broker_config
from quorumlog.metadata.group_config import describe_group_config
from quorumlog.metadata.settings import ConfigDescription
from quorumlog.metadata.topic_config import describe_topic_config
from quorumlog.metadata.topics import check_name
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .compaction_state import NAME as COMPACTION_STATE
from .compaction_state import compaction_state
from .config_resources import BROKER, GROUP, TOPIC, no_settings


def handle_describe_configs(services: Services, call: Call) -> Body:
    # Each once: an answer takes a hundred times the bytes of a question, so repeats would make us build without bound.
    named = {(resource.resource_type, resource.resource_name): resource for resource in reversed(call.message.resources)}
    return {"results": [_answer(services, call, resource) for resource in reversed(named.values())]}


def _answer(services: Services, call: Call, resource: Any) -> dict[str, Any]:
    answer = {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
    try:
        entries = _describe(services, resource)
    except ClusterError as error:
        return answer | {"error_code": error.code, "error_message": error.message, "configs": []}
    return answer | {"configs": [_entry(call, entry) for entry in entries]}


def _describe(services: Services, resource: Any) -> list[ConfigDescription]:
    image, defaults, name = services.image, services.config.broker_defaults, resource.resource_name
    names = resource.configuration_keys or None  # Kafka takes an empty list like null: all
    if resource.resource_type == TOPIC:
        check_name(name)
        if name not in image.topics:
            raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no topic {name!r}")
        asked_for = [compaction_state(services, name)] if names and COMPACTION_STATE in names else []
        return [*describe_topic_config(image, name, defaults, names=names), *asked_for]
    if resource.resource_type == BROKER:
        node_id = services.config.node_id
        if name not in ("", str(node_id)):
            raise ClusterError(ErrorCode.invalid_request, f"broker {name!r} was asked for at broker {node_id}: ask that one")
        return describe_broker_config(image, int(name) if name else None, defaults, names=names)
    if resource.resource_type == GROUP:
        if not name:
            raise ClusterError(ErrorCode.invalid_request, "the settings of a group without a name")
        return describe_group_config(image, name, defaults, names=names)
    raise no_settings(resource.resource_type)


def _entry(call: Call, entry: ConfigDescription) -> dict[str, Any]:
    synonyms = entry.synonyms if call.message.include_synonyms else ()
    return {
        "name": entry.name,
        "value": entry.value,
        "read_only": entry.read_only,
        "config_source": entry.source,
        "is_sensitive": entry.sensitive,
        "synonyms": [{"name": one.name, "value": one.value, "source": one.source} for one in synonyms],
        "config_type": entry.type,
        "documentation": entry.documentation if call.message.include_documentation else None,
    }


API = Api(key=32, versions=range(1, 5), handle=handle_describe_configs)
