"""Transactions of which a part is there and a part is not (torn-transaction).

That a part is there is proven by an ok read of one of its values. That another is not: nobody read it, though somebody read on
behind its place, or started over and read to the end when that proof, and the transaction's own end, lay behind.
"""

from collections.abc import Iterator
from typing import NamedTuple

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, sends_of
from quorumlog.checker.operations import Operation, Outcome, Send
from quorumlog.checker.passes import Pass, completed_passes


class Half(NamedTuple):
    """A transaction, by its place; the send of it that was read first, by `reader`; and the sends that nobody read."""

    place: int
    read: Send
    reader: int
    missing: list[Send]


def find_torn(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: torn-transaction, once for each transaction."""
    halves = list(_halves(evidence))
    keys = {send.key for half in halves for send in half.missing}
    passes = completed_passes(evidence, keys)
    farthest = {key: _farthest(evidence, key) for key in keys if evidence.readers.get(key)}
    for half in halves:
        for send in half.missing:
            how = _passed_by(evidence, send, farthest.get(send.key)) or _looked_for(evidence, half, passes.get(send.key))
            if how is not None:
                yield _anomaly(half, send, *how)
                break


def _anomaly(half: Half, missing: Send, how: str, witness: int) -> Anomaly:
    there = f"{half.read.value!r} was read from {half.read.key} by operation {half.reader}"
    message = f"of the transaction of operation {half.place} {there}, but {missing.value!r} from {missing.key} by nobody; {how}"
    operations = tuple(dict.fromkeys((half.place, half.reader, witness)))
    key = missing.key if missing.key == half.read.key else None
    return Anomaly("torn-transaction", key, message, operations, (half.read.value, missing.value))


def _halves(evidence: Evidence) -> Iterator[Half]:
    for place, operation in enumerate(evidence.history):
        if operation.kind != "txn" or operation.outcome is Outcome.FAIL or len(operation.steps) < 2:
            continue
        found: list[tuple[int, Send]] = []
        missing: list[Send] = []
        for send in sends_of(operation):
            if evidence.writers[send.key][send.value] != place:
                continue  # it was sent again by another, who answers for it
            reader = evidence.readers.get(send.key, {}).get(send.value)
            if reader is None:
                missing.append(send)
            else:
                found.append((reader, send))
        if found and missing:
            reader, read = min(found, key=lambda one: _ended(evidence.history[one[0]]))
            yield Half(place, read, reader, missing)


def _farthest(evidence: Evidence, key: str) -> str:
    """The value that lies last of those in ok reads, a duplicate where it lies first (as lost-write has it)."""
    return max(evidence.readers[key], key=evidence.logs[key].first_index.__getitem__)


def _passed_by(evidence: Evidence, send: Send, farthest: str | None) -> tuple[str, int] | None:
    """It has a place, and an ok read returned something from behind it."""
    log = evidence.logs.get(send.key)
    index = None if log is None else log.only_index(send.value)
    if log is None or index is None or farthest is None or index > log.first_index[farthest]:
        return None
    reader = evidence.readers[send.key][farthest]
    return f"operation {reader} read {farthest!r} from behind it, at offset {log.offsets[log.first_index[farthest]]}", reader


def _looked_for(evidence: Evidence, half: Half, latest: Pass | None) -> tuple[str, int] | None:
    """Somebody started over and read to the end when it must have been there."""
    if latest is None or latest.begun < max(_ended(evidence.history[half.place]), _ended(evidence.history[half.reader])):
        return None
    process = evidence.history[latest.place].process
    return f"process {process} started over later (operation {latest.place}) and read to the end", latest.place


def _ended(operation: Operation) -> float:
    return operation.invoked if operation.completed is None else operation.completed
