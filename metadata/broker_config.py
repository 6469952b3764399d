"""The settings of brokers that can be seen, and mostly altered, while they run. The defaults of topics are among them.

Read-only ones come from each node's own configuration and are shown here under Kafka's names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .group_config import COORDINATOR_SETTINGS
from .image import CLUSTER_DEFAULT, Image
from .settings import (
    DOUBLE_MAX,
    INT_MAX,
    LONG_MAX,
    ConfigDescription,
    Setting,
    SettingSource,
    SettingType,
    Synonym,
    describe_setting,
    layers,
    selected,
    table_of,
)
from .topic_config import MIN_INSYNC_REPLICAS, TOPIC_SETTINGS, UNCLEAN_LEADER_ELECTION, check_topic_config

# What the controller decides by must be the same for every broker (KIP-966 demands it of the first).
CLUSTER_ONLY = (MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION)


def _default_of_topics(setting: Setting) -> Setting:
    name = setting.broker_name
    return replace(setting, name=name, cluster_only=name in CLUSTER_ONLY)


def _rate(who: str) -> Setting:
    name = f"{who}.replication.throttled.rate"
    documentation = f"Bytes a second that replicas in {who}.replication.throttled.replicas may take together."
    return Setting(name, SettingType.LONG, str(LONG_MAX), documentation, name)


def _cleaner(name: str, kind: SettingType, default: str, documentation: str, *, least: int = 0, most: int = LONG_MAX) -> Setting:
    return Setting(name, kind, default, documentation, name, least=least, most=most)


def _fixed(
    name: str, kind: SettingType, default: str, documentation: str, *, least: int = 0, most: int = INT_MAX, bare: bool = False
) -> Setting:
    return Setting(
        name,
        kind,
        default,
        documentation,
        name,
        least=least,
        most=LONG_MAX if kind is SettingType.LONG else most,
        pattern=".*",
        form="any text",
        read_only=True,
        bare=bare,
    )


BOOLEAN, STRING, INT, LONG, LIST, DOUBLE = (
    SettingType.BOOLEAN,
    SettingType.STRING,
    SettingType.INT,
    SettingType.LONG,
    SettingType.LIST,
    SettingType.DOUBLE,
)

BROKER_SETTINGS = table_of(
    [
        *map(_default_of_topics, (setting for setting in TOPIC_SETTINGS.values() if setting.broker_name)),
        *COORDINATOR_SETTINGS.values(),
        _rate("leader"),
        _rate("follower"),
        Setting(
            "replica.alter.log.dirs.io.max.bytes.per.second",
            SettingType.LONG,
            str(LONG_MAX),
            "Kept and shown, without effect: a node has one directory, between none can anything be moved.",
            "replica.alter.log.dirs.io.max.bytes.per.second",
            least=1,
        ),
        _cleaner("log.cleaner.threads", INT, "1", "Logs of a node that are compacted at the same time.", most=INT_MAX),
        _cleaner(
            "log.cleaner.dedupe.buffer.size",
            LONG,
            "134217728",
            "Bytes for the keys that all compactions of a node may hold at a time, 24 each; more keys take more passes.",
        ),
        _cleaner("log.cleaner.io.buffer.load.factor", DOUBLE, "0.9", "How full that memory may be.", most=1),
        _cleaner(
            "log.cleaner.io.buffer.size",
            INT,
            "524288",
            "Kept and shown, without effect: a compaction reads a mebibyte at a time.",
            most=INT_MAX,
        ),
        _cleaner(
            "log.cleaner.io.max.bytes.per.second",
            DOUBLE,
            "1.7976931348623157E308",
            "Bytes a second that a compaction may read and write, both counted; it has the lowest priority anyhow.",
            least=1,
            most=DOUBLE_MAX,
        ),
        _cleaner("log.cleaner.backoff.ms", LONG, "15000", "How often a node looks for logs to compact when it has none."),
        _fixed("log.cleaner.enable", BOOLEAN, "true", "Kept and shown: topics with cleanup.policy=compact are compacted."),
        _fixed("advertised.listeners", LIST, "", "How clients reach this node.", bare=True),
        _fixed("auto.create.topics.enable", BOOLEAN, "true", "Whether asking for the metadata of an unknown topic creates it."),
        _fixed("auto.leader.rebalance.enable", BOOLEAN, "true", "Whether leadership is given back to preferred replicas."),
        _fixed("broker.heartbeat.interval.ms", INT, "2000", "How often a broker tells the controller that it lives."),
        _fixed("broker.id", INT, "-1", "This node's id.", least=-1),
        _fixed("broker.rack", STRING, "", "Where the node stands.", bare=True),
        _fixed("broker.session.timeout.ms", INT, "9000", "A broker that the controller has not heard of for so long is fenced."),
        _fixed("connections.max.idle.ms", LONG, "600000", "A client connection that is silent for so long is closed."),
        _fixed("controller.quorum.voters", LIST, "", "The metadata quorum, as nodes reach it."),
        _fixed("default.replication.factor", INT, "1", "Replicas of a topic that is created without a number.", least=1),
        _fixed("delete.topic.enable", BOOLEAN, "true", "Whether topics can be deleted."),
        _fixed("fetch.max.bytes", INT, "57671680", "Most bytes of records in one fetch response.", least=1024),
        _fixed("leader.imbalance.check.interval.seconds", LONG, "300", "How often leadership is given back."),
        _fixed("listeners", LIST, "", "Where clients are accepted."),
        _fixed("log.dir", LIST, "", "Where this node keeps everything."),
        _fixed("log.dirs", LIST, "", "Where this node keeps everything.", bare=True),
        _fixed("log.retention.check.interval.ms", LONG, "300000", "How often retention and segment age are looked at.", least=1),
        _fixed("max.connections", INT, str(INT_MAX), "Client connections."),
        _fixed("max.incremental.fetch.session.cache.slots", INT, "1000", "Fetch sessions of consumers that a broker keeps."),
        _fixed("node.id", INT, "-1", "This node's id.", least=-1, bare=True),
        _fixed("num.partitions", INT, "1", "Partitions of a topic that is created without a number.", least=1),
        _fixed(
            "process.roles",
            LIST,
            "broker",
            "Whether this node takes part in the metadata quorum, besides holding partitions.",
            bare=True,
        ),
        _fixed("replica.lag.time.max.ms", LONG, "30000", "A follower that is behind for longer leaves the in-sync set."),
        _fixed(
            "replica.selector.class", STRING, "", "Which replica a consumer reads from; without a class, the leader.", bare=True
        ),
        _fixed("socket.request.max.bytes", INT, "104857600", "Largest request.", least=1),
        _fixed(
            "transaction.max.timeout.ms", INT, "900000", "Longest time that a producer may ask for its transactions.", least=1
        ),
        _fixed(
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            INT,
            "3600000",
            "How often transactional ids that nobody uses are looked for.",
            least=1,
        ),
        _fixed("transaction.state.log.num.partitions", INT, "50", "Partitions of __transaction_state.", least=1),
        _fixed("transaction.state.log.replication.factor", INT, "3", "Replicas of __transaction_state.", least=1),
        _fixed("transaction.state.log.segment.bytes", INT, "104857600", "Size of segments of __transaction_state.", least=1024),
        _fixed(
            "transactional.id.expiration.ms",
            INT,
            "604800000",
            "A transactional id that nobody has used for so long is forgotten.",
            least=1,
        ),
    ]
)


def broker_value(image: Image, name: str, broker_defaults: Mapping[str, str], node_id: int | None = None) -> str:
    """The text of the value that counts for this broker, or for all."""
    return next(layers(BROKER_SETTINGS[name], image, broker_defaults, topic=None, node_id=node_id)).value


def check_broker_config(image: Image, broker_defaults: Mapping[str, str]) -> None:
    """What holds between the defaults of topics, as all brokers have them. Raises INVALID_CONFIG."""
    check_topic_config(image, "", broker_defaults)


def describe_broker_config(
    image: Image,
    node_id: int | None,
    broker_defaults: Mapping[str, str],
    *,
    names: Iterable[str] | None = None,
) -> list[ConfigDescription]:
    """The entries of DescribeConfigs for one broker; for all brokers (None) only what was set for all of them, as Kafka does."""
    if node_id is None:
        given: Mapping[str, str] = image.broker_configs.get(CLUSTER_DEFAULT, {})
        return [
            describe_setting(setting, (Synonym(setting.name, given[setting.name], SettingSource.ALL_BROKERS),))
            for setting in selected(BROKER_SETTINGS, names)
            if setting.name in given
        ]
    return [
        describe_setting(setting, layers(setting, image, broker_defaults, topic=None, node_id=node_id))
        for setting in selected(BROKER_SETTINGS, names)
    ]
