"""The guard layer: pysyncobj's core with everything overridden that would lose what was acknowledged.

The core keeps the election timer, the counting of votes, next and match index, the commit rule and check-quorum. Ours are
the journal, snapshots, messages, the AppendEntries conflict rule, the apply loop, pre-votes and read barriers. The core calls
its private methods through `self`, so a method named `_SyncObj__x` here replaces its `__x`; core.py makes sure that it is the
core these names belong to.

Each guard is a method of its own; the tests replace them one by one and show what breaks (tests/raft/unguarded.py).
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from quorumlog.host.ports import Clock
from quorumlog.raft import core as _guarded_core  # noqa: F401  checks and disarms the core before it is used
from quorumlog.raft.config import ENTRY_OVERHEAD_BYTES, QuorumConfig
from quorumlog.raft.elections import Elections
from quorumlog.raft.errors import Fatal
from quorumlog.raft.followers import Followers
from quorumlog.raft.journal import COMMAND, NO_OP, Entry, Journal
from quorumlog.raft.messages import (
    AppendEntries,
    AppendOutcome,
    AppendReply,
    Envelope,
    Heartbeat,
    HigherTerm,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
    encode,
)
from quorumlog.raft.ports import ProposeDone, ProposeOutcome, QuorumListener, ReadDone, Role, StateMachine
from quorumlog.raft.snapshots import Snapshot, SnapshotReceiver, SnapshotSender, SnapshotStore, encode_snapshot, parse_snapshot

log = logging.getLogger(__name__)

_AT_ONCE = float("-inf")
_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2
_ROLES = {_FOLLOWER: Role.FOLLOWER, _CANDIDATE: Role.CANDIDATE, _LEADER: Role.LEADER}
Send = Callable[[int, bytes], bool]


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
    rng: random.Random


class _Proposal(NamedTuple):
    term: int
    done: ProposeDone


class _Read(NamedTuple):
    term: int
    round: int
    commit_index: int
    done: ReadDone


class _CoreJournal:
    """The journal as the core calls it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._journal.append(Entry(bytes(command), idx, term))

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        if position < len(self._journal):
            self._journal.truncate_from(self._journal[position].index)

    def __getitem__(self, position: Any) -> Any:
        return self._journal[position]

    def __len__(self) -> int:
        return len(self._journal)

    def setCurrentTerm(self, term: int, vote: int | None) -> None:  # noqa: N802
        self._journal.set_vote(term, vote)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.term

    def getVotedForNodeId(self) -> int | None:  # noqa: N802
        return self._journal.vote

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        # Volatile in Raft, and never trusted after a crash: what a leader commits again is applied again.
        return self._journal.first.index

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        pass

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass


class _CoreTransport(Transport):  # type: ignore[misc]
    """Where the core's messages leave it."""

    def __init__(self, engine: "Engine", own: Any, others: Any) -> None:
        super().__init__(engine, own, others)
        self._engine = engine

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        return self._engine.send_from_core(node, message)


class _NothingToPoll:
    def poll(self, _: float) -> None:
        pass


