"""The settings of one topic, as the code that obeys them reads them, and the table of their names, defaults and bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .image import Image
from .settings import (
    INT_MAX,
    ConfigDescription,
    Setting,
    SettingType,
    Value,
    describe_setting,
    layers,
    selected,
    table_of,
)


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """Kafka's topic settings that we implement, in Kafka's meaning; -1 is "no limit". Fields are named as in the table."""

    cleanup_policy: str = "delete"
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1_048_588
    min_insync_replicas: int = 1
    message_timestamp_type: str = "CreateTime"
    unclean_leader_election_enable: bool = False
    compression_type: str = "producer"


MIN_INSYNC_REPLICAS = "min.insync.replicas"
UNCLEAN_LEADER_ELECTION = "unclean.leader.election.enable"

TOPIC_SETTINGS = table_of(
    [
        Setting(
            "cleanup.policy",
            SettingType.LIST,
            "delete",
            "What happens to old segments: delete removes them by age and size.",
            "log.cleanup.policy",
            choices=("delete",),
            not_yet=("compact",),
        ),
        Setting(
            "compression.type",
            SettingType.STRING,
            "producer",
            "How batches are stored: producer keeps them as they came.",
            "compression.type",
            choices=("producer",),
            not_yet=("uncompressed", "gzip", "snappy", "lz4", "zstd"),
        ),
        Setting(
            "index.interval.bytes",
            SettingType.INT,
            "4096",
            "Bytes of log between two entries of the offset index.",
            "log.index.interval.bytes",
            most=INT_MAX,
        ),
        Setting(
            "max.message.bytes",
            SettingType.INT,
            "1048588",
            "Largest record batch that is taken, in bytes, as it is compressed.",
            "message.max.bytes",
            most=INT_MAX,
        ),
        Setting(
            "message.timestamp.type",
            SettingType.STRING,
            "CreateTime",
            "Whose clock stamps the records: the producer's (CreateTime) or the leader's (LogAppendTime).",
            "log.message.timestamp.type",
            choices=("CreateTime", "LogAppendTime"),
        ),
        Setting(
            MIN_INSYNC_REPLICAS,
            SettingType.INT,
            "1",
            "Least number of in-sync replicas for a commit; never more than a partition has replicas.",
            MIN_INSYNC_REPLICAS,
            least=1,
            most=INT_MAX,
        ),
        Setting(
            "retention.bytes",
            SettingType.LONG,
            "-1",
            "Old segments are deleted while a partition is larger than this; -1 is no limit.",
            "log.retention.bytes",
            least=-1,
        ),
        Setting(
            "retention.ms",
            SettingType.LONG,
            "604800000",
            "Segments are deleted when their newest record is older than this; -1 is no limit.",
            "log.retention.ms",
            least=-1,
        ),
        Setting(
            "segment.bytes",
            SettingType.INT,
            "1073741824",
            "A segment is closed, and the next begun, before it grows over this.",
            "log.segment.bytes",
            least=1024,
            most=INT_MAX,
        ),
        Setting(
            "segment.ms",
            SettingType.LONG,
            "604800000",
            "A segment is closed when its first record is older than this.",
            "log.roll.ms",
            least=1,
        ),
        Setting(
            UNCLEAN_LEADER_ELECTION,
            SettingType.BOOLEAN,
            "false",
            "Whether a replica that may lack committed records is elected when no complete one lives. Loses records.",
            UNCLEAN_LEADER_ELECTION,
        ),
    ]
)


def effective_topic_config(
    image: Image, topic: str, broker_defaults: Mapping[str, str], node_id: int | None = None
) -> TopicConfig:
    """The settings that count for a topic on this broker (`node_id`), or wherever no broker has a value of its own.

    A dozen look-ups and conversions: keep the result until the next ConfigRecord rather than asking for each request.
    """
    values: dict[str, Any] = {
        setting.name.replace(".", "_"): topic_value(setting, image, topic, broker_defaults, node_id)
        for setting in TOPIC_SETTINGS.values()
    }
    return TopicConfig(**values)


def topic_value(
    setting: Setting, image: Image, topic: str, broker_defaults: Mapping[str, str], node_id: int | None = None
) -> Value:
    return setting.parse(next(layers(setting, image, broker_defaults, topic=topic, node_id=node_id)).value)


def effective_min_isr(image: Image, topic: str, replica_count: int, broker_defaults: Mapping[str, str]) -> int:
    """Members that an in-sync set needs for a commit: never more than there are replicas, as Kafka's controller counts (KIP-966).

    The leader must count by the same rule (or a stricter one), or replicas in the ELR could lack committed records.
    """
    asked = topic_value(TOPIC_SETTINGS[MIN_INSYNC_REPLICAS], image, topic, broker_defaults)
    return min(int(asked), replica_count)


def unclean_election_allowed(image: Image, topic: str, broker_defaults: Mapping[str, str]) -> bool:
    return bool(topic_value(TOPIC_SETTINGS[UNCLEAN_LEADER_ELECTION], image, topic, broker_defaults))


def describe_topic_config(
    image: Image,
    topic: str,
    broker_defaults: Mapping[str, str],
    *,
    node_id: int | None = None,
    names: Iterable[str] | None = None,
) -> list[ConfigDescription]:
    """The entries of DescribeConfigs for a topic, all or the named ones."""
    return [
        describe_setting(setting, layers(setting, image, broker_defaults, topic=topic, node_id=node_id))
        for setting in selected(TOPIC_SETTINGS, names)
    ]
