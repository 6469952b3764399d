"""What a node's host brings beside disk and network: its clock, its raft quorum's rounds, and the thread for blocking work."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

from quorumlog.raft.driver import QuorumDriver
from quorumlog.raft.quorum import Quorum
from tests.sim.loop import LANE, SimLoop

T = TypeVar("T")
ROUND_EVERY_S = 0.05  # production lets time pass every 10 ms; elections take ten times this


class NodeClock:
    """Implements `Clock`: monotonic time as the process's loop has it, and a wall clock that can be wrong and jump."""

    def __init__(self, loop: SimLoop, wall_start_ms: int) -> None:
        self._loop = loop
        self.wall_start_ms = wall_start_ms  # what the wall clock showed when the simulation began

    def now(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return self.wall_start_ms + int(self._loop.now * 1000)


class QuorumOnLoop(QuorumDriver):
    """A quorum in a lane of its own beside the node's loop, as its thread would be."""

    def __init__(self, quorum: Quorum, *, round_trip: Callable[[], float], **settings: Any) -> None:
        super().__init__(quorum, **settings)
        self._round_trip = round_trip  # seconds from something arriving to its round: what a sync takes
        self._is_over = False
        self._is_due = False

    def start(self) -> None:
        lane = LANE.get().process.new_lane()
        self._context = lane.context
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._on_time, context=self._context)

    def stop(self, timeout_s: float) -> bool:
        self._stopping = True
        if not self._is_over:
            self._is_over = self._round()
        return True

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(self._round_trip(), self._on_call, context=self._context)

    def _on_call(self) -> None:
        self._is_due = False
        if not self._is_over:
            self._is_over = self._round()

    def _on_time(self) -> None:
        if not self._is_over:
            self._is_over = self._round()
            self._loop.call_later(ROUND_EVERY_S, self._on_time, context=self._context)


class SlowWorker:
    """Implements `Worker`: the work is done at once, and it is drawn whether its time passes before or after."""

    def __init__(self, rng: random.Random, delay: Callable[[], float]) -> None:
        self._rng = rng
        self._delay = delay

    async def run(self, work: Callable[[], T]) -> T:
        delay_s = self._delay()
        if self._rng.random() < 0.5:
            await asyncio.sleep(delay_s)
            return work()
        result = work()
        await asyncio.sleep(delay_s)
        return result

    def close(self) -> None:
        """It holds nothing."""
