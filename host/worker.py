"""Blocking work beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class ThreadWorker:
    """Implements `Worker` by one thread, which starts with the first work.

    Each flush round comes this way, hundreds a second: `run_in_executor` makes two futures, a lock and a chain between them for
    each piece of work, which was a tenth of what a small batch cost.
    """

    def __init__(self, name: str) -> None:
        self._pieces: SimpleQueue[_Piece | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._thread.is_alive():
            self._thread.start()
        self._pieces.put((work, future, loop))
        return await future

    def close(self) -> None:
        self._pieces.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            work, future, loop = piece
            try:
                result, error = work(), None
            except BaseException as raised:  # whoever awaits it has to hear of it, whatever it is
                result, error = None, raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, future, result, error)


_Piece = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


def _tell(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
