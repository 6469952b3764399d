"""The settings of brokers that can be seen, and mostly altered, while they run. The defaults of topics are among them.

Read-only ones come from each node's own configuration and are shown here under Kafka's names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .image import CLUSTER_DEFAULT, Image
from .settings import (
    INT_MAX,
    ConfigDescription,
    Setting,
    SettingType,
    describe_setting,
    layers,
    selected,
    table_of,
)
from .topic_config import MIN_INSYNC_REPLICAS, TOPIC_SETTINGS, UNCLEAN_LEADER_ELECTION

# What the controller decides by must be the same for every broker (KIP-966 demands it of the first).
CLUSTER_ONLY = (MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION)


def _default_of_topics(setting: Setting) -> Setting:
    name = setting.broker_name
    return replace(setting, name=name, cluster_only=name in CLUSTER_ONLY)


def _read_only(name: str, kind: SettingType, default: str, documentation: str, least: int = 0) -> Setting:
    return Setting(name, kind, default, documentation, name, least=least, most=INT_MAX, read_only=True)


BROKER_SETTINGS = table_of(
    [
        *map(_default_of_topics, TOPIC_SETTINGS.values()),
        _read_only(
            "auto.create.topics.enable",
            SettingType.BOOLEAN,
            "true",
            "Whether asking for the metadata of an unknown topic creates it.",
        ),
        _read_only("num.partitions", SettingType.INT, "1", "Partitions of a topic that is created without a number.", least=1),
        _read_only(
            "default.replication.factor",
            SettingType.INT,
            "1",
            "Replicas of a topic that is created without a number.",
            least=1,
        ),
        _read_only(
            "replica.lag.time.max.ms",
            SettingType.LONG,
            "30000",
            "A follower that is behind for longer leaves the in-sync set.",
        ),
    ]
)


def broker_value(image: Image, name: str, broker_defaults: Mapping[str, str], node_id: int | None = None) -> str:
    """The text of the value that counts for this broker, or for all."""
    return next(layers(BROKER_SETTINGS[name], image, broker_defaults, topic=None, node_id=node_id)).value


def describe_broker_config(
    image: Image,
    node_id: int | None,
    broker_defaults: Mapping[str, str],
    *,
    names: Iterable[str] | None = None,
) -> list[ConfigDescription]:
    """The entries of DescribeConfigs for one broker; for all brokers (None) only what was set for all of them, as Kafka does."""
    given: Mapping[str, str] = image.broker_configs.get(CLUSTER_DEFAULT, {})
    return [
        describe_setting(setting, layers(setting, image, broker_defaults, topic=None, node_id=node_id))
        for setting in selected(BROKER_SETTINGS, names)
        if node_id is not None or setting.name in given
    ]
