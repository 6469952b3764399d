# AlterConfigs, v0 to v2
# v2: flexible
"""Gives topics, brokers and groups these settings and no others, through the controller. Older than IncrementalAlterConfigs."""

from typing import Any

from quorumlog.metadata.records import ResourceKind
from quorumlog.metadata.requests import ConfigChange, ConfigOperation, ResourceChanges

from ..dispatch import Api, Body, Call
from ..services import Services
from .config_resources import alter


async def handle_alter_configs(services: Services, call: Call) -> Body:
    return await alter(services, call.message, _changes)


def _changes(resource: Any, kind: ResourceKind) -> ResourceChanges:
    changes = tuple(ConfigChange(config.name, ConfigOperation.SET, config.value) for config in resource.configs)
    return ResourceChanges(kind, resource.resource_name, changes, replaces=True)


API = Api(key=33, versions=range(3), handle=handle_alter_configs)
