"""Readers that jump or go backwards, within one operation (int-poll-skip, int-nonmonotonic-poll) and from one to the next
(poll-skip, nonmonotonic-poll).

Each record that an operation was shown counts, whatever became of the operation: Kafka shows a poller safe data only. But a
process is certain to have moved on only after an ok operation:

- after a failed or unknown one it may go on behind what that one read, or read it again, or anything between;
- after an unknown one that came back with nothing it may have passed anything.

Where a process stands is forgotten for the keys that it seeks, that are rebalanced, and that assign or subscribe leave out.
A key that assign or subscribe keeps goes on where it was (as in Jepsen, and in Kafka's Java client), or starts over at the
beginning. A process that subscribes shares its keys with others, so that its steps between operations are allowed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, by_process, reads_by_key
from quorumlog.checker.operations import Operation, Outcome
from quorumlog.checker.passes import names
from quorumlog.checker.steps import describe_skip, skipped_values

Records = Sequence[tuple[int, str]]


def find_internal_poll_steps(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomalies: int-poll-skip, int-nonmonotonic-poll."""
    for place, operation in enumerate(evidence.history):
        for key, records in reads_by_key(operation).items():
            if len(records) > 1 and key not in operation.rebalanced:
                yield from _internal_steps(evidence, place, key, records)


def _internal_steps(evidence: Evidence, place: int, key: str, records: Records) -> Iterator[Anomaly]:
    log = evidence.logs[key]
    offset, value = records[0]
    for next_offset, next_value in records[1:]:
        if next_offset != offset + 1:  # then nothing can lie between them
            index, next_index = log.indexes[offset], log.indexes[next_offset]
            way = f"operation {place} read {value!r} at offset {offset}, then {next_value!r} at {next_offset}"
            if next_index - index > 1:
                message = f"{way}, and skipped {describe_skip(log, index, next_index)}"
                values = (value, next_value, *skipped_values(log, index, next_index))
                yield Anomaly("int-poll-skip", key, message, (place,), values)
            elif next_index - index < 1:
                yield Anomaly("int-nonmonotonic-poll", key, way, (place,), (value, next_value))
        offset, value = next_offset, next_value


@dataclass(slots=True)
class Position:
    """Where a process stands in a key: it has read up to the index `low`, and no farther than `high`, by operation `place`."""

    place: int
    low: int
    value: str
    high: float
    may_start_over: bool = False


@dataclass(slots=True)
class Reader:
    """One process on its way through the history."""

    positions: dict[str, Position] = field(default_factory=dict)  # by key
    is_subscribed: bool = False


def find_poll_steps(evidence: Evidence) -> tuple[list[Anomaly], list[Anomaly]]:
    """Anomalies: poll-skip, nonmonotonic-poll; those of processes that assign, and those that subscribing allows."""
    found: list[Anomaly] = []
    allowed: list[Anomaly] = []
    for places in by_process(evidence.history).values():
        reader = Reader()
        for place in places:
            operation = evidence.history[place]
            if operation.kind in ("assign", "subscribe"):
                _on_given(reader, operation)
            elif operation.kind == "seek":
                _on_seek(reader, operation)
            elif operation.kind != "send":
                (allowed if reader.is_subscribed else found).extend(_on_reads(evidence, reader, place))
    return found, allowed


def _on_given(reader: Reader, operation: Operation) -> None:
    if operation.outcome is Outcome.FAIL:
        return
    reader.is_subscribed = operation.kind == "subscribe"
    kept = {key: position for key, position in reader.positions.items() if names(operation, key)}
    # After an unknown one the process has the old keys or the new ones, and stands we know not where.
    reader.positions = kept if operation.outcome is Outcome.OK else {}
    for position in kept.values():
        position.may_start_over = True


def _on_seek(reader: Reader, operation: Operation) -> None:
    if operation.outcome is not Outcome.FAIL:
        for key in operation.keys:
            reader.positions.pop(key, None)


def _on_reads(evidence: Evidence, reader: Reader, place: int) -> Iterator[Anomaly]:
    operation = evidence.history[place]
    for key in operation.rebalanced:
        reader.positions.pop(key, None)
    reads = reads_by_key(operation)
    for key, records in reads.items():
        position = reader.positions.get(key)
        if position is not None and (anomaly := _step(evidence, key, position, place, records[0])) is not None:
            yield anomaly
        _move(evidence, reader, place, key, records[-1])
    if operation.outcome is Outcome.UNKNOWN and not reads:
        reader.positions = {key: position for key, position in reader.positions.items() if not position.may_start_over}
        for position in reader.positions.values():
            position.high = math.inf


def _step(evidence: Evidence, key: str, position: Position, place: int, record: tuple[int, str]) -> Anomaly | None:
    log = evidence.logs[key]
    offset, value = record
    index = log.indexes[offset]
    if position.low < index <= position.high + 1:
        return None
    if position.may_start_over and index <= evidence.read_ranges.get(key, (0, 0))[0]:
        return None
    before = f"operation {position.place} left off with {position.value!r} at offset {log.offsets[position.low]}"
    way = f"{before}, operation {place} of the same process went on with {value!r} at {offset}"
    operations = (position.place, place)
    if index <= position.low:
        return Anomaly("nonmonotonic-poll", key, way, operations, (position.value, value))
    high = int(position.high)
    message = f"{way}, and skipped {describe_skip(log, high, index)}"
    return Anomaly("poll-skip", key, message, operations, (position.value, value, *skipped_values(log, high, index)))


def _move(evidence: Evidence, reader: Reader, place: int, key: str, record: tuple[int, str]) -> None:
    offset, value = record
    index = evidence.logs[key].indexes[offset]
    if evidence.history[place].outcome is Outcome.OK:
        reader.positions[key] = Position(place, low=index, value=value, high=index)
    elif key in reader.positions:
        position = reader.positions[key]
        position.high = max(position.high, index)
        if index < position.low:  # it started over, and may have to do so again
            del reader.positions[key]
