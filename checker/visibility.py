"""Reads of what should not be seen: of a failed write (aborted-read), of a transaction under way (intermediate-read), of an
operation's own send (precommitted-read)."""

from collections.abc import Iterator

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, polls_of, sends_of
from quorumlog.checker.operations import Outcome


def find_aborted_reads(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: aborted-read, once for each value."""
    for writer, operation in enumerate(evidence.history):
        for send in sends_of(operation) if operation.outcome is Outcome.FAIL else ():
            key, value = send.key, send.value
            reader = evidence.readers.get(key, {}).get(value)
            if reader is not None and evidence.writers[key][value] == writer:
                message = f"{value!r} was read by operation {reader}, but its write, operation {writer}, had failed"
                yield Anomaly("aborted-read", key, message, (writer, reader), (value,))


def find_intermediate_reads(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: intermediate-read, once for each value: who had read it when nobody had asked for the commit yet."""
    endings = {place: operation.ending for place, operation in enumerate(evidence.history) if operation.ending is not None}
    if not endings:
        return
    named: set[tuple[str, str]] = set()
    for reader, operation in enumerate(evidence.history):
        if operation.outcome is not Outcome.OK or operation.completed is None:
            continue
        for poll in polls_of(operation):
            writers = evidence.writers.get(poll.key, {})
            for offset, value in poll.records:
                writer = writers.get(value, reader)
                if operation.completed < endings.get(writer, operation.completed) and (poll.key, value) not in named:
                    named.add((poll.key, value))
                    read = (
                        f"{value!r} at offset {offset} was read by operation {reader}, which was over at {operation.completed} s"
                    )
                    message = f"{read}; its transaction, operation {writer}, was not asked to commit before {endings[writer]} s"
                    yield Anomaly("intermediate-read", poll.key, message, (writer, reader), (value,))


def find_precommitted_reads(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: precommitted-read, whatever became of the operation: what it was shown, it was shown."""
    for place, operation in enumerate(evidence.history):
        if len(operation.steps) < 2:
            continue
        own = {(send.key, send.value) for send in sends_of(operation)}
        for poll in polls_of(operation) if own else ():
            for offset, value in poll.records:
                if (poll.key, value) in own:
                    message = (
                        f"operation {place} polled its own send, {value!r} at offset {offset}, before it could have committed"
                    )
                    yield Anomaly("precommitted-read", poll.key, message, (place,), (value,))


def count_unwritten(evidence: Evidence) -> int:
    """How many values were read that no operation of the history sent."""
    return sum(len(readers.keys() - evidence.writers.get(key, {}).keys()) for key, readers in evidence.readers.items())
