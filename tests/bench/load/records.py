"""What is produced: made-up values of one size, or real order lines keyed by customer."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.events import made_up, order_lines

CHUNK = 500  # records that one call hands to librdkafka, and that go to one partition in a row
REAL_EVENTS = Path("../shared/data/online-retail.csv.gz")
LINES_MAX = 200_000

Messages = list[dict[str, bytes]]


def plain(size: int, count: int) -> Iterator[Messages]:
    return itertools.repeat([{"value": b"x" * size} for _ in range(count)])


def keyed(lines: str | None) -> Iterator[Messages]:
    """Order lines over and over, in memory before they are asked for."""
    events = order_lines(lines, LINES_MAX) if lines else made_up(LINES_MAX, size=150)
    messages: Messages = [{"key": key, "value": value} for key, value in events]
    return itertools.cycle([messages[at : at + CHUNK] for at in range(0, len(messages) - CHUNK + 1, CHUNK)])


def real_lines() -> str | None:
    """The file of real order lines, or None if this machine has none."""
    named = os.environ.get("QUORUMLOG_REAL_EVENTS")
    if named:
        return named
    return str(REAL_EVENTS) if REAL_EVENTS.exists() else None
