"""A few nodes agree on one log: the door of the metadata quorum.

A Quorum is one voter. It is plain code without threads: whoever owns it calls `tick` at least every 20 ms and after each batch of
messages, from one thread at a time (thread.py does so in production, the simulator on virtual time). Its storage must have been
formatted (identity.py). Any call may raise Fatal; after that the process must stop, and this object refuses to go on.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quorumlog.host.ports import Clock, Disk, KVStore
from quorumlog.raft import core
from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.engine import Engine
from quorumlog.raft.errors import Fatal
from quorumlog.raft.identity import require_identity
from quorumlog.raft.journal import Journal
from quorumlog.raft.messages import Envelope, decode
from quorumlog.raft.ports import ProposeDone, QuorumListener, QuorumStatus, ReadDone, StateMachine
from quorumlog.raft.snapshots import SnapshotStore
from quorumlog.raft.voter import Parts


class Quorum:
    """One voter. `store` and `disk` are borrowed; everything under "raft/" in them is the quorum's.

    Raises StorageRefused if the store is unformatted or another node's, and Fatal if what it holds is damaged.
    The machine must be empty: its state is restored from the latest snapshot here and replayed by ticks.
    """

    _engine_class: type[Engine] = Engine
    _journal_class: type[Journal] = Journal

    def __init__(
        self,
        config: QuorumConfig,
        *,
        store: KVStore,
        disk: Disk,
        machine: StateMachine,
        listener: QuorumListener,
        send: Callable[[int, bytes], bool],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        require_identity(store, node_id=config.node_id, voters=config.voters)
        self.config = config
        self._clock, self._rng = clock, rng
        self._stopped_by: str | None = None
        self._snapshots = SnapshotStore(disk)
        with self._entered():
            self._journal = self._journal_class(store)
            parts = Parts(config, self._journal, self._snapshots, machine, listener, send, clock)
            self._engine = self._engine_class(parts)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Run on our clock and chance. After Fatal nothing runs any more: what is in memory may not be what is durable."""
        if self._stopped_by is not None:
            raise Fatal(f"the quorum has stopped: {self._stopped_by}")
        try:
            with core.entered(self._clock, self._rng):
                yield
        except Fatal as fatal:
            self._stopped_by = str(fatal)
            raise

    def tick(self) -> None:
        """Let time pass and work off what arrived."""
        with self._entered():
            self._engine.tick()

    def on_message(self, sender: int, frame: bytes) -> None:
        """A frame from a peer, as authenticated by its connection. A bad one raises BadFrame and changes nothing."""
        envelope = self._decode(sender, frame)
        with self._entered():
            self._engine.receive(envelope)
            self._engine.announce_leader()

    def _decode(self, sender: int, frame: bytes) -> Envelope:
        return decode(frame, sender, self.config)

    def on_peer_connected(self, peer: int) -> None:
        """Frames can be sent to the peer from now on."""
        with self._entered():
            self._engine.peer_connected(self._require_peer(peer))

    def on_peer_disconnected(self, peer: int, *, process_gone: bool) -> None:
        """The connection is gone. If the leader's whole process is, an election starts without waiting for the timeout."""
        with self._entered():
            self._engine.peer_disconnected(self._require_peer(peer), process_gone=process_gone)
            self._engine.announce_leader()

    def _require_peer(self, peer: int) -> int:
        if peer not in self.config.peers:
            raise ValueError(f"node {peer} is not another voter of {self.config.voters}")
        return peer

    def propose(self, command: bytes, done: ProposeDone, *, term: int | None = None) -> None:
        """Append a command to the log, if we lead (in exactly `term`, if given). `done` is called once, perhaps at once."""
        with self._entered():
            self._engine.propose(command, done, term)

    def read_barrier(self, done: ReadDone) -> None:
        """Call back with True once everything committed before now is applied here and we were still the leader; else False."""
        with self._entered():
            self._engine.read_barrier(done)

    def transfer_leadership(self) -> None:
        """For a clean stop: hand over to the most advanced voter. Refuses proposals meanwhile; gives up after a timeout."""
        with self._entered():
            self._engine.transfer_leadership()

    def snapshot_soon(self) -> None:
        """Take a snapshot at the next tick instead of when it is due."""
        with self._entered():
            self._engine.snapshot_soon()

    def status(self) -> QuorumStatus:
        engine = self._engine
        return QuorumStatus(
            term=engine.term,
            role=engine.role,
            active=engine.is_active,
            leader=engine.leader,
            commit_index=engine.commit_index,
            applied_index=engine.applied_index,
            first_log_index=self._journal.first.index,
            last_log_index=self._journal.last.index,
            snapshot_index=self._snapshots.durable_index,
            matched=engine.matched,
        )

    def close(self) -> None:
        """Answer all who wait with UNKNOWN or False. The store and the disk stay open: they are the owner's."""
        if self._stopped_by is None:
            with self._entered():
                self._engine.close()
            self._stopped_by = "it was closed"
