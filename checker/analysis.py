"""The checker's one entry: a history in, a verdict out."""

from collections.abc import Iterable, Iterator

from quorumlog.checker.anomalies import Anomaly, Verdict
from quorumlog.checker.operations import Operation, Outcome, Poll, Send

__all__ = ["Anomaly", "Verdict", "check"]


def check(history: Iterable[Operation]) -> Verdict:
    """Judge a history."""
    operations = list(history)
    return Verdict(anomalies=tuple(_aborted_reads(operations)))


def _aborted_reads(operations: list[Operation]) -> Iterator[Anomaly]:
    failed = {
        (step.key, step.value): place
        for place, operation in enumerate(operations)
        if operation.outcome is Outcome.FAIL
        for step in operation.steps
        if isinstance(step, Send)
    }
    for place, operation in enumerate(operations):
        for step in operation.steps if operation.outcome is Outcome.OK else ():
            for offset, value in step.records if isinstance(step, Poll) else ():
                if (writer := failed.get((step.key, value))) is not None:
                    yield Anomaly("aborted-read", step.key, f"{value!r} at offset {offset} was read", (writer, place))
