"""Passes over a key: a reader starts over and reads to the end. They prove that what they did not find is not there.

A pass begins when a process is given the key anew (assign, seek, subscribe), or, for a process that never says such things,
with its first poll of the key. Of each process the last pass counts, and only if it covered what there was:

- it began at the beginning: no ok read of the key ever returned a record before its first one;
- it came to the end: to the last record of the key that any ok read returned, or a poll that brought nothing was its last.
  Of a process that never says what it reads only the empty poll is taken for the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from quorumlog.checker.evidence import Evidence, by_process, polls_of
from quorumlog.checker.operations import Operation, Outcome, Poll

GIVING = ("assign", "seek", "subscribe")


@dataclass(slots=True)
class Pass:
    """One process's way over one key: from operation `place`, begun at `begun` seconds, over the indexes first to last."""

    place: int
    begun: float
    is_declared: bool
    first: int | None = None
    last: int | None = None
    has_ended_empty: bool = False
    is_open: bool = True  # the process still reads the key


@dataclass(slots=True)
class Reader:
    """The last pass of one process over each key."""

    passes: dict[str, Pass] = field(default_factory=dict)
    declares: bool = False


def completed_passes(evidence: Evidence, keys: set[str]) -> dict[str, Pass]:
    """The pass of each key that began last, of those that covered it from the beginning to the known end."""
    latest: dict[str, Pass] = {}
    if not keys:
        return latest
    for places in by_process(evidence.history).values():
        for key, found in _last_passes(evidence, places, keys):
            if _is_complete(found, evidence.read_ranges.get(key)) and (key not in latest or latest[key].begun < found.begun):
                latest[key] = found
    return latest


def _is_complete(found: Pass, read: tuple[int, int] | None) -> bool:
    if read is None:
        return found.is_declared and found.has_ended_empty
    if found.first is None or found.last is None or found.first > read[0]:
        return False
    return found.has_ended_empty or (found.is_declared and found.last >= read[1])


def _last_passes(evidence: Evidence, places: list[int], keys: set[str]) -> Iterator[tuple[str, Pass]]:
    reader = Reader()
    for place in places:
        operation = evidence.history[place]
        if operation.outcome is not Outcome.OK:
            continue
        if operation.kind in GIVING:
            _give(reader, place, operation, keys)
        else:
            _follow(evidence, reader, place, keys)
    yield from reader.passes.items()


def _give(reader: Reader, place: int, operation: Operation, keys: set[str]) -> None:
    reader.declares = True
    for key in keys:
        if names(operation, key):
            reader.passes[key] = Pass(place, operation.invoked, is_declared=True)
        elif operation.kind != "seek" and key in reader.passes:
            reader.passes[key].is_open = False


def _follow(evidence: Evidence, reader: Reader, place: int, keys: set[str]) -> None:
    operation = evidence.history[place]
    polls = list(polls_of(operation))
    if operation.kind == "poll" and not any(poll.records for poll in polls):
        for key, found in reader.passes.items():
            found.has_ended_empty |= found.is_open and (not polls or any(poll.key == key for poll in polls))
        return
    for poll in polls:
        if poll.key not in keys:
            continue
        if poll.key not in reader.passes:
            if reader.declares:
                continue
            reader.passes[poll.key] = Pass(place, operation.invoked, is_declared=False)
        _extend(evidence, reader.passes[poll.key], poll)


def _extend(evidence: Evidence, found: Pass, poll: Poll) -> None:
    if poll.records:
        indexes = evidence.logs[poll.key].indexes
        found.first = indexes[poll.records[0][0]] if found.first is None else found.first
        found.last = indexes[poll.records[-1][0]]
    found.has_ended_empty = not poll.records


def names(operation: Operation, key: str) -> bool:
    """Whether assign, seek or subscribe names the key: itself, or its topic."""
    return key in operation.keys or (operation.kind == "subscribe" and key.rpartition("-")[0] in operation.keys)
