"""Sends that go backwards, within one operation (int-nonmonotonic-send) and from one to the next of a process
(nonmonotonic-send); sends of one operation with others between them (int-send-skip, allowed: writes are never isolated).

Only sends whose index is known are compared. From one operation to the next only an ok operation that had completed before
the other began comes first for certain: an unknown one may still take effect long after.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, by_process, sends_by_key
from quorumlog.checker.operations import Outcome, Send
from quorumlog.checker.steps import describe_skip, skipped_values


class Placed(NamedTuple):
    """A send whose place in the log of its key is known. `nth` counts the operation's sends to the key."""

    place: int
    value: str
    log_index: int
    nth: int


def find_internal_send_steps(evidence: Evidence) -> tuple[list[Anomaly], list[Anomaly]]:
    """Anomalies: int-nonmonotonic-send; and the allowed int-send-skip."""
    found: list[Anomaly] = []
    allowed: list[Anomaly] = []
    for place, operation in enumerate(evidence.history):
        if len(operation.steps) < 2:
            continue
        for key, sends in sends_by_key(operation).items():
            placed = _placed(evidence, place, sends)
            for before, after in pairwise(placed):
                if after.log_index <= before.log_index:
                    found.append(_backwards("int-nonmonotonic-send", evidence, key, before, after))
                elif after.log_index > before.log_index + 1 and after.nth == before.nth + 1:
                    allowed.append(_skip(evidence, key, before, after))
    return found, allowed


def find_send_steps(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: nonmonotonic-send."""
    for places in by_process(evidence.history).values():
        latest: dict[str, Placed] = {}
        for place in places:
            is_ok = evidence.history[place].outcome is Outcome.OK
            for key, sends in sends_by_key(evidence.history[place]).items():
                placed = _placed(evidence, place, sends)
                if not placed:
                    continue
                before = latest.get(key)
                if before is not None and placed[0].log_index <= before.log_index and _precedes(evidence, before.place, place):
                    yield _backwards("nonmonotonic-send", evidence, key, before, placed[0])
                if is_ok:
                    latest[key] = placed[-1]


def _placed(evidence: Evidence, place: int, sends: list[Send]) -> list[Placed]:
    placed = []
    for nth, send in enumerate(sends):
        index = evidence.index_of_send(place, send)
        if index is not None:
            placed.append(Placed(place, send.value, index, nth))
    return placed


def _precedes(evidence: Evidence, place: int, later: int) -> bool:
    completed = evidence.history[place].completed
    return completed is not None and completed <= evidence.history[later].invoked


def _backwards(kind: str, evidence: Evidence, key: str, before: Placed, after: Placed) -> Anomaly:
    offsets = evidence.logs[key].offsets
    first = f"operation {before.place} sent {before.value!r} to offset {offsets[before.log_index]}"
    then = "" if before.place == after.place else f"operation {after.place} of the same process "
    message = f"{first}, then {then}sent {after.value!r} to {offsets[after.log_index]}"
    operations = tuple(dict.fromkeys((before.place, after.place)))
    return Anomaly(kind, key, message, operations, (before.value, after.value))


def _skip(evidence: Evidence, key: str, before: Placed, after: Placed) -> Anomaly:
    log = evidence.logs[key]
    ends = f"{before.value!r} at offset {log.offsets[before.log_index]} and {after.value!r} at {log.offsets[after.log_index]}"
    message = f"between {ends}, both of operation {before.place}, lie {describe_skip(log, before.log_index, after.log_index)}"
    values = (before.value, after.value, *skipped_values(log, before.log_index, after.log_index))
    return Anomaly("int-send-skip", key, message, (before.place,), values)
