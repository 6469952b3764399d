"""The settings of consumer groups and of their coordinators: as the code that obeys them reads them, and as tables of names.

A broker's are read when its node starts (as in Kafka). Two of them a group may have of its own, altered while it lives, within
bounds that are the broker's: the GROUP resource of KIP-848.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from immutables import Map

from quorumlog.wire.errors import ClusterError, ErrorCode

from .image import Image
from .settings import (
    INT_MAX,
    SHORT_MAX,
    ConfigDescription,
    Setting,
    SettingSource,
    SettingType,
    Synonym,
    Value,
    describe_setting,
    selected,
    table_of,
)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Kafka's broker and group settings that we implement, in Kafka's meaning and units; fields are named as in the table."""

    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_max_size: int = INT_MAX
    group_initial_rebalance_delay_ms: int = 3_000
    group_consumer_session_timeout_ms: int = 45_000  # consumer.session.timeout.ms of a group
    group_consumer_heartbeat_interval_ms: int = 5_000  # consumer.heartbeat.interval.ms of a group
    group_consumer_max_size: int = INT_MAX
    group_consumer_assignors: tuple[str, ...] = ("uniform", "range")
    group_consumer_migration_policy: str = "bidirectional"  # disabled, upgrade, downgrade, bidirectional
    group_consumer_regex_refresh_interval_ms: int = 600_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000


SESSION_TIMEOUT = "consumer.session.timeout.ms"
HEARTBEAT_INTERVAL = "consumer.heartbeat.interval.ms"


def _of_broker(name: str, default: str, documentation: str, *, least: int = 1, most: int = INT_MAX) -> Setting:
    return Setting(name, SettingType.INT, default, documentation, name, least=least, most=most, read_only=True)


# What a broker has as the coordinator of groups, by the names that Kafka gives a broker's settings.
COORDINATOR_SETTINGS = table_of(
    [
        _of_broker(
            "group.min.session.timeout.ms", "6000", "Least session timeout that a member of a classic group may ask for.", least=0
        ),
        _of_broker(
            "group.max.session.timeout.ms",
            "1800000",
            "Greatest session timeout that a member of a classic group may ask for.",
            least=0,
        ),
        _of_broker("group.max.size", str(INT_MAX), "Most members of a classic group."),
        _of_broker(
            "group.initial.rebalance.delay.ms",
            "3000",
            "How long the first rebalance of a new classic group waits for more members.",
            least=0,
        ),
        _of_broker("group.consumer.session.timeout.ms", "45000", "A member of a consumer group that is silent so long is out."),
        _of_broker(
            "group.consumer.min.session.timeout.ms", "45000", f"Least {SESSION_TIMEOUT} that a consumer group may be given."
        ),
        _of_broker(
            "group.consumer.max.session.timeout.ms", "60000", f"Greatest {SESSION_TIMEOUT} that a consumer group may be given."
        ),
        _of_broker("group.consumer.heartbeat.interval.ms", "5000", "How often members of a consumer group show that they live."),
        _of_broker(
            "group.consumer.min.heartbeat.interval.ms", "5000", f"Least {HEARTBEAT_INTERVAL} that a consumer group may be given."
        ),
        _of_broker(
            "group.consumer.max.heartbeat.interval.ms",
            "15000",
            f"Greatest {HEARTBEAT_INTERVAL} that a consumer group may be given.",
        ),
        _of_broker("group.consumer.max.size", str(INT_MAX), "Most members of a consumer group."),
        Setting(
            "group.consumer.assignors",
            SettingType.LIST,
            "uniform,range",
            "The assignors of consumer groups; the first is for members that ask for none.",
            "group.consumer.assignors",
            choices=("uniform", "range"),
            read_only=True,
        ),
        Setting(
            "group.consumer.migration.policy",
            SettingType.STRING,
            "bidirectional",
            "Whether a group with members may change its protocol: upgrade is from classic to consumer, downgrade the way back.",
            "group.consumer.migration.policy",
            choices=("bidirectional", "upgrade", "downgrade", "disabled"),
            read_only=True,
        ),
        _of_broker(
            "group.consumer.regex.refresh.interval.ms",
            "600000",
            "How often the regular expressions of consumer groups are matched with the topics, if nothing asks for it earlier.",
            least=10_000,
        ),
        _of_broker("offset.metadata.max.bytes", "4096", "Longest metadata that may go with a committed offset.", least=0),
        _of_broker("offsets.retention.minutes", "10080", "How long the offsets of a group without members are kept."),
        Setting(
            "offsets.retention.check.interval.ms",
            SettingType.LONG,
            "600000",
            "How often offsets are looked at for their age.",
            "offsets.retention.check.interval.ms",
            least=1,
            read_only=True,
        ),
        _of_broker("offsets.commit.timeout.ms", "5000", "How long a commit may wait for its replicas."),
        _of_broker("offsets.topic.num.partitions", "50", "Partitions of __consumer_offsets, when it is created."),
        Setting(
            "offsets.topic.replication.factor",
            SettingType.SHORT,
            "3",
            "Replicas of __consumer_offsets, when it is created.",
            "offsets.topic.replication.factor",
            least=1,
            most=SHORT_MAX,
            read_only=True,
        ),
        _of_broker(
            "offsets.topic.segment.bytes", "104857600", "segment.bytes of __consumer_offsets, when it is created.", least=1 << 20
        ),
    ]
)

