"""Sends that go backwards, within one operation (int-nonmonotonic-send) and from one to the next of a process
(nonmonotonic-send); sends of one operation with others between them (int-send-skip, allowed: writes are never isolated).

Only sends whose index is known are compared. From one operation to the next only an ok operation that had completed before
the other began comes first for certain: an unknown one may still take effect long after.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, by_process, sends_by_key
from quorumlog.checker.operations import Outcome, Send
from quorumlog.checker.steps import describe_skip, skipped_values


@dataclass(slots=True)
class Placed:
    """A send whose index is known. `index` counts in the log of its key, `number` among the operation's sends to the key."""

    place: int
    value: str
    index: int
    number: int


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
                if after.index <= before.index:
                    found.append(_backwards("int-nonmonotonic-send", evidence, key, before, after))
                elif after.index > before.index + 1 and after.number == before.number + 1:
                    allowed.append(_skip(evidence, key, before, after))
    return found, allowed


def find_send_steps(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: nonmonotonic-send."""
    for places in by_process(evidence.history).values():
        latest: dict[str, Placed] = {}
        for place in places:
            for key, sends in sends_by_key(evidence.history[place]).items():
                placed = _placed(evidence, place, sends)
                if not placed:
                    continue
                before = latest.get(key)
                if before is not None and placed[0].index <= before.index and _precedes(evidence, before.place, place):
                    yield _backwards("nonmonotonic-send", evidence, key, before, placed[0])
                if evidence.history[place].outcome is Outcome.OK:
                    latest[key] = placed[-1]


def _placed(evidence: Evidence, place: int, sends: list[Send]) -> list[Placed]:
    indexes = [evidence.index_of_send(place, send) for send in sends]
    return [
        Placed(place, send.value, index, number)
        for number, (send, index) in enumerate(zip(sends, indexes, strict=True))
        if index is not None
    ]


def _precedes(evidence: Evidence, place: int, later: int) -> bool:
    completed = evidence.history[place].completed
    return completed is not None and completed <= evidence.history[later].invoked


def _backwards(kind: str, evidence: Evidence, key: str, before: Placed, after: Placed) -> Anomaly:
    offsets = evidence.logs[key].offsets
    first = f"operation {before.place} sent {before.value!r} to offset {offsets[before.index]}"
    then = "" if before.place == after.place else f"operation {after.place} of the same process "
    message = f"{first}, then {then}sent {after.value!r} to {offsets[after.index]}"
    operations = tuple(dict.fromkeys((before.place, after.place)))
    return Anomaly(kind, key, message, operations, (before.value, after.value))


def _skip(evidence: Evidence, key: str, before: Placed, after: Placed) -> Anomaly:
    log = evidence.logs[key]
    ends = f"{before.value!r} at offset {log.offsets[before.index]} and {after.value!r} at {log.offsets[after.index]}"
    message = f"between {ends}, both of operation {before.place}, lie {describe_skip(log, before.index, after.index)}"
    values = (before.value, after.value, *skipped_values(log, before.index, after.index))
    return Anomaly("int-send-skip", key, message, (before.place,), values)
