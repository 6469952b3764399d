"""The settings of one topic, as the code that obeys them reads them, and the table of their names, defaults and bounds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """Kafka's topic settings that we implement, in Kafka's meaning; -1 is "no limit"."""

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
