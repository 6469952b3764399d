"""Quorums with a guard taken out: what a test of a guard must be able to catch.

The numbers are those of the review of pysyncobj 0.3.17. `quorum_without("g4", "g6")` is a Quorum class lacking two of them.
"""

from typing import Any

from pysyncobj import SyncObj

from quorumlog.raft.engine import Engine
from quorumlog.raft.journal import Journal
from quorumlog.raft.messages import AppendEntries, AppendReply, Envelope, SnapshotChunk
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.raft.quorum import Quorum


class JournalThatRefusesNothing(Journal):
    """S1: double votes, terms that go back and gaps are written down."""

    def _refuse(self, reason: str) -> None:
        pass


class _WithoutBarrier:
    """S2: messages leave before what they promise is durable; only the tick syncs."""

    def _barrier_before_send(self) -> None:
        pass


class _WithoutAckTerms:
    """S4, g2: an acknowledgment counts whatever term it was made in."""

    def _belongs_to_this_term(self, term: int) -> bool:
        return True


class _WithoutVoteCount:
    """S4, g3: a majority of vote messages elects, not a majority of voters."""

    def _counts_vote(self, sender: int) -> bool:
        return True


class _WithoutConflictRule(Engine):
    """S5, g4: everything behind prev_index is deleted and written again, acknowledged or not."""

    def _on_append_entries(self, leader: int, term: int, append: AppendEntries) -> None:
        previous = self._journal.entry(append.prev_index)
        if previous is None or previous.term != append.prev_term:
            super()._on_append_entries(leader, term, append)
        else:
            self._append_in_core(leader, term, append, list(append.entries), append.prev_index)


class _WithoutSnapshotCare(Engine):
    """S6, g5: a snapshot frame advances the commit index over an unverified log; a damaged snapshot is acknowledged."""

    def _hear_snapshot_frame(self, envelope: Envelope) -> None:
        self._hear(envelope.source, envelope.term, 1 << 60)

    def _install(self, blob: bytes, last_chunk: SnapshotChunk) -> bool:
        super()._install(blob, last_chunk)
        return True


class _WithoutProbes(Engine):
    """S7, g6: the whole rest of the log to everyone, always, from wherever the last refusal said."""

    def _may_send_entries(self, peer: int) -> bool:
        return True

    def _next_index_after_mismatch(self, sender: int, reply: AppendReply) -> int:
        return reply.next_index


class _WithoutApplyOrder(Engine):
    """S8: the stock loop: a raising state machine is tried again, a raising callback leaves its entry to be applied again."""

    def _apply_next(self) -> None:
        entry = self._journal[self.applied_index + 1 - self._journal.first.index]
        if entry.command[0] == 0:
            self._machine.apply(entry.index, entry.term, entry.command[1:])
        proposal = self._proposals.pop(entry.index, None)
        if proposal is not None:
            proposal.done(ProposeOutcome.COMMITTED, entry.index)
        self._SyncObj__raftLastApplied = entry.index
        if entry.command[0] == 1 and self.is_leader and entry.term == self.term:
            self._become_active()


class _WithoutTrimCheck(Engine):
    """S9: the log's prefix goes although no snapshot is durable."""

    def _take_snapshot(self) -> None:
        self._trim_log(self.applied_index)

    def _trim_log(self, first_kept: int) -> None:
        self._journal.trim_before(first_kept)


class _WithoutPreVote(Engine):
    """S10: whoever's election timer fires stands."""

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        return bool(SyncObj._SyncObj__connectedToAnyone(self))


class _WithoutCheckQuorum(Engine):
    """S10: a leader that nobody answers goes on for the stock 30 s."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.conf.leaderFallbackTimeout = 30.0


class _WithoutReadRounds(Engine):
    """S11: a read is served by whoever believes to be the leader."""

    def _is_confirmed(self, read: Any) -> bool:
        return True


class _TrustedCommitIndex:
    """S12: a commit index from the disk is believed, as if the journal had kept one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return 100

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __getitem__(self, position: Any) -> Any:
        return self._inner[position]

    def __len__(self) -> int:
        return len(self._inner)


class _WithoutCommitDistrust(Engine):
    def _journal_for_core(self, journal: Journal) -> Any:
        return _TrustedCommitIndex(super()._journal_for_core(journal))


_ENGINES: dict[str, type] = {
    "s2": _WithoutBarrier,
    "g2": _WithoutAckTerms,
    "g3": _WithoutVoteCount,
    "g4": _WithoutConflictRule,
    "g5": _WithoutSnapshotCare,
    "g6": _WithoutProbes,
    "s8": _WithoutApplyOrder,
    "s9": _WithoutTrimCheck,
    "s10": _WithoutPreVote,
    "s10c": _WithoutCheckQuorum,
    "s11": _WithoutReadRounds,
    "s12": _WithoutCommitDistrust,
}
GUARDS = ("s1", *_ENGINES)


def quorum_without(*guards: str) -> type[Quorum]:
    """A Quorum class without the named guards; with none named, Quorum itself."""
    engines = tuple(_ENGINES[guard] for guard in guards if guard != "s1")
    attributes: dict[str, Any] = {"_engine_class": type("UnguardedEngine", (*engines, Engine), {})} if engines else {}
    if "s1" in guards:
        attributes["_journal_class"] = JournalThatRefusesNothing
    return type("UnguardedQuorum", (Quorum,), attributes) if attributes else Quorum
