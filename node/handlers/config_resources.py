"""What has settings, by Kafka's numbers, and how changes of them are asked of the controller; for the APIs that alter them."""

from collections.abc import Callable, Iterable
from typing import Any

from quorumlog.metadata.records import ResourceKind
from quorumlog.metadata.requests import AlterConfigs, AlterConfigsReply, ResourceChanges
from quorumlog.metadata.topics import check_name
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..services import Services
from .bounds import check_count

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
TIMEOUT_S = 10.0
KINDS = {TOPIC: ResourceKind.TOPIC, BROKER: ResourceKind.BROKER, GROUP: ResourceKind.GROUP}
TYPES = {kind: number for number, kind in KINDS.items()}


def no_settings(resource_type: int) -> ClusterError:
    """The refusal of a resource type that has none here."""
    others = {BROKER_LOGGER: " (broker loggers)", CLIENT_METRICS: " (client metrics)"}
    return ClusterError(
        ErrorCode.invalid_request,
        f"resource type {resource_type}{others.get(resource_type, '')}; "
        f"topics ({TOPIC}), brokers ({BROKER}) and groups ({GROUP}) have settings",
    )


async def alter(services: Services, message: Any, changes_of: Callable[[Any, ResourceKind], ResourceChanges]) -> dict[str, Any]:
    """The answer to a request whose resources `changes_of` understands; each has a result of its own."""
    understood, responses = [], []
    for resource in message.resources:
        try:
            kind = KINDS.get(resource.resource_type)
            if kind is None:
                raise no_settings(resource.resource_type)
            if kind is ResourceKind.TOPIC:
                _check_topic_name(resource.resource_name)
            understood.append(changes_of(resource, kind))
        except ClusterError as error:
            responses.append(_response(resource.resource_type, resource.resource_name, error.code, error.message))
    return {"responses": [*responses, *await _submit(services, understood, message.validate_only)]}


def _check_topic_name(name: str) -> None:
    """What no topic could be called is told apart from a topic that is not there, as Kafka does."""
    if not name:
        raise ClusterError(ErrorCode.invalid_request, "the settings of a topic without a name; all topics' are those of brokers")
    check_name(name)


async def _submit(services: Services, resources: list[ResourceChanges], validate_only: bool) -> Iterable[dict[str, Any]]:
    if not resources:
        return []
    try:
        check_count(resources, "resources")
        reply = await services.controller.request(AlterConfigs(tuple(resources), validate_only), timeout_s=TIMEOUT_S)
    except ClusterError as error:
        return [_response(TYPES[one.kind], one.name, error.code, error.message) for one in resources]
    assert isinstance(reply, AlterConfigsReply)
    return [_response(TYPES[one.kind], one.name, one.error_code, one.error_message) for one in reply.resources]


def _response(resource_type: int, name: str, code: ErrorCode, message: str | None) -> dict[str, Any]:
    return {"resource_type": resource_type, "resource_name": name, "error_code": code, "error_message": message}
