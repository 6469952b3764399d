"""The node's own background tasks. One that ends by an error takes the node with it: half a node is worse than none."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

OnFatal = Callable[[BaseException], None]


class Tasks:
    """Owned by the node; hands out tasks that are watched, and cancels what is left at the end."""

    def __init__(self, on_fatal: OnFatal) -> None:
        self._on_fatal = on_fatal
        self._tasks: dict[asyncio.Task[None], None] = {}  # no set: its order would differ from run to run

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the task %r ended by an error", task.get_name(), exc_info=error)
            self._on_fatal(error)


async def cancelled(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task of ours and wait until it has put its things in order."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


async def wait_at_most(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for the event; False if it was not set within the timeout."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
