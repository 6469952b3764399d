"""What the quorum asks of its owner, and what it tells it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class StateMachine(Protocol):
    """What the committed log builds. Called on the quorum's thread, in log order."""

    def apply(self, index: int, term: int, command: bytes) -> None:
        """Take one committed command. Total and deterministic: raising is Fatal, for every voter would raise alike."""
        ...

    def dump(self) -> bytes:
        """The whole state, for a snapshot."""
        ...

    def restore(self, index: int, data: bytes) -> None:
        """Replace the state by one that `dump` made right after the entry at `index`."""
        ...


class QuorumListener(Protocol):
    """Hears of leadership. Called on the quorum's thread; raising is Fatal."""

    def on_active(self, term: int) -> None:
        """We lead, and the no-op of our own term is applied: the state holds everything that was ever committed."""
        ...

    def on_inactive(self) -> None:
        """The end of what `on_active` began. Proposals that were under way have been answered UNKNOWN."""
        ...

    def on_leader(self, leader: int | None, term: int) -> None:
        """Who leads as far as this node knows; a hint, the log alone is the truth."""
        ...


class ProposeOutcome(Enum):
    """What became of a proposal."""

    COMMITTED = "committed"
    """Committed and applied here."""
    NOT_LEADER = "not leader"
    """Certainly not appended."""
    DISCARDED = "discarded"
    """Certainly not committed: another entry took its place."""
    UNKNOWN = "unknown"
    """Appended, and leadership was lost: it may or may not become committed."""
    BUSY = "busy"
    """Certainly not appended: too many proposals are under way."""
    TOO_LARGE = "too large"
    """Certainly not appended: over `command_bytes_max`."""


ProposeDone = Callable[[ProposeOutcome, int], None]
"""Called once with the outcome and the log index (0 if nothing was appended)."""
ReadDone = Callable[[bool], None]
"""Called once: True if everything committed before the request is applied here."""


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class QuorumStatus:
    """A voter at one moment."""

    term: int
    role: Role
    active: bool
    leader: int | None
    commit_index: int
    applied_index: int
    first_log_index: int
    last_log_index: int
    snapshot_index: int
    matched: tuple[tuple[int, int], ...]
    """Of a leader: each other voter, and up to which index its log is known to be the same (0: not known yet)."""
