"""The settings of one topic, as the code that obeys them reads them, and the table of their names, defaults and bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from quorumlog.wire.errors import ClusterError, ErrorCode

from .image import Image
from .settings import (
    INT_MAX,
    LONG_MAX,
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
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    max_message_bytes: int = 1_048_588
    min_insync_replicas: int = 1
    message_timestamp_type: str = "CreateTime"
    message_timestamp_before_max_ms: int = LONG_MAX
    message_timestamp_after_max_ms: int = 3_600_000
    unclean_leader_election_enable: bool = False
    delete_retention_ms: int = 86_400_000
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = LONG_MAX
    quorumlog_compaction_request: int = 0
    quorumlog_dedup_ids_max: int = 1_000_000
    quorumlog_dedup_window_ms: int = 0
    compression_type: str = "producer"
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_zstd_level: int = 3

    @property
    def is_compacted(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def is_deleting(self) -> bool:
        """Whether age and size make segments go."""
        return "delete" in self.cleanup_policy


CLEANUP_POLICY = "cleanup.policy"
MIN_INSYNC_REPLICAS = "min.insync.replicas"
UNCLEAN_LEADER_ELECTION = "unclean.leader.election.enable"
MIN_COMPACTION_LAG = "min.compaction.lag.ms"
MAX_COMPACTION_LAG = "max.compaction.lag.ms"
COMPACTION_REQUEST = "quorumlog.compaction.request"


def _number(name: str, default: int, documentation: str, broker_name: str, *, least: int = 0, most: int = INT_MAX) -> Setting:
    return Setting(name, SettingType.INT, str(default), documentation, broker_name, least=least, most=most)


def _long(name: str, default: int, documentation: str, broker_name: str, *, least: int = 0, bare: bool = False) -> Setting:
    return Setting(name, SettingType.LONG, str(default), documentation, broker_name, least=least, bare=bare)


def _throttled(who: str) -> Setting:
    return Setting(
        f"{who}.replication.throttled.replicas",
        SettingType.LIST,
        "",
        f"Replicas whose catching up counts against the broker's {who}.replication.throttled.rate.",
        "",
        pattern=r"\*|[0-9]{1,10}:[0-9]{1,10}",
        form="*, or partition:broker pairs with commas between them",
    )


TOPIC_SETTINGS = table_of(
    [
        Setting(
            CLEANUP_POLICY,
            SettingType.LIST,
            "delete",
            "What happens to old records: delete removes segments by age and size; compact removes values of keys that have a "
            "later one, and demands that each record has a key. Both together do both, nothing keeps everything.",
            "log.cleanup.policy",
            choices=("compact", "delete"),
            may_be_empty=True,
        ),
        Setting(
            "compression.type",
            SettingType.STRING,
            "producer",
            "How batches are stored: producer keeps them as they came; otherwise the leader compresses anew what came otherwise.",
            "compression.type",
            choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        ),
        Setting(
            "compression.gzip.level",
            SettingType.INT,
            "-1",
            "The level where compression.type is gzip; -1 is gzip's own default.",
            "compression.gzip.level",
            least=-1,
            most=9,
            gaps=(0,),
        ),
        _number(
            "compression.lz4.level", 9, "The level where compression.type is lz4.", "compression.lz4.level", least=1, most=17
        ),
        _number(
            "compression.zstd.level",
            3,
            "The level where compression.type is zstd.",
            "compression.zstd.level",
            least=-131072,
            most=22,
        ),
        _long(
            "delete.retention.ms",
            86_400_000,
            "How long a compacted topic goes on telling that a key was deleted, by a record without a value.",
            "log.cleaner.delete.retention.ms",
        ),
        _long(
            "file.delete.delay.ms",
            60_000,
            "Kept and shown, without effect: files go at once, and whoever reads one reads it to the end.",
            "log.segment.delete.delay.ms",
        ),
        _long(
            "flush.messages",
            LONG_MAX,
            "Kept and shown: records are synced as soon as the disk is free, and so never later than this.",
            "log.flush.interval.messages",
            least=1,
        ),
        _long(
            "flush.ms",
            LONG_MAX,
            "Kept and shown: records are synced as soon as the disk is free, whatever this says.",
            "log.flush.interval.ms",
            bare=True,
        ),
        _throttled("follower"),
        _number(
            "index.interval.bytes", 4096, "Bytes of log between two entries of the offset index.", "log.index.interval.bytes"
        ),
        _throttled("leader"),
        _long(
            "local.retention.bytes",
            -2,
            "Of tiered storage, which is not offered: without effect.",
            "log.local.retention.bytes",
            least=-2,
        ),
        _long(
            "local.retention.ms",
            -2,
            "Of tiered storage, which is not offered: without effect.",
            "log.local.retention.ms",
            least=-2,
        ),
        _long(
            MAX_COMPACTION_LAG,
            LONG_MAX,
            "Longest time that a record may wait for compaction, counted from when its segment was begun.",
            "log.cleaner.max.compaction.lag.ms",
            least=1,
        ),
        _number(
            "max.message.bytes",
            1_048_588,
            "Largest record batch that is taken, in bytes, as it is compressed.",
            "message.max.bytes",
        ),
        _long(
            "message.timestamp.after.max.ms",
            3_600_000,
            "How far a record's timestamp may be ahead of the leader's clock. Without effect for LogAppendTime.",
            "log.message.timestamp.after.max.ms",
        ),
        _long(
            "message.timestamp.before.max.ms",
            LONG_MAX,
            "How far a record's timestamp may be behind the leader's clock. Without effect for LogAppendTime.",
            "log.message.timestamp.before.max.ms",
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
            "min.cleanable.dirty.ratio",
            SettingType.DOUBLE,
            "0.5",
            "Compaction begins when more than this part of the log, without its active segment, is not compacted.",
            "log.cleaner.min.cleanable.ratio",
            most=1,
        ),
        _long(
            MIN_COMPACTION_LAG,
            0,
            "Shortest time that a record stays before compaction may remove it.",
            "log.cleaner.min.compaction.lag.ms",
        ),
        _number(
            MIN_INSYNC_REPLICAS,
            1,
            "Least number of in-sync replicas for a commit; never more than a partition has replicas.",
            MIN_INSYNC_REPLICAS,
            least=1,
        ),
        Setting(
            "preallocate",
            SettingType.BOOLEAN,
            "false",
            "Kept and shown, without effect: segments grow as they are written.",
            "log.preallocate",
        ),
        _long(
            COMPACTION_REQUEST,
            0,
            "Each replica that has not met this request yet compacts all it has now, however clean it is. `quorumlog topics "
            "compact` puts the time there, in ms; any number that was not there before does.",
            "",
        ),
        _number(
            "quorumlog.dedup.ids.max",
            1_000_000,
            "How many event ids a partition remembers at most, of those within quorumlog.dedup.window.ms; some 150 bytes of "
            "memory each. Beyond, the oldest are forgotten early, which is counted and logged.",
            "",
            least=1,
            most=10_000_000,
        ),
        Setting(
            "quorumlog.dedup.window.ms",
            SettingType.LONG,
            "0",
            "A record whose header event-id was seen in its partition within this time is dropped and acknowledged, with the "
            "offset of the first one; 0 looks for none. Records of transactions are not looked at.",
            "",
            most=7 * 24 * 3600 * 1000,
        ),
        Setting(
            "remote.storage.enable",
            SettingType.BOOLEAN,
            "false",
            "Tiered storage is not offered: only false is taken.",
            "",
            not_yet=("true",),
        ),
        *(
            Setting(
                f"remote.log.{name}",
                SettingType.BOOLEAN,
                "false",
                "Of tiered storage, which is not offered: without effect.",
                "",
            )
            for name in ("copy.disable", "delete.on.disable")
        ),
        _long(
            "retention.bytes",
            -1,
            "Old segments are deleted while a partition is larger than this; -1 is no limit.",
            "log.retention.bytes",
            least=-LONG_MAX - 1,
        ),
        _long(
            "retention.ms",
            604_800_000,
            "Segments are deleted when their newest record is older than this; -1 is no limit.",
            "log.retention.ms",
            bare=True,
            least=-1,
        ),
        _number(
            "segment.bytes",
            1 << 30,
            "A segment is closed, and the next begun, before it grows over this.",
            "log.segment.bytes",
            least=1 << 20,
        ),
        _number(
            "segment.index.bytes",
            10 << 20,
            "A segment is closed when it has an eighth as many index entries as this: entries take 8 bytes in Kafka's files.",
            "log.index.size.max.bytes",
            least=4,
        ),
        _long(
            "segment.jitter.ms",
            0,
            "segment.ms is shortened by a part of this, another one for each segment, so that not all end together.",
            "log.roll.jitter.ms",
            bare=True,
        ),
        _long(
            "segment.ms",
            604_800_000,
            "A segment is closed when its first record is older than this.",
            "log.roll.ms",
            bare=True,
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

OBEYED = tuple((field.name, TOPIC_SETTINGS[field.name.replace("_", ".")]) for field in fields(TopicConfig))


def effective_topic_config(
    image: Image, topic: str, broker_defaults: Mapping[str, str], node_id: int | None = None
) -> TopicConfig:
    """The settings that count for a topic on this broker (`node_id`), or wherever no broker has a value of its own.

    Some dozens of look-ups and conversions: keep the result until the next ConfigRecord rather than asking for each request.
    """
    values: dict[str, Any] = {name: topic_value(setting, image, topic, broker_defaults, node_id) for name, setting in OBEYED}
    return TopicConfig(**values)


def topic_value(
    setting: Setting, image: Image, topic: str, broker_defaults: Mapping[str, str], node_id: int | None = None
) -> Value:
    return setting.value_of(next(layers(setting, image, broker_defaults, topic=topic, node_id=node_id)).value)


def check_topic_config(image: Image, topic: str, broker_defaults: Mapping[str, str]) -> None:
    """What holds between settings. Raises INVALID_CONFIG."""
    least, most = (
        int(topic_value(TOPIC_SETTINGS[name], image, topic, broker_defaults)) for name in (MIN_COMPACTION_LAG, MAX_COMPACTION_LAG)
    )
    if least > most:
        raise ClusterError(ErrorCode.invalid_config, f"{MIN_COMPACTION_LAG} is {least}, more than {MAX_COMPACTION_LAG}, {most}")


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
