import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.loop import Process, SimLoop, Stuck


def run_in(loop: SimLoop, process: Process, work: Callable[[], Any]) -> None:
    """Let a process begin with a coroutine function."""
    loop.call_soon(lambda: loop.create_task(work()), context=process.main.context)


def run(loop: SimLoop, seconds: float) -> None:
    try:
        loop.run_until_complete(asyncio.sleep(seconds))
    finally:
        loop.close()


def test_waiting_takes_no_time_and_each_process_has_its_own_clock() -> None:
    """A clock that runs two per cent fast sleeps shorter, and says the right length."""
    loop, fast = SimLoop(random.Random(1)), Process("fast", offset_s=1000.0, rate=1.02)
    seen: list[tuple[float, float]] = []

    async def sleep() -> None:
        before = loop.time()
        await asyncio.sleep(51)
        seen.append((loop.time() - before, loop.now))

    run_in(loop, fast, sleep)
    run(loop, 60)
    (slept, now) = seen[0]
    assert slept == pytest.approx(51)
    assert now == pytest.approx(50)
    assert slept >= 51


def test_callbacks_of_a_process_keep_their_order_and_those_of_others_do_not() -> None:
    def order(seed: int) -> list[str]:
        loop = SimLoop(random.Random(seed))
        seen: list[str] = []
        for name in ("a", "b"):
            process = Process(name)
            for number in range(5):
                loop.call_soon(seen.append, f"{name}{number}", context=process.main.context)
        run(loop, 1)
        return seen

    orders = [order(seed) for seed in range(20)]
    for one in orders:
        assert [event for event in one if event[0] == "a"] == ["a0", "a1", "a2", "a3", "a4"]
        assert [event for event in one if event[0] == "b"] == ["b0", "b1", "b2", "b3", "b4"]
    assert len({tuple(one) for one in orders}) > 5
    assert orders == [order(seed) for seed in range(20)]


def test_a_paused_process_does_nothing_until_it_is_resumed_and_a_dead_one_never_again() -> None:
    loop, process = SimLoop(random.Random(1)), Process("node")
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(loop.now)

    run_in(loop, process, tick)
    loop.call_later(2.5, setattr, process, "is_paused", True)
    loop.call_later(5.25, process.resume, loop)
    loop.call_later(7.5, process.kill)
    run(loop, 10)
    assert ticks == [pytest.approx(1), pytest.approx(2), pytest.approx(5.25), pytest.approx(6.25), pytest.approx(7.25)]


def test_what_a_thread_hands_over_runs_on_the_event_loop_of_its_process() -> None:
    loop, process = SimLoop(random.Random(1)), Process("node")
    thread = process.new_lane()
    lanes: list[bool] = []

    def on_loop() -> None:
        lanes.append(process.main.ready is loop_lane_of(loop))

    loop.call_soon(loop.call_soon_threadsafe, on_loop, context=thread.context)
    run(loop, 1)
    assert lanes == [True]


def loop_lane_of(_loop: SimLoop) -> Any:
    from tests.sim.loop import LANE

    return LANE.get().ready


def test_a_deadlock_and_a_livelock_are_told() -> None:
    loop = SimLoop(random.Random(1))
    with pytest.raises(Stuck, match="nothing will ever happen"):
        loop.run_until_complete(asyncio.Event().wait())
    loop.close()

    loop = SimLoop(random.Random(1))

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    spinning = loop.create_task(spin())
    with pytest.raises(Stuck, match="on and on"):
        loop.run_until_complete(spinning)
    spinning._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
