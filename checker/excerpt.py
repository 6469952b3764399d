"""The smallest part of a history that shows an anomaly: its operations, with only the records that it is about."""

from collections.abc import Sequence
from dataclasses import replace

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.operations import Operation, Poll, Send


def excerpt(history: Sequence[Operation], anomaly: Anomaly) -> list[tuple[int, Operation]]:
    """The operations of an anomaly, each with its place, cut down to the anomaly's key and values."""
    return [(place, _trimmed(history[place], anomaly)) for place in anomaly.operations]


def _trimmed(operation: Operation, anomaly: Anomaly) -> Operation:
    steps = (_trimmed_step(step, anomaly.values) for step in operation.steps if anomaly.key in (None, step.key))
    return replace(operation, steps=tuple(step for step in steps if step is not None))


def _trimmed_step(step: Send | Poll, values: Sequence[str]) -> Send | Poll | None:
    match step:
        case Send(_, value, _):
            return step if value in values else None
        case Poll(key, records):
            kept = tuple(record for record in records if record[1] in values)
            return Poll(key, kept) if kept else None


def describe(place: int, operation: Operation) -> str:
    """One line for people: place, process, times, outcome, and what it sent, polled or named."""
    ended = "never completed" if operation.completed is None else f"to {operation.completed:.3f} s"
    when = f"{operation.invoked:.3f} s {ended}"
    what = "; ".join(map(_describe_step, operation.steps)) or " ".join(operation.keys)
    return f"operation {place}: process {operation.process}, {when}, {operation.kind} {operation.outcome}: {what or 'nothing'}"


def _describe_step(step: Send | Poll) -> str:
    match step:
        case Send(key, value, None):
            return f"sent {value!r} to {key}"
        case Send(key, value, offset):
            return f"sent {value!r} to {key} at {offset}"
        case Poll(key, records):
            return f"polled of {key} " + ", ".join(f"{value!r} at {offset}" for offset, value in records)