class Engine(SyncObj):  # type: ignore[misc]
    """One voter's Raft. Not thread safe; every call runs inside `core.entered`. Owned by its Quorum."""

    # Data descriptors, so that what the core assigns here is ignored.
    _SyncObj__raftLog = property(lambda self: self._core_journal, lambda self, _: None)
    _poller = property(lambda self: _NothingToPoll(), lambda self, _: None)

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self._config, self._journal, self._snapshots = config, parts.journal, parts.snapshots
        self._machine, self._listener, self._clock = parts.machine, parts.listener, parts.clock
        self._send_frame = parts.send
        self._core_journal = self._journal_for_core(parts.journal)
        self._sender = SnapshotSender(
            parts.snapshots,
            chunk_bytes=config.snapshot_chunk_bytes,
            chunks_in_flight=config.snapshot_chunks_in_flight,
            stall_s=config.election_timeout_min_s,
        )
        self._receiver = SnapshotReceiver()
        self._followers = Followers(config.peers, config.heartbeat_s)
        self._elections = Elections(
            config.node_id,
            config.voters,
            sticky_s=config.election_timeout_min_s,
            retry_s=config.heartbeat_s,
            step_s=config.early_election_step_s,
        )
        self._proposals: dict[int, _Proposal] = {}
        self._reads: list[_Read] = []
        self._round = self._echoed_round = 0
        self._active_term: int | None = None
        self._announced: tuple[int | None, int] = (None, 0)
        self._send_soon = self._snapshot_wanted = False
        self._transfer_deadline: float | None = None
        self._transfer_retry_at = _AT_ONCE
        peers = [Node(peer) for peer in config.peers]
        super().__init__(Node(config.node_id), peers, _core_settings(config), nodeClass=Node, transportClass=_CoreTransport)
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__newAppendEntriesTime = _AT_ONCE
        if not peers:
            self._SyncObj__raftElectionDeadline = _AT_ONCE
        self._start_from_snapshot()
        self.barrier()

    def _journal_for_core(self, journal: Journal) -> _CoreJournal:
        return _CoreJournal(journal)

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

    # Time and the world.

    def tick(self) -> None:
        """Let time pass: elections, commits, applies, sends, snapshots, read barriers."""
        for _ in range(2):  # twice: what callbacks of the first proposed or confirmed leaves with the second
            self.barrier()
            self._send_at_once_if_wanted()
            self.doTick(0)
            if not self._send_soon:
                break
        self._continue_transfer()
        self._serve_reads()
        self.announce_leader()

    def _send_at_once_if_wanted(self) -> None:
        if self._send_soon and self.is_leader:
            self._SyncObj__newAppendEntriesTime = _AT_ONCE
        self._send_soon = False

    def peer_connected(self, peer: int) -> None:
        self._elections.on_connected(peer)
        self._followers.probe(peer)
        self._SyncObj__onNodeConnected(Node(peer))

    def peer_disconnected(self, peer: int, *, process_gone: bool) -> None:
        self._SyncObj__onNodeDisconnected(Node(peer))
        if process_gone:
            self._elections.on_process_gone(peer)
            if self._elections.last_heard_leader() == peer and not self.is_leader:
                self._stand_early()

    def _stand_early(self) -> None:
        deadline = self._clock.now() + self._elections.early_delay_s()
        self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, deadline)
        self._SyncObj__raftLeader = None

    def announce_leader(self) -> None:
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
        self._proposals[index] = _Proposal(self.term, done)
        self._send_soon = True
        return None

    def _refusal(self, command: bytes, term: int | None) -> ProposeOutcome | None:
        if not self.is_leader or term not in (None, self.term) or self._transfer_deadline is not None:
            return ProposeOutcome.NOT_LEADER
        if len(command) > self._config.command_bytes_max:
            return ProposeOutcome.TOO_LARGE
        if len(self._proposals) >= self._config.in_flight_commands_max:
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
        self._transfer_deadline = None
        self._sender.cancel_all()
        proposals, self._proposals = self._proposals, {}
        reads, self._reads = self._reads, []
        for index, proposal in sorted(proposals.items()):
            _answer(proposal.done, ProposeOutcome.UNKNOWN, index)
        for read in reads:
            _answer(read.done, False)
        if self._active_term is not None:
            self._active_term = None
            self._tell(self._listener.on_inactive)

    # Leadership transfer.

    def transfer_leadership(self) -> None:
        if self.is_leader and self._config.peers:
            self._transfer_deadline = self._clock.now() + self._config.election_timeout_max_s
            self._transfer_retry_at = _AT_ONCE

    def _continue_transfer(self) -> None:
        now = self._clock.now()
        if self._transfer_deadline is None or not self.is_leader:
            return
        if now >= self._transfer_deadline:
            self._transfer_deadline = None
        elif now >= self._transfer_retry_at:
            self.transferLeadership(None, self._on_transfer_tried)

    def _on_transfer_tried(self, _: object, reason: int) -> None:
        # Refused while no follower has the whole log: try again when the next acknowledgments are in.
        if reason == FAIL_REASON.SUCCESS:
            self._transfer_retry_at = self._clock.now() + self._config.heartbeat_s

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        """The core asks exactly when the election timer fired; only a majority of pre-votes lets it stand."""
        if not self._config.peers or self._SyncObj__transferInProgress:
            return True
        term, now = self.term + 1, self._clock.now()
        if self._elections.majority_granted(term):
            return True
        if self._elections.should_ask(term, now):
            self._SyncObj__raftLeader = None
            for peer in self._config.peers:
                self._send(peer, PreVote(self._journal.last.index, self._journal.last.term))
        return False

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._followers.begin_term()
        self._sender.cancel_all()
        super()._SyncObj__onBecomeLeader()

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

    def send_from_core(self, node: Any, core_message: dict[str, Any]) -> bool:
        return self._send(int(node.id), _from_core(core_message))

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        """Sends in a fixed order, a bounded number of frames; the core's own loop never ends while a snapshot is on its way."""
        self._SyncObj__newAppendEntriesTime = self._clock.now() + self._config.heartbeat_s
        for peer in self._config.peers:
            if not self.isNodeConnected(Node(peer)):
                self._sender.cancel(peer)
            elif self._SyncObj__raftNextIndex[Node(peer)] <= self._journal.first.index:
                self._send_snapshot(peer)
            else:
                self._send_entries(peer)

    def _send_snapshot(self, peer: int) -> None:
        while (chunk := self._sender.next_chunk(peer, self._clock.now())) is not None and self._send(peer, chunk):
            pass
        if chunk is None:
            self._send(peer, Heartbeat())

    def _send_entries(self, peer: int) -> None:
        """The rest of the log, or one empty frame if there is none; only one frame to a follower that is being probed."""
        while self._may_send_entries(peer):
            sent_up_to = self._send_batch(peer)
            if sent_up_to is None:
                # Lost on the way, with what was to follow: ask again, later, what arrived.
                self._followers.probe_after(peer, self._clock.now())
            if sent_up_to is None or sent_up_to == self._journal.last.index:
                return

    def _send_batch(self, peer: int) -> int | None:
        """The index up to which the follower has been sent the log now, None if the frame could not be sent."""
        previous = self._journal.entry(self._SyncObj__raftNextIndex[Node(peer)] - 1)
        assert previous is not None, (peer, self._SyncObj__raftNextIndex)
        batch = self._batch_from(previous.index + 1)
        if not self._send(peer, AppendEntries(previous.index, previous.term, self.commit_index, tuple(batch))):
            return None
        sent_up_to = previous.index + len(batch)
        self._SyncObj__raftNextIndex[Node(peer)] = sent_up_to + 1
        return sent_up_to

    def _may_send_entries(self, peer: int) -> bool:
        return self._followers.may_send(peer, self._clock.now())

    def _batch_from(self, index: int) -> list[Entry]:
        """Entries for one frame."""
        batch: list[Entry] = []
        room_bytes = self._config.append_batch_bytes
        while room_bytes > 0 and (entry := self._journal.entry(index + len(batch))) is not None:
            batch.append(entry)
            room_bytes -= len(entry.command) + ENTRY_OVERHEAD_BYTES
        return batch

    # Receiving. Every message passes here before the core sees it.

    def receive(self, envelope: Envelope) -> None:
        sender, term, message = envelope.source, envelope.term, envelope.message
        match message:
            case PreVote():
                self._on_pre_vote(sender, term, message)
            case PreVoteReply():
                if not self._adopt_if_higher(term) and message.granted and message.proposed_term == self.term + 1:
                    self._elections.on_granted(sender, message.proposed_term)
            case RequestVote():
                self._on_request_vote(sender, term, message)
            case Vote():
                if not self._adopt_if_higher(term) and term == self.term and self._counts_vote(sender):
                    self._to_core(sender, {"type": "response_vote", "term": term})
            case AppendEntries() | Heartbeat() | SnapshotChunk():
                self._on_leader_message(envelope)
            case AppendReply() | SnapshotReply():
                if not self._adopt_if_higher(term):
                    self._on_follower_message(envelope)
            case HigherTerm():
                self._adopt_if_higher(term)
            case TimeoutNow():
                self._on_timeout_now(sender, term)
            case _:
                assert_never(message)

    def _to_core(self, sender: int, core_message: dict[str, Any]) -> None:
        super()._SyncObj__onMessageReceived(Node(sender), core_message)

    def _adopt_if_higher(self, term: int) -> bool:
        if term <= self.term:
            return False
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(_FOLLOWER)
        self._SyncObj__raftLeader = None
        return True

    # Elections.

    def _on_pre_vote(self, sender: int, term: int, message: PreVote) -> None:
        last = self._journal.last
        up_to_date = (message.last_log_term, message.last_log_index) >= (last.term, last.index)
        granted = term >= self.term and up_to_date and not self.is_leader and not self._elections.hears_leader(self._clock.now())
        self._send(sender, PreVoteReply(term + 1, granted))

    def _on_request_vote(self, sender: int, term: int, message: RequestVote) -> None:
        if term < self.term:
            self._send(sender, HigherTerm())
            return
        last_log = {"last_log_index": message.last_log_index, "last_log_term": message.last_log_term}
        self._to_core(sender, {"type": "request_vote", "term": term, **last_log})

    def _counts_vote(self, sender: int) -> bool:
        return self._elections.is_first_vote(sender, self.term)

    def _on_timeout_now(self, sender: int, term: int) -> None:
        if term == self.term and sender == self.leader and not self.is_leader:
            self._SyncObj__raftElectionDeadline = _AT_ONCE
            self._SyncObj__transferInProgress = True

    # As a leader.

    def _on_follower_message(self, envelope: Envelope) -> None:
        sender, message = envelope.source, envelope.message
        if not self.is_leader or not self._belongs_to_this_term(envelope.term):
            return
        self._followers.on_confirmed(sender, envelope.term, envelope.round)
        self._SyncObj__lastResponseTime[Node(sender)] = self._clock.now()
        match message:
            case AppendReply() if message.next_index <= self._journal.last.index + 1:
                self._on_append_reply(sender, message)
            case SnapshotReply():
                self._sender.on_acknowledged(sender, message.index, message.received_bytes, self._clock.now())
                self._send_soon = True

    def _belongs_to_this_term(self, term: int) -> bool:
        """An acknowledgment of another term proves nothing: what it acknowledged may have been truncated since."""
        return term == self.term

    def _on_append_reply(self, sender: int, reply: AppendReply) -> None:
        matches, next_index = reply.outcome is AppendOutcome.MATCHES, reply.next_index
        sent_up_to = self._SyncObj__raftNextIndex[Node(sender)]
        if matches:
            self._followers.on_match(sender)
            self._sender.cancel(sender)
        else:
            next_index = self._next_index_after_mismatch(sender, reply)
        self._to_core(sender, {"type": "next_node_idx", "next_node_idx": next_index, "reset": not matches, "success": matches})
        if matches:
            # The core would send again what is on its way; the stream keeps order, and a gap is answered as missing.
            self._SyncObj__raftNextIndex[Node(sender)] = max(sent_up_to, next_index)
        self._send_soon |= self._SyncObj__raftNextIndex[Node(sender)] <= self._journal.last.index

    def _next_index_after_mismatch(self, sender: int, reply: AppendReply) -> int:
        return self._followers.on_mismatch(
            sender,
            reply.next_index,
            conflicts=reply.outcome is AppendOutcome.CONFLICTS,
            match_index=self._SyncObj__raftMatchIndex[Node(sender)],
        )

    # As a follower.

    def _on_leader_message(self, envelope: Envelope) -> None:
        if envelope.term < self.term:
            self._send(envelope.source, HigherTerm())
            return
        if envelope.term == self.term and self.is_leader:
            raise Fatal(f"two leaders in term {self.term}: this node and {envelope.source}")
        self._elections.on_leader_heard(envelope.source, self._clock.now())
        self._echoed_round = envelope.round
        match envelope.message:
            case AppendEntries() as append:
                self._on_append_entries(envelope.source, envelope.term, append)
            case SnapshotChunk() as chunk:
                self._hear_snapshot_frame(envelope)
                self._on_snapshot_chunk(envelope.source, envelope.term, chunk)
            case _:
                self._hear_snapshot_frame(envelope)
                self._send(envelope.source, SnapshotReply(*self._receiver.progress))

    def _hear(self, leader: int, term: int, commit_index: int) -> None:
        """To the core, an AppendEntries with neither entries nor a snapshot is a sign of life and nothing else."""
        self._to_core(leader, {"type": "append_entries", "term": term, "commit_index": commit_index})

    def _hear_snapshot_frame(self, envelope: Envelope) -> None:
        """Such a frame says nothing about our log, so it must not advance our commit index."""
        self._hear(envelope.source, envelope.term, self.commit_index)

    def _on_append_entries(self, leader: int, term: int, append: AppendEntries) -> None:
        """Truncate on a conflict only: what follows a matching entry may have been acknowledged already (Raft, figure 2)."""
        previous = self._journal.entry(append.prev_index)
        if previous is None or previous.term != append.prev_term:
            self._hear(leader, term, self.commit_index)
            self._send(leader, self._mismatch(previous))
            return
        fresh = [entry for entry in append.entries if not self._holds(entry)]
        matched = append.prev_index + len(append.entries) - len(fresh)
        if not fresh and matched < self._journal.last.index:
            self._hear(leader, term, min(append.commit_index, matched))
            self._send(leader, AppendReply(matched + 1, AppendOutcome.MATCHES))
            return
        if fresh and fresh[0].index <= self.commit_index:
            raise Fatal(f"leader {leader} conflicts with the committed entry {fresh[0].index}")
        self._append_in_core(leader, term, append, fresh, matched)

    def _holds(self, entry: Entry) -> bool:
        held = self._journal.entry(entry.index)
        return held is not None and held.term == entry.term

    def _append_in_core(self, leader: int, term: int, append: AppendEntries, entries: list[Entry], prev_index: int) -> None:
        previous = self._journal.entry(prev_index)
        assert previous is not None, prev_index
        core_message = {
            "type": "append_entries",
            "term": term,
            "commit_index": append.commit_index,
            "entries": entries,
            "prevLogIdx": prev_index,
            "prevLogTerm": previous.term,
        }
        self._to_core(leader, core_message)

    def _mismatch(self, held: Entry | None) -> AppendReply:
        """Where the leader should go on: behind our log, or before the term that conflicts."""
        if held is None:
            return AppendReply(self._journal.last.index + 1, AppendOutcome.MISSING)
        if held.index <= self.commit_index:
            raise Fatal(f"the leader conflicts with the committed entry {held.index}")
        next_index = held.index
        while next_index - 1 > self.commit_index and self._term_at(next_index - 1) == held.term:
            next_index -= 1
        return AppendReply(next_index, AppendOutcome.CONFLICTS)

    def _term_at(self, index: int) -> int | None:
        entry = self._journal.entry(index)
        return None if entry is None else entry.term

    # Snapshots.

    def _on_snapshot_chunk(self, leader: int, term: int, chunk: SnapshotChunk) -> None:
        if chunk.index <= self.commit_index:
            # Both hold the same up to there, and that is all we acknowledge.
            self._receiver.forget()
            self._send(leader, AppendReply(chunk.index + 1, AppendOutcome.MATCHES))
            return
        blob = self._receiver.on_chunk(leader, term, chunk)
        if blob is None:
            self._send(leader, SnapshotReply(*self._receiver.progress))
        elif self._install(blob):
            self._send(leader, AppendReply(chunk.index + 1, AppendOutcome.MATCHES))

    def _install(self, blob: bytes) -> bool:
        """Take a leader's snapshot. False if it is damaged: without an acknowledgment the leader sends it again."""
        try:
            snapshot = self._parse_received(blob)
        except ValueError as error:
            log.error("dropped a snapshot from the leader: %s", error)
            return False
        if self._term_at(snapshot.index) == snapshot.term:
            # Our log holds its last entry, so everything up to it matches: keep the log, it reaches further.
            self._SyncObj__raftCommitIndex = max(self.commit_index, snapshot.index)
            return True
        # In this order: dying in between leaves a snapshot beyond the log, which the next start repairs.
        self.barrier()
        self._snapshots.save(snapshot)
        self._journal.restart_at(snapshot.index, snapshot.term)
        self.barrier()
        self._restore(snapshot)
        return True

    def _parse_received(self, blob: bytes) -> Snapshot:
        return parse_snapshot(blob)

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
            outcome = ProposeOutcome.COMMITTED if proposal.term == entry.term else ProposeOutcome.DISCARDED
            _answer(proposal.done, outcome, entry.index)

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """The core's queue of commands is not used: proposals go to the journal directly."""


