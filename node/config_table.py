"""All settings as a table for people: `docs/configuration.md` is written from here, and a test holds it to that."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from quorumlog.metadata.broker_config import BROKER_SETTINGS, CLUSTER_ONLY
from quorumlog.metadata.group_config import GROUP_SETTINGS
from quorumlog.metadata.settings import Setting
from quorumlog.metadata.topic_config import TOPIC_SETTINGS

from .config import ENVIRONMENT_PREFIX, NodeConfig

HEAD = """# Configuration

Written by `python -m quorumlog.node settings > docs/configuration.md`; do not edit.

## Nodes

In the TOML file by name, in the environment as `{prefix}` and the name in capitals, as an argument `--set name=value`. Later ones
win: default, file, environment, argument.

| Setting | Default | Allowed | Meaning |
|---|---|---|---|
"""

TOPICS = """
## Topics

Kafka's names and meanings. Given when a topic is created, or changed while it runs (`kafka-configs --entity-type topics`). Where
a topic says nothing, the broker's value counts (by the name in the last column), dynamic ones first.

| Setting | Default | Allowed | Meaning | At the broker |
|---|---|---|---|---|
"""

GROUPS = """
## Groups

Changed while the group lives, or before (`kafka-configs --entity-type groups`). Where a group says nothing, its coordinator's
value counts.

| Setting | Default | Allowed | Meaning | At the broker |
|---|---|---|---|---|
"""

BROKERS = """
## Brokers, while they run

Changed for all brokers, or for one (`kafka-configs --entity-type brokers`): the defaults of topics, by the names in the table of
topics, and these. `{cluster_only}` can be changed for all brokers only.

| Setting | Default | Allowed | Meaning |
|---|---|---|---|
"""

FIXED = """
## Brokers, as they were started

Shown by `DescribeConfigs`, but read when a node starts: set what stands in the last column, in the way of the first table.

| Setting | Default | Meaning | Node setting |
|---|---|---|---|
"""


def render() -> str:
    """The whole page, in Markdown."""
    return "".join(
        (
            HEAD.format(prefix=ENVIRONMENT_PREFIX),
            _rows(map(_node_row, dataclasses.fields(NodeConfig))),
            TOPICS,
            _rows(map(_inherited_row, TOPIC_SETTINGS.values())),
            GROUPS,
            _rows(map(_inherited_row, GROUP_SETTINGS.values())),
            BROKERS.format(cluster_only="` and `".join(CLUSTER_ONLY)),
            _rows(_row(setting) for setting in BROKER_SETTINGS.values() if not setting.read_only and not _is_topics(setting)),
            FIXED,
            _rows(_fixed_row(setting) for setting in BROKER_SETTINGS.values() if setting.read_only),
        )
    )


def _rows(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


def _is_topics(setting: Setting) -> bool:
    return any(setting.name == topics.broker_name for topics in TOPIC_SETTINGS.values())


def _node_row(spec: "dataclasses.Field[Any]") -> str:
    default = "required" if spec.default is dataclasses.MISSING else f"`{_text(spec.default)}`" if spec.default != "" else ""
    return f"| `{spec.name}` | {default} | {', '.join(_allowed(spec))} | {spec.metadata['doc']} |"


def _allowed(spec: "dataclasses.Field[Any]") -> Iterator[str]:
    yield from (f"`{choice}`" for choice in spec.metadata["choices"])
    if spec.metadata["least"] is not None:
        yield f"at least {spec.metadata['least']}"
    if spec.type is bool:
        yield "`true`, `false`"


def _inherited_row(setting: Setting) -> str:
    return f"{_row(setting)} {_code(setting.broker_name)} |"


def _row(setting: Setting) -> str:
    return f"| `{setting.name}` | {_code(setting.default)} | {setting.allowed} | {setting.documentation} |"


def _fixed_row(setting: Setting) -> str:
    node_names = [spec.name for spec in dataclasses.fields(NodeConfig) if spec.metadata["kafka"] == setting.name]
    return f"| `{setting.name}` | {_code(setting.default)} | {setting.documentation} | {_code(''.join(node_names))} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
