"""An event loop on virtual time for several processes in one: a seed decides whose turn it is, and each has its own clock.

Every callback belongs to a *lane* (an event loop's or a thread's work in one simulated process), found through a context
variable, so that tasks stay where they were started. Within a lane callbacks run in order, as asyncio promises; among lanes
chance decides. When nothing is ready, time jumps to the next timer. A process can be paused (nothing of it runs) and killed
(nothing of it ever runs again).
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

CALLBACKS_AT_ONE_INSTANT_MAX = 100_000
TIMER_SLACK_S = 1e-9  # a timer must not fire before its time by a rounding of another process's clock


class Stuck(Exception):
    """Nothing will ever happen again, or all happens at one instant."""


class Process:
    """One simulated process: its clock, and whether it runs. `now = offset_s + rate * time of the simulation`."""

    def __init__(self, name: str, *, node_id: int = -1, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self.name = name
        self.node_id = node_id
        self.offset_s = offset_s
        self.rate = rate
        self.is_paused = False
        self.is_dead = False
        self.ran = False  # since somebody last looked and reset it
        self.main = Lane(self)
        self._lanes = [self.main]

    def new_lane(self) -> "Lane":
        """Something that runs beside the process's event loop."""
        lane = Lane(self)
        self._lanes.append(lane)
        return lane

    def kill(self) -> None:
        self.is_dead = True
        for lane in self._lanes:
            lane.ready.clear()

    def resume(self, loop: "SimLoop") -> None:
        self.is_paused = False
        for lane in self._lanes:
            loop.enlist(lane)


class Lane:
    """Callbacks that are ready and run one after the other."""

    __slots__ = ("context", "is_listed", "process", "ready")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ready: deque[asyncio.Handle] = deque()
        self.is_listed = False
        self.context = copy_context()
        self.context.run(LANE.set, self)


LANE: ContextVar[Lane] = ContextVar("LANE")


class SimLoop(asyncio.BaseEventLoop):
    """`look` is called after each instant, before time goes on; `listen(node_id, factory)` stands behind `create_server`."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._random = rng.random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = itertools.count()
        self._runnable: list[Lane] = []
        self._outside = Process("outside")
        self._process = self._outside
        self.look: Callable[[], None] = lambda: None
        self.listen: Callable[[int, Any], Any] | None = None
        self.callbacks = 0
        self.failure: BaseException | None = None

    @property
    def now(self) -> float:
        """Seconds of the simulation, whoever asks."""
        return self._now

    @property
    def running(self) -> str:
        """The name of the process that runs now."""
        return self._process.name

    @property
    def running_node_id(self) -> int:
        """-1 if it is no node's process."""
        return self._process.node_id

    def time(self) -> float:
        """As the clock of the process that runs now shows it."""
        process = self._process
        return process.offset_s + self._now * process.rate

    # --- what is to run

    def enlist(self, lane: Lane) -> None:
        """Let the lane take its turn, if it has something to do and may."""
        process = lane.process
        if process.is_dead:
            lane.ready.clear()
        elif lane.ready and not lane.is_listed and not process.is_paused:
            lane.is_listed = True
            self._runnable.append(lane)

    def _put(self, handle: asyncio.Handle, context: Context) -> None:
        lane = context.get(LANE, self._outside.main)
        assert lane is not None
        lane.ready.append(handle)
        if not lane.is_listed:
            self.enlist(lane)

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._put(handle, context)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From a thread of a process to its event loop."""
        lane = (context or copy_context()).get(LANE, self._outside.main)
        assert lane is not None
        return self.call_soon(callback, *args, context=lane.process.main.context.copy())

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._set_timer(self._now + max(0.0, delay) / self._process.rate, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        process = self._process
        return self._set_timer((when - process.offset_s) / process.rate, callback, args, context)

    def _set_timer(self, when: float, callback: Any, args: Any, context: Context | None) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when + TIMER_SLACK_S, next(self._timer_numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until its time comes."""

    # --- running

    def _run_once(self) -> None:
        if not self._runnable:
            self._go_on_in_time()
        before = self.callbacks
        runnable, chance = self._runnable, self._random
        while runnable:
            position = int(chance() * len(runnable)) if len(runnable) > 1 else 0
            lane = runnable[position]
            runnable[position] = runnable[-1]
            runnable.pop()
            lane.is_listed = False
            self._run_some(lane, 1 + int(chance() * len(lane.ready)))
            self.enlist(lane)
            if self.callbacks - before > CALLBACKS_AT_ONE_INSTANT_MAX:
                raise Stuck(f"{lane.process.name} goes on and on at {self._now:.3f} s: {list(lane.ready)[:3]}")
            if self._stopping:  # type: ignore[attr-defined]
                return
        self.look()

    def _run_some(self, lane: Lane, count: int) -> None:
        process, ready = lane.process, lane.ready
        self._process = process
        process.ran = True
        while count and ready and not process.is_paused:
            handle = ready.popleft()
            count -= 1
            if not handle._cancelled:
                self.callbacks += 1
                handle._run()
                if self.failure is not None:
                    raise self.failure
        self._process = self._outside

    def _go_on_in_time(self) -> None:
        """To the next timer that counts, and all that are due with it."""
        timers = self._timers
        while timers:
            when, _, timer = heapq.heappop(timers)
            if timer._cancelled:
                continue
            context: Context = timer._context  # type: ignore[attr-defined]
            lane = context.get(LANE, self._outside.main)
            assert lane is not None
            if lane.process.is_dead:
                continue
            if when > self._now:
                self._now = when
            self._put(timer, context)
            while timers and timers[0][0] <= self._now:
                timer = heapq.heappop(timers)[2]
                if not timer._cancelled:
                    self._put(timer, timer._context)  # type: ignore[attr-defined]
            if self._runnable:
                return
        raise Stuck(f"nothing will ever happen after {self._now:.3f} s")

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        assert self.listen is not None
        return self.listen(self._process.node_id, protocol_factory)

    def _write_to_self(self) -> None:
        """Nobody sleeps here."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""
