# IncrementalAlterConfigs, v0 to v1
# v1: flexible
"""Changes single settings of topics, brokers and groups, through the controller (KIP-339)."""

from typing import Any

from quorumlog.metadata.records import ResourceKind
from quorumlog.metadata.requests import ConfigChange, ConfigOperation, ResourceChanges
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .config_resources import alter


async def handle_incremental_alter_configs(services: Services, call: Call) -> Body:
    return await alter(services, call.message, _changes)


def _changes(resource: Any, kind: ResourceKind) -> ResourceChanges:
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


API = Api(key=44, versions=range(2), handle=handle_incremental_alter_configs)
