"""A quorum on a thread of its own, as it runs in production.

The thread wakes at once when something arrives, else every `period_s` to let time pass. `deliver` is `loop.call_soon_threadsafe`.
"""

import threading
from typing import Any

from quorumlog.raft.driver import QuorumDriver
from quorumlog.raft.quorum import Quorum


class QuorumThread(QuorumDriver):
    """Runs the rounds on its thread: `deliver` and `on_fatal` are called there."""

    def __init__(self, quorum: Quorum, *, period_s: float = 0.01, **settings: Any) -> None:
        super().__init__(quorum, **settings)
        self._period_s = period_s
        self._arrived = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="raft", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        with self._lock:
            self._stopping = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _wake(self) -> None:
        self._arrived.notify()

    def _run(self) -> None:
        self._wait()
        while not self._round():
            self._wait()

    def _wait(self) -> None:
        with self._lock:
            if not self._inbox and not self._stopping:
                self._arrived.wait(self._period_s)
