"""The settings of consumer groups and of their coordinators, as the code that obeys them reads them."""

from dataclasses import dataclass

from .settings import INT_MAX


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
