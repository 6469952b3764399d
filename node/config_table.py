"""All settings as a table for people: `docs/configuration.md` is written from here, and a test holds it to that."""

import dataclasses
from collections.abc import Iterator
from typing import Any

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

Kafka's names and meanings. Given when a topic is created, or changed while it runs (`IncrementalAlterConfigs`). Where a topic
says nothing, the broker's value counts (by the name in the last column), dynamic ones first.

| Setting | Default | Allowed | Meaning | At the broker |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole page, in Markdown."""
    nodes = "\n".join(_node_row(spec) for spec in dataclasses.fields(NodeConfig))
    topics = "\n".join(_topic_row(setting) for setting in TOPIC_SETTINGS.values())
    return HEAD.format(prefix=ENVIRONMENT_PREFIX) + nodes + "\n" + TOPICS + topics + "\n"


def _node_row(spec: "dataclasses.Field[Any]") -> str:
    default = "required" if spec.default is dataclasses.MISSING else f"`{_text(spec.default)}`" if spec.default != "" else ""
    return f"| `{spec.name}` | {default} | {', '.join(_allowed(spec))} | {spec.metadata['doc']} |"


def _allowed(spec: "dataclasses.Field[Any]") -> Iterator[str]:
    yield from (f"`{choice}`" for choice in spec.metadata["choices"])
    if spec.metadata["least"] is not None:
        yield f"at least {spec.metadata['least']}"
    if spec.type is bool:
        yield "`true`, `false`"


def _topic_row(setting: Setting) -> str:
    return f"| `{setting.name}` | `{setting.default}` | {setting.allowed} | {setting.documentation} | `{setting.broker_name}` |"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
