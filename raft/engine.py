"""The conversation of a voter with the others: elections, the log's way to the followers, snapshots for those far behind.

Every message passes here before the core sees it. Where the stock core is wrong, the method that mends it says how.
"""

import logging
from itertools import dropwhile
from typing import assert_never

from pysyncobj import FAIL_REASON
from pysyncobj.node import Node

from quorumlog.raft.config import ENTRY_OVERHEAD_BYTES
from quorumlog.raft.elections import Elections
from quorumlog.raft.errors import Fatal
from quorumlog.raft.journal import Entry
from quorumlog.raft.messages import (
    AppendEntries,
    AppendOutcome,
    AppendReply,
    Envelope,
    Heartbeat,
    HigherTerm,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
)
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.raft.snapshots import Snapshot, SnapshotReceiver, SnapshotSender, parse_snapshot
from quorumlog.raft.voter import AT_ONCE, Parts, Voter

log = logging.getLogger(__name__)


class Engine(Voter):
    """One voter's Raft. Not thread safe; every call runs inside `core.entered`. Owned by its Quorum."""

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self._elections = Elections(
            config.node_id,
            config.voters,
            sticky_s=config.election_timeout_min_s,
            retry_s=config.heartbeat_s,
            step_s=config.early_election_step_s,
        )
        self._sender = SnapshotSender(
            parts.snapshots,
            chunk_bytes=config.snapshot_chunk_bytes,
            chunks_in_flight=config.snapshot_chunks_in_flight,
            stall_s=config.election_timeout_min_s,
        )
        self._receiver = SnapshotReceiver()
        self._transfer_deadline: float | None = None
        self._transfer_retry_at = AT_ONCE
        super().__init__(parts)

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
            self._SyncObj__newAppendEntriesTime = AT_ONCE
        self._send_soon = False

    def peer_connected(self, peer: int) -> None:
        self._elections.on_connected(peer)
        self._followers.probe(peer)
        self._SyncObj__onNodeConnected(Node(peer))
        self._send_soon = True  # a follower that comes back must hear its leader before it thinks of an election
        if not self.is_leader and self._elections.may_begin():
            self._stand_early()

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

    # Leadership transfer.

    def _refusal(self, command: bytes, term: int | None) -> ProposeOutcome | None:
        if self._transfer_deadline is not None:
            return ProposeOutcome.NOT_LEADER
        return super()._refusal(command, term)

    def _end_leadership(self) -> None:
        self._transfer_deadline = None
        self._sender.cancel_all()
        super()._end_leadership()

    def transfer_leadership(self) -> None:
        if self.is_leader and self._config.peers:
            self._transfer_deadline = self._clock.now() + self._config.election_timeout_max_s
            self._transfer_retry_at = AT_ONCE

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
        chunk = self._sender.next_chunk(peer, self._clock.now())
        if chunk is None:
            self._send(peer, Heartbeat())
        while chunk is not None and self._send(peer, chunk):
            chunk = self._sender.next_chunk(peer, self._clock.now())

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
            self._SyncObj__raftElectionDeadline = AT_ONCE
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
                # Only progress asks for more at once: answers to heartbeats would keep the two busy with nothing.
                self._send_soon |= self._sender.on_acknowledged(sender, message.index, message.received_bytes, self._clock.now())

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

    @property
    def matched(self) -> tuple[tuple[int, int], ...]:
        """Of a leader: up to where the log of each other voter is known to be ours, by id."""
        if not self.is_leader:
            return ()
        return tuple((peer, self._SyncObj__raftMatchIndex.get(Node(peer), 0)) for peer in sorted(self._config.peers))

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
        fresh = list(dropwhile(self._holds, append.entries))
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
        elif self._install(blob, chunk):
            self._send(leader, AppendReply(chunk.index + 1, AppendOutcome.MATCHES))

    def _install(self, blob: bytes, last_chunk: SnapshotChunk) -> bool:
        """Take a leader's snapshot. False if it is damaged: without an acknowledgment the leader sends it again."""
        try:
            snapshot = self._parse_received(blob, last_chunk)
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

    def _parse_received(self, blob: bytes, last_chunk: SnapshotChunk) -> Snapshot:
        snapshot = parse_snapshot(blob)
        if (snapshot.index, snapshot.term) != (last_chunk.index, last_chunk.snapshot_term):
            raise ValueError(f"it ends at {snapshot.index} of term {snapshot.term}, its chunks said {last_chunk.index}")
        return snapshot