def _answer(done: Callable[..., None], *result: object) -> None:
    try:
        done(*result)
    except Exception:
        log.exception("a callback of the quorum raised")


def _from_core(core_message: dict[str, Any]) -> Message:
    match core_message:
        case {"type": "request_vote"}:
            return RequestVote(core_message["last_log_index"], core_message["last_log_term"])
        case {"type": "response_vote"}:
            return Vote()
        case {"type": "next_node_idx", "success": True}:
            return AppendReply(core_message["next_node_idx"], AppendOutcome.MATCHES)
        case {"type": "timeout_now"}:
            return TimeoutNow()
        case _:
            raise Fatal(f"the raft core would send {core_message['type']!r}, which is not part of the protocol")


def _core_settings(config: QuorumConfig) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        dynamicMembershipChange=False,
        useFork=False,
        journalFile=None,
        fullDumpFile=None,
        commandsWaitLeader=False,
        appendEntriesUseBatch=True,
        pollerType="select",
        raftMinTimeout=config.election_timeout_min_s,
        raftMaxTimeout=config.election_timeout_max_s,
        # A leader that hears no majority for as long as the others need to elect another one is none.
        leaderFallbackTimeout=config.election_timeout_max_s,
        connectionTimeout=max(3.5, config.election_timeout_max_s),
        appendEntriesPeriod=config.heartbeat_s,
        # Above the largest command: the core's path for larger ones pickles.
        appendEntriesBatchSizeBytes=config.append_batch_bytes,
    )
