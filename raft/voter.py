"""One voter by itself: its state, its promises to those who propose and read, applying what is committed, and snapshots.

engine.py adds the conversation with the other voters.

The core keeps the election timer, the counting of votes, next and match index, the commit rule and check-quorum. Everything else
is ours. The core calls its private methods through `self`, so a method named `_SyncObj__x` here replaces its `__x`; core.py makes
sure that it is the core these names belong to. Each guard is a method of its own; the tests replace them one by one and show what
breaks (tests/raft/unguarded.py).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pysyncobj import SyncObj
from pysyncobj.node import Node

from quorumlog.host.ports import Clock
from quorumlog.raft import core as _guarded_core  # noqa: F401  checks and disarms the core before it is used
from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import Fatal
from quorumlog.raft.followers import Followers
from quorumlog.raft.journal import COMMAND, NO_OP, Entry, Journal
from quorumlog.raft.messages import (
    AppendEntries,
    AppendReply,
    Envelope,
    Heartbeat,
    Message,
    SnapshotChunk,
    SnapshotReply,
    encode,
)
from quorumlog.raft.ports import ProposeDone, ProposeOutcome, QuorumListener, ReadDone, Role, StateMachine
from quorumlog.raft.seams import CoreJournal, CoreTransport, NothingToPoll, core_settings
from quorumlog.raft.snapshots import Snapshot, SnapshotStore, encode_snapshot

log = logging.getLogger(__name__)

AT_ONCE = float("-inf")
_ROLES = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
_FOLLOWER, _CANDIDATE, _LEADER = range(3)
Send = Callable[[int, bytes], bool]
"""Hand a frame to the connection to a peer; False if it certainly does not leave."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine works on; the Quorum that made them owns them."""

    config: QuorumConfig
    journal: Journal
    snapshots: SnapshotStore
    machine: StateMachine
    listener: QuorumListener
    send: Send
    clock: Clock


class _Proposal(NamedTuple):
    term: int
    size_bytes: int
    done: ProposeDone


class _Read(NamedTuple):
    term: int
    round: int
    commit_index: int
    done: ReadDone


