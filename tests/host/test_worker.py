"""Blocking work beside the event loop."""

import asyncio
import threading

import pytest

from quorumlog.host.worker import ThreadWorker


def test_work_is_done_in_order_by_one_thread() -> None:
    """And its results reach who asked for them."""

    async def script() -> None:
        worker = ThreadWorker("worker")
        threads = await asyncio.gather(*(worker.run(threading.current_thread) for _ in range(5)))
        assert {thread.name for thread in threads} == {"worker"}
        assert len(set(threads)) == 1
        worker.close()
        assert not threads[0].is_alive()

    asyncio.run(script())


def test_an_error_reaches_who_asked() -> None:
    """Also one that is no Exception; the next work is done."""

    def fail(error: BaseException) -> None:
        raise error

    async def script() -> None:
        worker = ThreadWorker("worker")
        for error in (OSError("no disk"), SystemExit(3)):
            with pytest.raises(type(error)):
                await worker.run(lambda error=error: fail(error))  # type: ignore[misc]
        assert await worker.run(lambda: 5) == 5
        worker.close()

    asyncio.run(script())


def test_nobody_need_wait_for_the_result() -> None:
    """Neither a cancelled task nor a loop that is closed disturbs the worker."""
    gate = threading.Event()
    worker = ThreadWorker("worker")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await worker.run(lambda: gate.wait(5))

    async def go_on() -> bool:
        return await worker.run(lambda: True)

    asyncio.run(give_up())
    gate.set()
    assert asyncio.run(go_on())
    worker.close()


def test_a_worker_without_work_can_be_closed() -> None:
    """It never had a thread."""
    ThreadWorker("worker").close()
