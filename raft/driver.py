"""What carries a quorum: calls from the event loop go into an inbox, each round works it off, results are delivered together.

    event loop --post--> inbox --> a round: all that arrived, then one tick, one sync --deliver--> event loop

When a round runs is the subclass's affair: thread.py has a thread for it, the simulator its virtual time.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from quorumlog.raft.errors import BadFrame, Fatal
from quorumlog.raft.ports import ProposeDone, ProposeOutcome, QuorumStatus, ReadDone
from quorumlog.raft.quorum import Quorum

log = logging.getLogger(__name__)

Call = Callable[[], None]


class QuorumDriver(ABC):
    """Owns a Quorum from `start` to `stop`: nobody else may touch it in between, except through here.

    `deliver` is called in a round and runs what it is given elsewhere, in order. `on_fatal` is called in a round, once, as the
    last deed: it must stop the process. `on_bad_frame` is delivered.
    """

    def __init__(
        self,
        quorum: Quorum,
        *,
        deliver: Callable[[Call], None],
        on_fatal: Callable[[BaseException], None],
        on_bad_frame: Callable[[int, BadFrame], None] = lambda peer, error: None,
        inbox_calls_max: int = 10_000,
    ) -> None:
        self._quorum = quorum
        self._deliver, self._on_fatal, self._on_bad_frame = deliver, on_fatal, on_bad_frame
        self._inbox_calls_max = inbox_calls_max
        self._inbox: list[Call] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._results: list[Call] = []
        self._status = quorum.status()

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self, timeout_s: float) -> bool:
        """Work off the inbox, answer all who wait, close the quorum. False if that did not end in time."""

    @abstractmethod
    def _wake(self) -> None:
        """Something is in the inbox: let a round run soon. Called with the lock held."""

    def status(self) -> QuorumStatus:
        """As of the last round. Any thread may ask."""
        return self._status

    def post(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Run in a round, in order. False, and certainly not run, if the inbox is full or the driver stops."""
        with self._lock:
            if self._stopping or len(self._inbox) >= self._inbox_calls_max:
                return False
            self._inbox.append(partial(function, *arguments))
            self._wake()
        return True

    def on_message(self, sender: int, frame: bytes) -> bool:
        """A frame from a peer. One that finds the inbox full is lost; Raft sends again."""
        return self.post(self._receive, sender, frame)

    def on_peer_connected(self, peer: int) -> bool:
        return self.post(self._quorum.on_peer_connected, peer)

    def on_peer_disconnected(self, peer: int, *, process_gone: bool) -> bool:
        return self.post(partial(self._quorum.on_peer_disconnected, peer, process_gone=process_gone))

    def propose(self, command: bytes, done: ProposeDone, *, term: int | None = None) -> None:
        """As Quorum.propose; `done` is delivered."""
        if not self.post(partial(self._quorum.propose, command, partial(self._answer, done), term=term)):
            self._deliver(partial(done, ProposeOutcome.BUSY, 0))

    def read_barrier(self, done: ReadDone) -> None:
        """As Quorum.read_barrier; `done` is delivered."""
        if not self.post(self._quorum.read_barrier, partial(self._answer, done)):
            self._deliver(partial(done, False))

    def transfer_leadership(self) -> bool:
        return self.post(self._quorum.transfer_leadership)

    # In a round.

    def _round(self) -> bool:
        """Everything that arrived, then one tick. True if it was the last, or the quorum failed: the owner has been told."""
        try:
            calls, last = self._take_calls()
            for call in calls:
                call()
            self._quorum.tick()
            self._status = self._quorum.status()
            if last:
                self._quorum.close()
            self._hand_over_results()
        except BaseException as error:
            # Whatever it is, a quorum that stopped half way is no quorum; only its owner can end the process.
            log.critical("the raft quorum ends: %r", error)
            self._on_fatal(_fatal(error))
            return True
        return last

    def _take_calls(self) -> tuple[list[Call], bool]:
        with self._lock:
            calls, self._inbox = self._inbox, []
            return calls, self._stopping

    def _receive(self, sender: int, frame: bytes) -> None:
        try:
            self._quorum.on_message(sender, frame)
        except BadFrame as error:
            log.warning("dropped a frame from node %d: %s", sender, error)
            self._results.append(partial(self._on_bad_frame, sender, error))

    def _answer(self, done: Callable[..., None], *result: object) -> None:
        self._results.append(partial(done, *result))

    def _hand_over_results(self) -> None:
        if self._results:
            results, self._results = self._results, []
            self._deliver(partial(_run_all, results))


def _fatal(error: BaseException) -> Fatal:
    if isinstance(error, Fatal):
        return error
    fatal = Fatal(f"the raft quorum cannot go on: {error!r}")
    fatal.__cause__ = error
    return fatal


def _run_all(calls: list[Call]) -> None:
    for call in calls:
        try:
            call()
        except Exception:
            log.exception("a callback of the quorum raised")
