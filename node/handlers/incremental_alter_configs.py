# IncrementalAlterConfigs, v0 to v1
# v1: flexible
"""Changes single settings of topics and brokers, through the controller (KIP-339)."""

from typing import Any

from quorumlog.metadata.records import ResourceKind
from quorumlog.metadata.requests import AlterConfigs, AlterConfigsReply, ConfigChange, ConfigOperation, ResourceChanges
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .bounds import check_count
from .describe_configs import BROKER, TOPIC

TIMEOUT_S = 10.0
KINDS = {TOPIC: ResourceKind.TOPIC, BROKER: ResourceKind.BROKER}
TYPES = {kind: number for number, kind in KINDS.items()}


async def handle_incremental_alter_configs(services: Services, call: Call) -> Body:
    understood, responses = [], []
    for resource in call.message.resources:
        try:
            understood.append(_changes(resource))
        except ClusterError as error:
            responses.append(_response(resource.resource_type, resource.resource_name, error.code, error.message))
    return {"responses": [*responses, *await _alter(services, understood, call.message.validate_only)]}


async def _alter(services: Services, resources: list[ResourceChanges], validate_only: bool) -> list[dict[str, Any]]:
    if not resources:
        return []
    try:
        check_count(resources, "resources")
        reply = await services.controller.request(AlterConfigs(tuple(resources), validate_only), timeout_s=TIMEOUT_S)
    except ClusterError as error:
        return [_response(TYPES[one.kind], one.name, error.code, error.message) for one in resources]
    assert isinstance(reply, AlterConfigsReply)
    return [_response(TYPES[one.kind], one.name, one.error_code, one.error_message) for one in reply.resources]


def _changes(resource: Any) -> ResourceChanges:
    kind = KINDS.get(resource.resource_type)
    if kind is None:
        raise ClusterError(
            ErrorCode.invalid_request,
            f"resource type {resource.resource_type}; topics ({TOPIC}) and brokers ({BROKER}) have settings",
        )
    return ResourceChanges(kind, resource.resource_name, tuple(_change(config) for config in resource.configs))


def _change(config: Any) -> ConfigChange:
    try:
        operation = ConfigOperation(config.config_operation)
    except ValueError:
        allowed = ", ".join(f"{one.value} {one.name}" for one in ConfigOperation)
        raise ClusterError(
            ErrorCode.invalid_request, f"operation {config.config_operation} on {config.name}; allowed are {allowed}"
        ) from None
    return ConfigChange(config.name, operation, config.value)


def _response(resource_type: int, name: str, code: ErrorCode, message: str | None) -> dict[str, Any]:
    return {"resource_type": resource_type, "resource_name": name, "error_code": code, "error_message": message}


API = Api(key=44, versions=range(2), handle=handle_incremental_alter_configs)