class Voter(SyncObj):  # type: ignore[misc]
    """A voter without its conversation. Not thread safe; every call runs inside `core.entered`."""

    # Data descriptors, so that what the core assigns here is ignored.
    _SyncObj__raftLog = property(lambda self: self._core_journal, lambda self, _: None)
    _poller = property(lambda self: NothingToPoll(), lambda self, _: None)

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self._config, self._journal, self._snapshots = config, parts.journal, parts.snapshots
        self._machine, self._listener, self._clock = parts.machine, parts.listener, parts.clock
        self._send_frame = parts.send
        self._core_journal = self._journal_for_core(parts.journal)
        self._followers = Followers(config.peers, config.heartbeat_s)
        self._proposals: dict[int, _Proposal] = {}
        self._proposed_bytes = 0
        self._reads: list[_Read] = []
        self._round = self._echoed_round = 0
        self._active_term: int | None = None
        self._announced: tuple[int | None, int] = (None, 0)
        self._send_soon = self._snapshot_wanted = False
        peers = [Node(peer) for peer in config.peers]
        super().__init__(Node(config.node_id), peers, core_settings(config), nodeClass=Node, transportClass=CoreTransport)
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__newAppendEntriesTime = AT_ONCE
        if not peers:
            self._SyncObj__raftElectionDeadline = AT_ONCE
        self._start_from_snapshot()
        self.barrier()

    def _journal_for_core(self, journal: Journal) -> CoreJournal:
        return CoreJournal(journal)

    def _start_from_snapshot(self) -> None:
        snapshot, first = self._snapshots.load(), self._journal.first.index
        if first > (snapshot.index if snapshot else 1):
            raise Fatal(f"the log begins at {first} and the snapshot ends at {snapshot.index if snapshot else 'nothing'}: a gap")
        if snapshot is None:
            return
        held = self._journal.entry(snapshot.index)
        if held is None or held.term != snapshot.term:
            # We died between storing a leader's snapshot and restarting the log behind it.
            self._journal.restart_at(snapshot.index, snapshot.term)
        self._restore(snapshot)

    def _restore(self, snapshot: Snapshot) -> None:
        try:
            self._machine.restore(snapshot.index, snapshot.body)
        except Exception as error:
            raise Fatal(f"the state machine refused the snapshot at {snapshot.index}: {error!r}") from error
        self._SyncObj__raftLastApplied = self._SyncObj__raftCommitIndex = snapshot.index

    # What it looks like from outside.

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def role(self) -> Role:
        return _ROLES[self._SyncObj__raftState]

    @property
    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == _LEADER)

    @property
    def is_active(self) -> bool:
        return self._active_term is not None

    @property
    def leader(self) -> int | None:
        node = self._SyncObj__raftLeader
        return None if node is None else int(node.id)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    def announce_leader(self) -> None:
        """Tell the listener if who leads, or the term, is news."""
        now = (self.leader, self.term)
        if now != self._announced:
            self._announced = now
            self._tell(lambda: self._listener.on_leader(*now))

    def _tell(self, news: Callable[[], None]) -> None:
        try:
            news()
        except Exception as error:
            raise Fatal(f"the quorum's listener raised: {error!r}") from error

    def close(self) -> None:
        """Answer everyone who waits. Says nothing to the other voters."""
        self.barrier()
        self._end_leadership()

    # Proposals and reads.

    def propose(self, command: bytes, done: ProposeDone, term: int | None) -> None:
        refusal = self._refusal(command, term)
        if refusal is not None:
            return done(refusal, 0)
        index = self._journal.last.index + 1
        self._journal.append(Entry(bytes([COMMAND]) + command, index, self.term))
        self._proposals[index] = _Proposal(self.term, len(command), done)
        self._proposed_bytes += len(command)
        self._send_soon = True
        return None

    def _refusal(self, command: bytes, term: int | None) -> ProposeOutcome | None:
        if not self.is_leader or term not in (None, self.term):
            return ProposeOutcome.NOT_LEADER
        if len(command) > self._config.command_bytes_max:
            return ProposeOutcome.TOO_LARGE
        too_many = len(self._proposals) >= self._config.in_flight_commands_max
        if too_many or self._proposed_bytes + len(command) > self._config.in_flight_bytes_max:
            return ProposeOutcome.BUSY
        return None

    def read_barrier(self, done: ReadDone) -> None:
        # Before our own no-op is applied we may not know yet what was committed before us.
        if not self.is_leader or self._active_term != self.term or len(self._reads) >= self._config.in_flight_reads_max:
            return done(False)
        self._round += 1
        self._reads.append(_Read(self.term, self._round, self.commit_index, done))
        self._send_soon = True
        return None

    def _serve_reads(self) -> None:
        waiting, self._reads = self._reads, []
        for read in waiting:
            if not self.is_leader or read.term != self.term:
                _answer(read.done, False)
            elif self._is_confirmed(read) and self.applied_index >= read.commit_index:
                _answer(read.done, True)
            else:
                self._reads.append(read)

    def _is_confirmed(self, read: _Read) -> bool:
        return 1 + self._followers.confirmations(read.term, read.round) >= self._config.majority

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        was_leader = self.is_leader
        super()._SyncObj__setState(state)
        if was_leader and state != _LEADER:
            self._end_leadership()

    def _end_leadership(self) -> None:
        """Outcomes are unknown from here on, and nobody may wait for what may never come."""
        proposals, self._proposals, self._proposed_bytes = self._proposals, {}, 0
        reads, self._reads = self._reads, []
        for index, proposal in sorted(proposals.items()):
            _answer(proposal.done, ProposeOutcome.UNKNOWN, index)
        for read in reads:
            _answer(read.done, False)
        if self._active_term is not None:
            self._active_term = None
            self._tell(self._listener.on_inactive)

    # Sending. Nothing leaves before what it rests on is durable.

    def barrier(self) -> None:
        self._journal.barrier()

    def _barrier_before_send(self) -> None:
        self.barrier()

    def _send(self, peer: int, message: Message) -> bool:
        self._barrier_before_send()
        envelope = Envelope(self._config.node_id, peer, self.term, self._round_of(message), message)
        return self._send_frame(peer, encode(envelope))

    def _round_of(self, message: Message) -> int:
        match message:
            case AppendEntries() | Heartbeat() | SnapshotChunk():
                return self._round
            case AppendReply() | SnapshotReply():
                return self._echoed_round
            case _:
                return 0

    def send_from_core(self, peer: int, message: Message) -> bool:
        return self._send(peer, message)

    def _to_core(self, sender: int, core_message: dict[str, Any]) -> None:
        super()._SyncObj__onMessageReceived(Node(sender), core_message)

    def _adopt_if_higher(self, term: int) -> bool:
        if term <= self.term:
            return False
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(_FOLLOWER)
        self._SyncObj__raftLeader = None
        return True

    # Snapshots.

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        due = self.applied_index - self._snapshots.durable_index >= self._config.snapshot_every_entries
        if (due or self._snapshot_wanted) and self.applied_index > self._snapshots.durable_index:
            self._take_snapshot()
        self._snapshot_wanted = False

    def snapshot_soon(self) -> None:
        """Take a snapshot at the next tick, however few entries there are."""
        self._snapshot_wanted = True

    def _take_snapshot(self) -> None:
        last = self._journal.entry(self.applied_index)
        assert last is not None, self.applied_index
        body = self._machine.dump()
        snapshot = Snapshot(last.index, last.term, body)
        if len(encode_snapshot(snapshot)) > self._config.snapshot_bytes_max:
            log.error("no snapshot at %d: %d bytes exceed snapshot_bytes_max; the log grows", last.index, len(body))
            return
        self._snapshots.save(snapshot)
        self._trim_log(max(self._journal.first.index, snapshot.index - self._config.trailing_entries))

    def _trim_log(self, first_kept: int) -> None:
        if first_kept > self._snapshots.durable_index:
            raise Fatal(f"the log would be trimmed to {first_kept}, the durable snapshot ends at {self._snapshots.durable_index}")
        self._journal.trim_before(first_kept)

    # Applying.

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Apply what is committed; True if that is news for the followers."""
        self.barrier()  # a leader counts itself: be durable before any effect
        before = self.applied_index
        while self.applied_index < self.commit_index:
            self._apply_next()
        return self.applied_index > before

    def _apply_next(self) -> None:
        entry = self._journal.entry(self.applied_index + 1)
        if entry is None:
            raise Fatal(f"entry {self.applied_index + 1} is committed but not in the log")
        self._apply_to_machine(entry)
        # Before the callbacks: whatever they do, this entry is never applied again.
        self._SyncObj__raftLastApplied = entry.index
        if entry.command[0] == NO_OP and self.is_leader and entry.term == self.term:
            self._become_active()
        self._answer_proposal(entry)

    def _apply_to_machine(self, entry: Entry) -> None:
        if entry.command[0] != COMMAND:
            return
        try:
            self._machine.apply(entry.index, entry.term, entry.command[1:])
        except Exception as error:
            raise Fatal(f"the state machine raised at entry {entry.index}: {error!r}") from error

    def _become_active(self) -> None:
        if self._active_term != self.term:
            self._active_term = self.term
            self.announce_leader()
            self._tell(lambda: self._listener.on_active(self.term))

    def _answer_proposal(self, entry: Entry) -> None:
        proposal = self._proposals.pop(entry.index, None)
        if proposal is not None:
            self._proposed_bytes -= proposal.size_bytes
            outcome = ProposeOutcome.COMMITTED if proposal.term == entry.term else ProposeOutcome.DISCARDED
            _answer(proposal.done, outcome, entry.index)

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """The core's queue of commands is not used: proposals go to the journal directly."""


def _answer(done: Callable[..., None], *result: object) -> None:
    try:
        done(*result)
    except Exception:
        log.exception("a callback of the quorum raised")
