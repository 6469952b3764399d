"""Where a group is to read on: what `quorumlog groups reset --to` can say, and what that means for each partition."""

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
from confluent_kafka import TopicPartition

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
AGO = re.compile(r"(\d{1,9})([smhd])")
SHIFT = re.compile(r"[+-]\d{1,18}")

Offsets = Mapping[tuple[str, int], int]  # of partitions


@dataclass(frozen=True, slots=True)
class Earliest:
    pass


@dataclass(frozen=True, slots=True)
class Latest:
    pass


@dataclass(frozen=True, slots=True)
class Exactly:
    offset: int


@dataclass(frozen=True, slots=True)
class Shift:
    """From what is committed now, on or back."""

    count: int


@dataclass(frozen=True, slots=True)
class At:
    """The first record that is not older than this Unix time in milliseconds."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Ago:
    """The first record that is not older than so many seconds before now."""

    seconds: int


Goal = Earliest | Latest | Exactly | Shift | At | Ago


def goal(text: str) -> Goal:
    """`earliest`, `latest`, an offset, +N or -N, 90s/15m/2h/1d (ago), or a time in ISO 8601, for `type=`."""
    words: dict[str, Goal] = {"earliest": Earliest(), "latest": Latest()}
    if text in words:
        return words[text]
    if text.isdecimal() and len(text) < 19:
        return Exactly(int(text))
    if SHIFT.fullmatch(text):
        return Shift(int(text))
    if ago := AGO.fullmatch(text):
        return Ago(int(ago[1]) * UNITS_S[ago[2]])
    try:
        return At(round(datetime.datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is neither 'earliest', 'latest', an offset, a shift like -100, an age like 2h, "
            "nor a time like 2025-01-31T12:00Z"
        ) from error


def new_offsets(
    wanted: Goal,
    partitions: list[tuple[str, int]],
    *,
    committed: Offsets,
    starts: Offsets,
    ends: Offsets,
    at_time: Callable[[int], Offsets],
    now_ms: int,
) -> dict[tuple[str, int], int]:
    """The offset for each partition, never outside its log. Raises ClickException where there is nothing to shift from."""
    match wanted:
        case Earliest():
            found: Offsets = starts
        case Latest():
            found = ends
        case Exactly(offset=offset):
            found = dict.fromkeys(partitions, offset)
        case Shift(count=count):
            found = {one: committed[one] + count for one in _all_committed(partitions, committed)}
        case At(timestamp_ms=timestamp_ms):
            found = at_time(timestamp_ms)
        case Ago(seconds=seconds):
            found = at_time(now_ms - 1000 * seconds)
    return {one: min(max(found.get(one, ends[one]), starts[one]), ends[one]) for one in partitions}


def _all_committed(partitions: list[tuple[str, int]], committed: Offsets) -> list[tuple[str, int]]:
    missing = [f"{topic}:{number}" for topic, number in partitions if (topic, number) not in committed]
    if missing:
        raise click.ClickException(f"nothing is committed to shift from in {', '.join(missing[:5])}")
    return partitions


def as_commits(offsets: Offsets) -> list[TopicPartition]:
    return [TopicPartition(topic, number, offset) for (topic, number), offset in sorted(offsets.items())]
