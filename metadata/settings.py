"""What a setting is: a name, a type, a default, bounds, a sentence, and the layers that its value comes from.

A topic's value is the first that is given of: the topic itself, this broker, all brokers (both dynamic, in the image), this
broker's static configuration, the default. `topic_config.py` and `broker_config.py` hold the two tables.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from quorumlog.wire.errors import ClusterError, ErrorCode

from .image import CLUSTER_DEFAULT, Image

Value = int | float | bool | str
LONG_MAX = 2**63 - 1
INT_MAX = 2**31 - 1
DOUBLE_MAX = int(sys.float_info.max)
SHORT_MAX = 2**15 - 1
TEXT_LENGTH_MAX = 64 * 1024
DECIMAL = re.compile(r"[0-9]*\.?[0-9]+([eE]-?[0-9]{1,3})?|[0-9]+\.")


class SettingType(IntEnum):
    """With Kafka's numbers (DescribeConfigs v3)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


class SettingSource(IntEnum):
    """With Kafka's numbers (DescribeConfigs v1)."""

    TOPIC = 1
    BROKER = 2
    ALL_BROKERS = 3
    STATIC = 4
    DEFAULT = 5
    GROUP = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """`broker_name` is what brokers call it, who give its default; for a broker's own setting that is the name itself."""

    name: str
    type: SettingType
    default: str
    documentation: str
    broker_name: str  # "" where only topics have it
    bare: bool = False  # brokers have no value of their own accord: Kafka takes the default from another setting, or does without
    least: int = 0
    most: int = LONG_MAX
    gaps: tuple[int, ...] = ()  # between the bounds, and yet not allowed
    choices: tuple[str, ...] = ()
    may_be_empty: bool = False  # a LIST of choices, of which none needs to be chosen
    pattern: str = ""  # that a STRING, or each part of a LIST, must match where there are no choices
    form: str = ""  # the pattern in words
    not_yet: tuple[str, ...] = ()  # Kafka's values that we do not offer: refused with a sentence of their own
    read_only: bool = False  # cannot be altered while a broker runs
    cluster_only: bool = False  # the controller obeys it: one value for all brokers, or none

    def parse(self, text: str) -> Value:
        """The value in its type. Raises INVALID_CONFIG, naming what is allowed."""
        match self.type:
            case SettingType.INT | SettingType.SHORT | SettingType.LONG:
                return self._parse_number(text)
            case SettingType.DOUBLE:
                return self._parse_fraction(text)
            case SettingType.BOOLEAN:
                return self._parse_truth(text)
            case _:
                return self._parse_choice(text)

    def value_of(self, text: str) -> Value:
        """The value in its type, of a text that was checked before it was stored, or by a node at its start."""
        match self.type:
            case SettingType.INT | SettingType.SHORT | SettingType.LONG:
                return int(text)
            case SettingType.DOUBLE:
                return float(text)
            case SettingType.BOOLEAN:
                return text.strip().lower() == "true"
            case _:
                return text

    @property
    def has_broker_default(self) -> bool:
        return self.broker_name != "" and not self.bare

    @property
    def is_unset_on_brokers(self) -> bool:
        """Whether this is a broker's own setting, of which nothing is told until it is given."""
        return self.bare and self.name == self.broker_name

    @property
    def allowed(self) -> str:
        """What may be given, for people."""
        match self.type:
            case SettingType.INT | SettingType.SHORT | SettingType.LONG:
                gaps = "".join(f", but not {gap}" for gap in self.gaps)
                return f"a whole number from {self.least} to {self.most}{gaps}"
            case SettingType.DOUBLE:
                return f"a number from {self.least}" + (f" to {self.most}" if self.most < DOUBLE_MAX else "")
            case SettingType.BOOLEAN:
                return " or ".join(word for word in ("true", "false") if word not in self.not_yet)
            case _:
                empty = ", or nothing" if self.may_be_empty else ""
                return ", ".join(self.choices) + empty if self.choices else self.form

    def _parse_number(self, text: str) -> int:
        allowed = f"expected {self.allowed}"
        digits = text.strip()
        # Bounded before int(): the cost of converting grows with the square of the digits.
        if len(digits) > 20 or not digits.isascii() or not digits[digits[:1] in ("-", "+") :].isdigit():
            raise self._refusal(text, allowed)
        if not self.least <= int(digits) <= self.most or int(digits) in self.gaps:
            raise self._refusal(text, allowed)
        return int(digits)

    def _parse_truth(self, text: str) -> bool:
        word = text.strip().lower()
        if word in self.not_yet:
            raise self._refusal(text, f"only {self.default} is offered yet")
        if word not in ("true", "false"):
            raise self._refusal(text, f"expected {self.allowed}")
        return word == "true"

    def _parse_fraction(self, text: str) -> float:
        if len(text) > 50 or not DECIMAL.fullmatch(text.strip()) or not self.least <= float(text) <= self.most:
            raise self._refusal(text, f"expected {self.allowed}")
        return float(text)

    def _parse_choice(self, text: str) -> str:
        parts = split_list(text) if self.type is SettingType.LIST else (text.strip(),)
        if not self.choices:
            return self._parse_pattern(text, parts)
        unknown = [part for part in parts if part not in self.choices]
        if any(part in self.not_yet for part in unknown):
            raise self._refusal(text, f"only {', '.join(self.choices)} is offered yet")
        if unknown or not (parts or self.may_be_empty):
            raise self._refusal(text, f"expected {self.allowed}")
        return ",".join(parts)

    def _parse_pattern(self, text: str, parts: tuple[str, ...]) -> str:
        if len(text) > TEXT_LENGTH_MAX or not all(re.fullmatch(self.pattern, part) for part in parts):
            raise self._refusal(text, f"expected {self.form}")
        return ",".join(parts)

    def _refusal(self, seen: str, allowed: str) -> ClusterError:
        return ClusterError(ErrorCode.invalid_config, f"{self.name} is {seen[:100]!r}; {allowed}")


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a list setting, each once, in order."""
    return tuple(dict.fromkeys(part for part in (piece.strip() for piece in text.split(",")) if part))


def table_of(settings: Iterable[Setting]) -> dict[str, Setting]:
    return {setting.name: setting for setting in sorted(settings, key=lambda setting: setting.name)}


def setting_named(table: Mapping[str, Setting], name: str) -> Setting:
    """Raises INVALID_CONFIG for an unknown name, listing the known ones."""
    setting = table.get(name)
    if setting is None:
        raise ClusterError(ErrorCode.invalid_config, f"unknown setting {name[:100]!r}; known are {', '.join(table)}")
    return setting


@dataclass(frozen=True, slots=True)
class Synonym:
    """One layer that gives a value."""

    name: str
    value: str
    source: SettingSource


@dataclass(frozen=True, slots=True)
class ConfigDescription:
    """An entry of DescribeConfigs. `synonyms` lists every layer that has a value of its own, the one that counts first."""

    name: str
    value: str | None
    source: SettingSource
    is_default: bool
    read_only: bool
    sensitive: bool
    synonyms: tuple[Synonym, ...]
    type: SettingType
    documentation: str


def layers(
    setting: Setting, image: Image, broker_defaults: Mapping[str, str], *, topic: str | None, node_id: int | None
) -> Iterator[Synonym]:
    """Every value that is given for a setting, the one that counts first. Without `node_id`, no single broker's is looked at."""
    name = setting.broker_name
    given: list[tuple[str, Mapping[str, str], SettingSource]] = []
    if topic is not None:
        given.append((setting.name, image.topic_configs.get(topic, {}), SettingSource.TOPIC))
    if node_id is not None:
        given.append((name, image.broker_configs.get(str(node_id), {}), SettingSource.BROKER))
    given.append((name, image.broker_configs.get(CLUSTER_DEFAULT, {}), SettingSource.ALL_BROKERS))
    given.append((name, broker_defaults, SettingSource.STATIC))
    yield from (Synonym(key, values[key], source) for key, values, source in given if key in values)
    yield Synonym(name or setting.name, setting.default, SettingSource.DEFAULT)


def describe_setting(setting: Setting, layers_given: Iterable[Synonym]) -> ConfigDescription:
    given = tuple(layers_given)
    first = given[0]
    return ConfigDescription(
        name=setting.name,
        value=None if first.source is SettingSource.DEFAULT and setting.is_unset_on_brokers else first.value,
        source=first.source,
        is_default=first.source is SettingSource.DEFAULT,
        read_only=setting.read_only,
        sensitive=False,
        synonyms=tuple(one for one in given if one.source is not SettingSource.DEFAULT or setting.has_broker_default),
        type=setting.type,
        documentation=setting.documentation,
    )


def selected(table: Mapping[str, Setting], names: Iterable[str] | None) -> list[Setting]:
    """The asked settings in the table's order; unknown names are passed over, as Kafka does."""
    wanted = None if names is None else set(names)
    return [setting for name, setting in table.items() if wanted is None or name in wanted]
