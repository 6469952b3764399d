"""Alterations of settings, and what follows from them at once (KIP-339: incremental; KIP-966: the ELR ends)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import assert_never

from quorumlog.wire.errors import ClusterError, ErrorCode

from .broker_config import BROKER_SETTINGS, check_broker_config
from .draft import Draft
from .elections import change_between, elect_missing
from .group_config import GROUP_SETTINGS, check_group_config
from .image import CLUSTER_DEFAULT, Image
from .records import ConfigRecord, ResourceKind
from .requests import AlterConfigs, AlterConfigsReply, ConfigChange, ConfigOperation, ResourceChanges, ResourceResult
from .settings import Setting, SettingType, layers, setting_named, split_list
from .topic_config import MIN_INSYNC_REPLICAS, TOPIC_SETTINGS, UNCLEAN_LEADER_ELECTION, check_topic_config, effective_min_isr


def alter_configs(draft: Draft, request: AlterConfigs) -> AlterConfigsReply:
    """Each resource has a result of its own; all or none of its changes are made."""
    named = Counter((resource.kind, resource.name) for resource in request.resources)
    results = []
    for resource in request.resources:
        times = named[resource.kind, resource.name]
        outcome = draft.attempt(
            lambda resource=resource, times=times: _alter(draft, resource, times),  # type: ignore[misc]
            keep=not request.validate_only,
        )
        code, message = (ErrorCode.none, None) if outcome is None else (outcome.code, outcome.message)
        results.append(ResourceResult(resource.kind, resource.name, code, message))
    return AlterConfigsReply(tuple(results))


def checked(setting: Setting, value: str | None) -> str:
    """A value as it is kept. Raises INVALID_CONFIG."""
    if value is None:
        raise ClusterError(ErrorCode.invalid_config, f"{setting.name} needs a value")
    parsed = setting.parse(value)
    return parsed if isinstance(parsed, str) else value.strip()


def _alter(draft: Draft, resource: ResourceChanges, times_named: int) -> None:
    if times_named > 1:
        raise ClusterError(ErrorCode.invalid_request, f"{resource.kind} {resource.name!r} is named {times_named} times")
    table, held = _table_and_values(draft.image, resource)
    changes = (*resource.changes, *_taken_back(resource, held)) if resource.replaces else resource.changes
    keys = [change.key for change in changes]
    if len(set(keys)) < len(keys):
        raise ClusterError(ErrorCode.invalid_request, f"{resource.kind} {resource.name!r}: a setting is named twice")
    before = draft.image
    for change in changes:
        if change.operation is ConfigOperation.DELETE and change.key not in table:
            continue  # as Kafka does: what nobody knows is gone already
        if change.value is None and change.operation is not ConfigOperation.DELETE:
            raise ClusterError(
                ErrorCode.invalid_request,
                f"{change.operation.name} of {change.key[:100]!r} without a value; to take it back, delete it",
            )
        with _refusals_of(resource.kind):
            value = _value_after(draft, resource, _alterable(table, resource, change), change)
        _check_cluster_only(table[change.key], resource, change)
        if value != held.get(change.key):
            draft.add(ConfigRecord(resource.kind, resource.name, change.key, value))
    _check_together(draft, resource)
    _follow_up(draft, before, set(keys))


def _taken_back(resource: ResourceChanges, held: Mapping[str, str]) -> Iterator[ConfigChange]:
    """What a replacement does not name; all brokers' least in-sync set stays, which nobody may remove."""
    named = {change.key for change in resource.changes}
    for key in sorted(held):
        if key not in named and not (resource.kind is ResourceKind.BROKER and key == MIN_INSYNC_REPLICAS):
            yield ConfigChange(key, ConfigOperation.DELETE, None)


def _check_together(draft: Draft, resource: ResourceChanges) -> None:
    """What holds between the settings of one resource. Raises INVALID_CONFIG."""
    match resource.kind:
        case ResourceKind.GROUP:
            check_group_config(draft.image.group_configs.get(resource.name, {}), draft.config.broker_defaults)
        case ResourceKind.TOPIC:
            check_topic_config(draft.image, resource.name, draft.config.broker_defaults)
        case ResourceKind.BROKER:
            check_broker_config(draft.image, draft.config.broker_defaults)
        case _:
            assert_never(resource.kind)


