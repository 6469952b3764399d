"""What the checker says: the anomalies that it found, what each kind means, and which are allowed."""

from dataclasses import dataclass

# The kinds in the order in which a report tells them, the worst first. docs/checker.md has the definitions at length.
MEANINGS = {
    "lost-write": "a committed value lies before the last one that was read, and nobody read it",
    "unseen": "an acknowledged value that no reader found who started over and read to the end",
    "torn-transaction": "of a transaction some values were read, and others were not found where they should be",
    "inconsistent-offsets": "two values at one offset",
    "duplicate": "one value at two offsets",
    "aborted-read": "a value was read whose write had failed (G1a)",
    "intermediate-read": "a value was read before its transaction was asked to commit (G1b)",
    "precommitted-read": "an operation polled what it had itself sent",
    "int-poll-skip": "within one operation a reader jumped over records that are in the log",
    "int-nonmonotonic-poll": "within one operation a reader went backwards or stood still",
    "poll-skip": "between two operations a reader jumped over records that are in the log",
    "nonmonotonic-poll": "between two operations a reader went backwards or stood still",
    "int-nonmonotonic-send": "within one operation a later send lies before an earlier one",
    "nonmonotonic-send": "the send of a later operation lies before that of an earlier one of the same process",
    "int-send-skip": "other records lie between the sends of one operation",
    "G0": "operations whose sends lie before each other's, in a circle",
    "G1c": "operations that each saw or follow a send of the other, in a circle",
}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One anomaly. `operations` are places in the history that was checked, from 0; `values` are those that it is about."""

    kind: str
    key: str | None
    message: str
    operations: tuple[int, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`anomalies` are never allowed; `allowed` are worth knowing, but a correct cluster shows them.

    `notes` are sentences about the history itself: what could not be judged, and why.
    """

    anomalies: tuple[Anomaly, ...]
    allowed: tuple[Anomaly, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.anomalies
