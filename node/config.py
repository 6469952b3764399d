"""One node's settings: read once, checked in one place, frozen.

Sources, later ones win: defaults < TOML file < environment (`QUORUMLOG_` + the name in capitals) < arguments
(`--set name=value`). Names carry their unit. `docs/configuration.md` lists the same table.
"""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quorumlog.metadata.broker_config import BROKER_SETTINGS
from quorumlog.metadata.group_config import COORDINATOR_SETTINGS, check_coordinator_config
from quorumlog.metadata.settings import SettingType
from quorumlog.wire.errors import ClusterError

ENVIRONMENT_PREFIX = "QUORUMLOG_"
LEADER_SELECTOR = "org.apache.kafka.common.replica.LeaderSelector"
RACK_AWARE_SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it, what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def setting(
    doc: str, default: Any = dataclasses.MISSING, *, least: int | None = None, choices: Sequence[str] = (), kafka: str = ""
) -> Any:
    """A field with its description, its bounds, and the name that Kafka has for it if that is in the table of brokers."""
    metadata = {"doc": doc, "least": least, "choices": tuple(choices), "kafka": kafka}
    if default is dataclasses.MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def of_coordinators(name: str) -> Any:
    """A field as the table of coordinators' settings has it."""
    known = COORDINATOR_SETTINGS[name]
    is_number = known.type in (SettingType.INT, SettingType.SHORT, SettingType.LONG)
    default = int(known.default) if is_number else known.default
    return setting(known.documentation, default, least=known.least if is_number else None, kafka=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    node_id: int = setting("This node's id, unique in the cluster.", least=0)
    cluster_id: str = setting("The cluster's name; nodes of another cluster are refused.")
    data_dir: str = setting("Where this node keeps everything. It must have been formatted.")
    voters: str = setting("The metadata quorum: `id@host:peer_port` of each voter, separated by commas.")
    kafka_listen: str = setting("Where Kafka clients are accepted, `host:port`.", "127.0.0.1:19092")
    kafka_advertised: str = setting("How clients reach this node, `host:port`; by default as it listens.", "")
    peer_listen: str = setting("Where other nodes are accepted (gRPC), `host:port`.", "127.0.0.1:19192")
    peer_advertised: str = setting("How other nodes reach this one, `host:port`; by default as it listens.", "")
    http_listen: str = setting("Where /healthz, /readyz and /metrics are served, `host:port`.", "127.0.0.1:19292")
    certs_dir: str = setting(
        "Directory with ca.pem, node-<id>.pem and node-<id>.key for TLS between nodes; without it, loopback only.", ""
    )
    rack: str = setting("Where the node stands; replicas of a partition are spread over racks.", "")
    log_level: str = setting("Least severity that is logged.", "info", choices=("debug", "info", "warning", "error"))
    log_format: str = setting("How log lines look.", "text", choices=("text", "json"))

    session_timeout_ms: int = setting(
        "A broker that the controller has not heard of for so long is fenced.",
        2_000,
        least=200,
        kafka="broker.session.timeout.ms",
    )
    heartbeat_interval_ms: int = setting(
        "How often a broker tells the controller that it lives.", 300, least=20, kafka="broker.heartbeat.interval.ms"
    )
    election_timeout_min_ms: int = setting(
        "A voter that misses the leader for a time between this and the next one stands for election.", 500, least=50
    )
    election_timeout_max_ms: int = setting("See election_timeout_min_ms.", 1_000, least=60)
    raft_heartbeat_ms: int = setting("How often the quorum's leader shows that it lives.", 100, least=10)
    snapshot_every_entries: int = setting("Metadata log entries between two snapshots.", 5_000, least=10)
    leader_rebalance_interval_s: int = setting(
        "How often leadership is given back to preferred replicas; 0 never.",
        300,
        least=0,
        kafka="leader.imbalance.check.interval.seconds",
    )

    num_partitions: int = setting("Partitions of a topic that is created without a number.", 1, least=1, kafka="num.partitions")
    default_replication_factor: int = setting(
        "Replicas of a topic that is created without a number; 0: three, or all nodes if fewer.", 0, least=0
    )
    min_insync_replicas: int = setting(
        "Least in-sync replicas for a commit, where a topic says nothing; never more than a topic has replicas.",
        2,
        least=1,
        kafka="min.insync.replicas",
    )
    auto_create_topics: bool = setting(
        "Create a topic when a client asks for the metadata of an unknown one.", True, kafka="auto.create.topics.enable"
    )

    flush_policy: str = setting(
        "When a record counts as stored: `fsync` on disk, `os` in the page cache.", "fsync", choices=("fsync", "os")
    )
    segment_bytes: int = setting(
        "Size at which a topic's segment is rolled, where the topic says nothing.", 1 << 30, least=1024, kafka="log.segment.bytes"
    )
    index_interval_bytes: int = setting(
        "Bytes of log between two index entries, where the topic says nothing.", 4096, least=0, kafka="log.index.interval.bytes"
    )
    message_max_bytes: int = setting(
        "Largest record batch, where a topic says nothing.", 1_048_588, least=0, kafka="message.max.bytes"
    )
    replica_lag_time_max_ms: int = setting(
        "A follower behind for longer leaves the in-sync set.", 10_000, least=100, kafka="replica.lag.time.max.ms"
    )
    retention_check_interval_ms: int = setting(
        "How often retention and segment age are looked at.", 30_000, least=100, kafka="log.retention.check.interval.ms"
    )
    log_cleaner_backoff_ms: int = setting(
        "How often logs to compact are looked for.", 15_000, least=0, kafka="log.cleaner.backoff.ms"
    )
    log_cleaner_dedupe_buffer_size: int = setting(
        "Bytes for the keys of logs that are being compacted; more keys take more passes.",
        128 << 20,
        least=1 << 10,
        kafka="log.cleaner.dedupe.buffer.size",
    )
    checkpoint_interval_bytes: int = setting(
        "Bytes of a partition's log between two checkpoints of its index and producers; the next start reads what is behind. "
        "What is written is in a checkpoint after some 5 s in any case.",
        16 << 20,
        least=4096,
    )

    group_min_session_timeout_ms: int = of_coordinators("group.min.session.timeout.ms")
    group_max_session_timeout_ms: int = of_coordinators("group.max.session.timeout.ms")
    group_max_size: int = of_coordinators("group.max.size")
    group_initial_rebalance_delay_ms: int = of_coordinators("group.initial.rebalance.delay.ms")
    group_consumer_session_timeout_ms: int = of_coordinators("group.consumer.session.timeout.ms")
    group_consumer_min_session_timeout_ms: int = of_coordinators("group.consumer.min.session.timeout.ms")
    group_consumer_max_session_timeout_ms: int = of_coordinators("group.consumer.max.session.timeout.ms")
    group_consumer_heartbeat_interval_ms: int = of_coordinators("group.consumer.heartbeat.interval.ms")
    group_consumer_min_heartbeat_interval_ms: int = of_coordinators("group.consumer.min.heartbeat.interval.ms")
    group_consumer_max_heartbeat_interval_ms: int = of_coordinators("group.consumer.max.heartbeat.interval.ms")
    group_consumer_max_size: int = of_coordinators("group.consumer.max.size")
    group_consumer_assignors: str = of_coordinators("group.consumer.assignors")
    group_consumer_migration_policy: str = of_coordinators("group.consumer.migration.policy")
    group_consumer_regex_refresh_interval_ms: int = of_coordinators("group.consumer.regex.refresh.interval.ms")
    offset_metadata_max_bytes: int = of_coordinators("offset.metadata.max.bytes")
    offsets_retention_minutes: int = of_coordinators("offsets.retention.minutes")
    offsets_retention_check_interval_ms: int = of_coordinators("offsets.retention.check.interval.ms")
    offsets_commit_timeout_ms: int = of_coordinators("offsets.commit.timeout.ms")
    offsets_topic_num_partitions: int = of_coordinators("offsets.topic.num.partitions")
    offsets_topic_replication_factor: int = setting(
        "Replicas of __consumer_offsets, when it is created; 0: three, or all nodes if fewer.", 0, least=0
    )
    offsets_topic_segment_bytes: int = of_coordinators("offsets.topic.segment.bytes")

    transaction_max_timeout_ms: int = setting(
        "Longest time that a producer may ask for its transactions; those that take longer are aborted.",
        900_000,
        least=1,
        kafka="transaction.max.timeout.ms",
    )
    transactional_id_expiration_ms: int = setting(
        "A transactional id that nobody has used for so long is forgotten.",
        604_800_000,
        least=1,
        kafka="transactional.id.expiration.ms",
    )
    transactional_id_expiration_check_interval_ms: int = setting(
        "How often transactional ids that nobody uses are looked for.",
        3_600_000,
        least=1,
        kafka="transaction.remove.expired.transaction.cleanup.interval.ms",
    )
    transaction_state_log_num_partitions: int = setting(
        "Partitions of __transaction_state, when it is created.", 50, least=1, kafka="transaction.state.log.num.partitions"
    )
    transaction_state_log_replication_factor: int = setting(
        "Replicas of __transaction_state, when it is created; 0: three, or all nodes if fewer.", 0, least=0
    )
    transaction_state_log_segment_bytes: int = setting(
        "Size at which segments of __transaction_state are rolled.",
        104_857_600,
        least=1024,
        kafka="transaction.state.log.segment.bytes",
    )

    request_bytes_max: int = setting("Largest request.", 100 << 20, least=1024, kafka="socket.request.max.bytes")
    request_bytes_total_max: int = setting("Requests held in memory, all connections together.", 512 << 20, least=1 << 20)
    response_bytes_total_max: int = setting(
        "Answers held in memory until clients take them, all connections together.", 512 << 20, least=1 << 20
    )
    connections_max: int = setting("Client connections.", 10_000, least=1, kafka="max.connections")
    connection_idle_max_ms: int = setting(
        "A client connection that is silent for so long is closed.", 600_000, least=1_000, kafka="connections.max.idle.ms"
    )
    pipelined_requests_max: int = setting("Requests of one connection in work at once.", 1_000, least=1)
    fetch_bytes_max: int = setting("Most bytes of records in one fetch response.", 55 << 20, least=1024, kafka="fetch.max.bytes")
    fetch_sessions_max: int = setting(
        "Fetch sessions of consumers that are kept; who gets none names all its partitions in each request.",
        1_000,
        least=0,
        kafka="max.incremental.fetch.session.cache.slots",
    )
    replica_selector_class: str = setting(
        "Which replica a consumer reads from: the leader, or one that is in sync in the consumer's own rack.",
        "",
        choices=("", LEADER_SELECTOR, RACK_AWARE_SELECTOR),
        kafka="replica.selector.class",
    )
    replication_message_bytes: int = setting("Records per message to a follower.", 1 << 20, least=4096)
    replication_ping_ms: int = setting("A follower shows at least this often that its stream lives.", 500, least=10)
    shutdown_timeout_ms: int = setting("Longest wait for handing over leadership at a clean stop.", 10_000, least=0)

    @property
    def voter_addresses(self) -> dict[int, Address]:
        return parse_voters(self.voters)

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.voter_addresses

    @property
    def kafka_address(self) -> Address:
        return parse_address("kafka_advertised", self.kafka_advertised or self.kafka_listen)

    @property
    def peer_address(self) -> Address:
        return parse_address("peer_advertised", self.peer_advertised or self.peer_listen)

    @property
    def replication_factor_default(self) -> int:
        return self.default_replication_factor or min(3, len(self.voter_addresses))

    @property
    def offsets_replication_factor(self) -> int:
        return self.offsets_topic_replication_factor or min(3, len(self.voter_addresses))

    @property
    def transactions_replication_factor(self) -> int:
        return self.transaction_state_log_replication_factor or min(3, len(self.voter_addresses))

    @property
    def broker_defaults(self) -> Mapping[str, str]:
        """These settings under Kafka's names, where they are not Kafka's defaults: what the tables of configs count as static."""
        return _broker_defaults(self)


@lru_cache(maxsize=16)  # asked for with each request
def _broker_defaults(config: NodeConfig) -> Mapping[str, str]:
    values = {
        "node.id": str(config.node_id),
        "broker.id": str(config.node_id),
        "broker.rack": config.rack,
        "listeners": f"PLAINTEXT://{config.kafka_listen}",
        "advertised.listeners": f"PLAINTEXT://{config.kafka_address}",
        "log.dir": config.data_dir,
        "log.dirs": config.data_dir,
        "process.roles": "broker,controller" if config.is_voter else "broker",
        "controller.quorum.voters": config.voters,
        "default.replication.factor": str(config.replication_factor_default),
        "offsets.topic.replication.factor": str(config.offsets_replication_factor),
        "transaction.state.log.replication.factor": str(config.transactions_replication_factor),
        "auto.leader.rebalance.enable": _text(config.leader_rebalance_interval_s > 0),
        **{spec.metadata["kafka"]: _text(getattr(config, spec.name)) for spec in fields(NodeConfig) if spec.metadata["kafka"]},
    }
    return MappingProxyType({name: value for name, value in values.items() if value != BROKER_SETTINGS[name].default})


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_address(name: str, text: str) -> Address:
    """`host:port`. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"{name} is {text!r}; expected host:port")
    return Address(host.strip("[]"), int(port))


def parse_voters(text: str) -> dict[int, Address]:
    """`1@host:port,2@host:port`. Raises ConfigError."""
    voters: dict[int, Address] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        node_id, at, address = part.partition("@")
        if not at or not node_id.isdigit():
            raise ConfigError(f"voters has {part!r}; expected id@host:port")
        if int(node_id) in voters:
            raise ConfigError(f"voters names node {node_id} twice")
        voters[int(node_id)] = parse_address("voters", address)
    if len(voters) % 2 == 0:
        raise ConfigError(f"voters names {len(voters)} nodes; a quorum has an odd number, usually 3 or 5")
    return voters


def load_config(
    *, file: str | None = None, environment: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> NodeConfig:
    """Settings from all sources. Raises ConfigError for an unknown name, a wrong type or a value out of bounds."""
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_read_file(file))
    known = {spec.name: spec for spec in fields(NodeConfig)}
    for name in known:
        text = (environment if environment is not None else os.environ).get(ENVIRONMENT_PREFIX + name.upper())
        if text is not None:
            values[name] = text
    values.update(overrides or {})
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}; known are {', '.join(sorted(known))}")
    for name, spec in known.items():
        if name not in values and spec.default is dataclasses.MISSING:
            raise ConfigError(f"{name} is not set: {spec.metadata['doc']}")
    config = NodeConfig(**{name: _convert(known[name], value) for name, value in values.items()})
    _check_together(config)
    return config


def _read_file(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _convert(spec: "dataclasses.Field[Any]", value: Any) -> Any:
    kinds = {int: _to_int, bool: _to_bool, str: str}
    try:
        converted = kinds[spec.type](value)  # type: ignore[index, operator]
    except ValueError:
        raise ConfigError(f"{spec.name} is {value!r}; expected {spec.type.__name__}") from None  # type: ignore[union-attr]
    least, choices = spec.metadata["least"], spec.metadata["choices"]
    if least is not None and converted < least:
        raise ConfigError(f"{spec.name} is {converted}; the least allowed is {least}")
    if choices and converted not in choices:
        raise ConfigError(f"{spec.name} is {converted!r}; allowed are {', '.join(choices)}")
    return converted


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    return int(str(value).replace("_", ""))


def _to_bool(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _check_together(config: NodeConfig) -> None:
    parse_voters(config.voters)
    for name in ("kafka_listen", "peer_listen", "http_listen"):
        parse_address(name, getattr(config, name))
    if config.election_timeout_max_ms <= config.election_timeout_min_ms:
        raise ConfigError(
            f"election_timeout_max_ms is {config.election_timeout_max_ms}; it must be more than "
            f"election_timeout_min_ms, which is {config.election_timeout_min_ms}"
        )
    _check_kafka_bounds(config)
    if config.session_timeout_ms < 2 * config.heartbeat_interval_ms:
        raise ConfigError(
            f"session_timeout_ms is {config.session_timeout_ms}; it must be at least twice heartbeat_interval_ms, "
            f"which is {config.heartbeat_interval_ms}"
        )


def _check_kafka_bounds(config: NodeConfig) -> None:
    """Coordinators' settings as their table demands, and each group setting between its bounds. Raises ConfigError."""
    try:
        check_coordinator_config(config.broker_defaults)
    except ClusterError as error:
        raise ConfigError(error.message) from error
