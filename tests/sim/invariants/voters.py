"""Where a node's Raft voter stands, as far as promises depend on it."""

from typing import Any, NamedTuple

from quorumlog.node.node import Node
from quorumlog.raft.journal import Entry, Journal
from quorumlog.raft.quorum import Quorum


class VoterStand(NamedTuple):
    term: int
    is_leader: bool
    commit_index: int
    applied_index: int
    vote: int | None
    first: Entry
    last: Entry
    has_pending: bool  # changes that were not made durable yet, so nothing may rest on them


class VoterTrack:
    """One voter in one process."""

    def __init__(self, quorum: Quorum, *, follows_failure: bool) -> None:
        self.quorum = quorum
        self.follows_failure = follows_failure  # the process before this one stopped by itself
        self.journal: Journal = quorum._journal
        self._engine = quorum._engine
        self.before: VoterStand | None = None  # None: this process was not seen before
        self.stand: VoterStand | None = None
        self._seen: tuple[Any, ...] = ()

    def has_moved(self) -> bool:
        engine, journal = self._engine, self.journal
        entries = journal._entries
        seen = (
            engine._SyncObj__raftCurrentTerm,
            engine.is_leader,
            engine._SyncObj__raftCommitIndex,
            engine._SyncObj__raftLastApplied,
            journal._vote,
            entries[0].index,
            entries[-1].index,
            entries[-1].term,
            bool(journal._batch.operations),
        )
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    def follow(self) -> None:
        engine, journal = self._engine, self.journal
        self.before = self.stand
        self.stand = VoterStand(
            term=engine.term,
            is_leader=engine.is_leader,
            commit_index=engine.commit_index,
            applied_index=engine.applied_index,
            vote=journal.vote,
            first=journal.first,
            last=journal.last,
            has_pending=bool(journal._batch),
        )

    @property
    def has_failed(self) -> bool:
        """It stopped by itself: what of its last changes is durable is unknown."""
        return self.quorum._stopped_by not in (None, "it was closed")


def quorum_of(node: Node) -> Quorum | None:
    """The node's voter; None of a node that only observes."""
    return node.quorum._quorum if node.controller is not None else None
