"""What a history is made of: the operations of processes, and the sends and polls in them."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What the client knows of its operation. FAIL: it certainly did not happen. UNKNOWN: it may have, or may still."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """One record sent. `offset` is None where the client was not told it."""

    key: str
    value: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """The records that one poll returned for one key: (offset, value) in the order in which they were handed out."""

    key: str
    records: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that one process did, from its invocation to its completion (None if that never came).

    Times are seconds from any one start. `kind` is one of `history.KINDS`. `keys` is what assign and seek name, and the
    topics of subscribe. `rebalanced` is what the group gave or took away while the operation ran. `ending` is when the client
    of a txn asked for its commit, the first time; None if it never did, or nobody wrote it down.
    """

    process: int
    kind: str
    invoked: float
    completed: float | None
    outcome: Outcome
    steps: tuple[Send | Poll, ...] = ()
    keys: tuple[str, ...] = ()
    rebalanced: tuple[str, ...] = ()
    ending: float | None = None
