# ListConfigResources, v0 to v1
# v0: client metrics only    v1: any types
"""Names what has settings, or can have them (KIP-1142)."""

from collections.abc import Iterable

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .config_resources import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC

ALL = (TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP)


def handle_list_config_resources(services: Services, call: Call) -> Body:
    wanted = (call.message.resource_types or ALL) if call.version >= 1 else (CLIENT_METRICS,)
    if not set(wanted) <= set(ALL):
        return {"error_code": ErrorCode.unsupported_version}
    return {
        "config_resources": [
            {"resource_name": name, "resource_type": kind}
            for kind in ALL
            if kind in wanted
            for name in _names(services.image, kind)
        ]
    }


def _names(image: Image, kind: int) -> Iterable[str]:
    """Of groups, those that have settings of their own; loggers and client metrics have none here."""
    if kind == TOPIC:
        return sorted(image.topics)
    if kind == BROKER:
        return [str(node) for node, broker in sorted(image.brokers.items()) if not broker.fenced]
    return sorted(image.group_configs) if kind == GROUP else ()


API = Api(key=74, versions=range(2), handle=handle_list_config_resources)