def _table_and_values(image: Image, resource: ResourceChanges) -> tuple[Mapping[str, Setting], Mapping[str, str]]:
    name = resource.name
    match resource.kind:
        case ResourceKind.TOPIC:
            if name not in image.topics:
                raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no topic {name[:249]!r}")
            return TOPIC_SETTINGS, image.topic_configs.get(name, {})
        case ResourceKind.BROKER:
            if name != CLUSTER_DEFAULT and name not in map(str, image.brokers):
                raise ClusterError(
                    ErrorCode.invalid_request,
                    f"there is no broker {name[:20]!r}; expected a registered node id, or nothing for all brokers",
                )
            return BROKER_SETTINGS, image.broker_configs.get(name, {})
        case ResourceKind.GROUP:
            if not name:
                raise ClusterError(ErrorCode.invalid_request, "the settings of a group without a name")
            return GROUP_SETTINGS, image.group_configs.get(name, {})
        case _:
            assert_never(resource.kind)


@contextmanager
def _refusals_of(kind: ResourceKind) -> Iterator[None]:
    """In Kafka each broker judges changes of its own settings, and says INVALID_REQUEST for INVALID_CONFIG (KAFKA-13609)."""
    try:
        yield
    except ClusterError as error:
        if kind is ResourceKind.BROKER and error.code is ErrorCode.invalid_config:
            raise ClusterError(ErrorCode.invalid_request, error.message) from error
        raise


def _alterable(table: Mapping[str, Setting], resource: ResourceChanges, change: ConfigChange) -> Setting:
    """Raises INVALID_CONFIG for a setting that is unknown, or cannot be altered while a broker runs."""
    setting = setting_named(table, change.key)
    if setting.read_only:
        raise ClusterError(
            ErrorCode.invalid_config, f"{setting.name} is read when a node starts; set it in the node's configuration"
        )
    return setting


def _check_cluster_only(setting: Setting, resource: ResourceChanges, change: ConfigChange) -> None:
    """What the controller obeys is one value for all brokers, and always there (KIP-966). Raises INVALID_CONFIG."""
    if resource.kind is not ResourceKind.BROKER:
        return
    if setting.cluster_only and resource.name != CLUSTER_DEFAULT:
        raise ClusterError(
            ErrorCode.invalid_config, f"{setting.name} can be set for a topic or for all brokers, not for one broker"
        )
    if setting.name == MIN_INSYNC_REPLICAS and change.operation is ConfigOperation.DELETE:
        # Without it each controller would count by its own static configuration (KIP-966 forbids this, too).
        raise ClusterError(ErrorCode.invalid_config, f"{setting.name} of all brokers can be set, but not removed")


def _value_after(draft: Draft, resource: ResourceChanges, setting: Setting, change: ConfigChange) -> str | None:
    match change.operation:
        case ConfigOperation.SET:
            return checked(setting, change.value)
        case ConfigOperation.DELETE:
            return None
        case ConfigOperation.APPEND | ConfigOperation.SUBTRACT:
            return _list_after(draft, resource, setting, change)
        case _:
            assert_never(change.operation)


def _list_after(draft: Draft, resource: ResourceChanges, setting: Setting, change: ConfigChange) -> str:
    """APPEND and SUBTRACT start from the value that counts now."""
    if setting.type is not SettingType.LIST:
        raise ClusterError(ErrorCode.invalid_config, f"{setting.name} is no list: it can be set or deleted")
    topic = resource.name if resource.kind is ResourceKind.TOPIC else None
    node_id = int(resource.name) if resource.kind is ResourceKind.BROKER and resource.name else None
    first = next(layers(setting, draft.image, draft.config.broker_defaults, topic=topic, node_id=node_id))
    held, named = split_list(first.value), split_list(change.value or "")
    if change.operation is ConfigOperation.APPEND:
        return checked(setting, ",".join((*held, *named)))
    return checked(setting, ",".join(part for part in held if part not in named))


def _follow_up(draft: Draft, before: Image, keys: set[str]) -> None:
    if MIN_INSYNC_REPLICAS in keys:
        _end_elrs(draft, before)
    if UNCLEAN_LEADER_ELECTION in keys:
        elect_missing(draft)


def _end_elrs(draft: Draft, before: Image) -> None:
    """Where another least in-sync set counts now, the ISR may commit what ELR members do not have.

    An ELR beside an empty ISR stays: nobody commits anything there, and it is all that knows who is complete.
    """
    for topic, state in draft.partitions():
        count = len(state.original)
        changed = effective_min_isr(before, topic, count, draft.config.broker_defaults) != draft.min_isr(topic, state)
        change = change_between(state, replace(state, elr=())) if changed and state.isr else None
        if change is not None:
            draft.add(change)