# What a group may have of its own; `broker_name` is where the value comes from that it has otherwise.
GROUP_SETTINGS = table_of(
    [
        Setting(
            SESSION_TIMEOUT,
            SettingType.INT,
            "45000",
            "A member of the group that is silent for so long is out.",
            "group.consumer.session.timeout.ms",
            least=1,
            most=INT_MAX,
        ),
        Setting(
            HEARTBEAT_INTERVAL,
            SettingType.INT,
            "5000",
            "How often members of the group show that they live.",
            "group.consumer.heartbeat.interval.ms",
            least=1,
            most=INT_MAX,
        ),
    ]
)


def coordinator_value(name: str, broker_defaults: Mapping[str, str]) -> Value:
    """What counts for a coordinator's setting, in its type."""
    setting = COORDINATOR_SETTINGS[name]
    return setting.value_of(broker_defaults.get(name, setting.default))


def effective_group_config(image: Image, group_id: str, broker_defaults: Mapping[str, str], node_id: int) -> GroupConfig:
    """The settings that count for a group whose coordinator is this broker. Cheap enough for each request."""
    return _group_config(frozenset(broker_defaults.items()), image.group_configs.get(group_id))


@lru_cache(maxsize=1024)
def _group_config(static: frozenset[tuple[str, str]], given: Map[str, str] | None) -> GroupConfig:
    broker_defaults = dict(static)
    if given is None:
        return _coordinator_config(broker_defaults)
    within = {
        name: _within_bounds(name, int(GROUP_SETTINGS[name].parse(value)), broker_defaults) for name, value in given.items()
    }
    changed: dict[str, Any] = {f"group_{name.replace('.', '_')}": value for name, value in within.items()}
    return replace(_group_config(static, None), **changed)


def _coordinator_config(broker_defaults: Mapping[str, str]) -> GroupConfig:
    values: dict[str, Any] = {}
    for field in fields(GroupConfig):
        setting = COORDINATOR_SETTINGS[field.name.replace("_", ".")]
        value = coordinator_value(setting.name, broker_defaults)
        values[field.name] = tuple(str(value).split(",")) if setting.type is SettingType.LIST else value
    return GroupConfig(**values)


def check_coordinator_config(broker_defaults: Mapping[str, str]) -> None:
    """What a node may be started with. Raises INVALID_CONFIG."""
    for name, setting in COORDINATOR_SETTINGS.items():
        setting.parse(broker_defaults.get(name, setting.default))
    own = {name: str(coordinator_value(setting.broker_name, broker_defaults)) for name, setting in GROUP_SETTINGS.items()}
    check_group_config(own, broker_defaults)


def _bounds(name: str, broker_defaults: Mapping[str, str]) -> tuple[int, int]:
    """What this broker allows a group to have."""
    kind, rest = name.split(".", 1)
    least, most = (coordinator_value(f"group.{kind}.{bound}.{rest}", broker_defaults) for bound in ("min", "max"))
    return int(least), int(most)


def _within_bounds(name: str, value: int, broker_defaults: Mapping[str, str]) -> int:
    """A value that was allowed once: a node with other bounds, started since, takes the nearest that it allows."""
    least, most = _bounds(name, broker_defaults)
    return max(least, min(most, value))


def check_group_config(given: Mapping[str, str], broker_defaults: Mapping[str, str]) -> None:
    """What holds between a group's settings, and between them and the broker's. Raises INVALID_CONFIG."""
    for name, text in sorted(given.items()):
        least, most = _bounds(name, broker_defaults)
        if not least <= int(text) <= most:
            raise ClusterError(ErrorCode.invalid_config, f"{name} is {text}; the brokers allow {least} to {most}")
    values = {
        name: int(given.get(name, coordinator_value(setting.broker_name, broker_defaults)))
        for name, setting in GROUP_SETTINGS.items()
    }
    if values[SESSION_TIMEOUT] <= values[HEARTBEAT_INTERVAL]:
        raise ClusterError(
            ErrorCode.invalid_config,
            f"{SESSION_TIMEOUT} is {values[SESSION_TIMEOUT]}; it must be more than {HEARTBEAT_INTERVAL}, "
            f"which is {values[HEARTBEAT_INTERVAL]}",
        )


def describe_group_config(
    image: Image, group_id: str, broker_defaults: Mapping[str, str], *, names: Iterable[str] | None = None
) -> list[ConfigDescription]:
    """The entries of DescribeConfigs for a group: each has them, whether it exists or not, as in Kafka."""
    given: Mapping[str, str] = image.group_configs.get(group_id, {})
    return [describe_setting(setting, _layers(setting, given, broker_defaults)) for setting in selected(GROUP_SETTINGS, names)]


def _layers(setting: Setting, given: Mapping[str, str], broker_defaults: Mapping[str, str]) -> Iterable[Synonym]:
    """Kafka has a group's own value and the default, which is what the broker has."""
    if setting.name in given:
        yield Synonym(setting.name, given[setting.name], SettingSource.GROUP)
    yield Synonym(setting.broker_name, str(coordinator_value(setting.broker_name, broker_defaults)), SettingSource.DEFAULT)
