"""An event loop on which waiting takes no time: when nothing is ready, its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time begins at 0. Work in threads still takes real time, and no virtual time."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:  # no timer: only a thread can go on
            return super().select(5.0)
        ready = super().select(0)
        if not ready:
            self._loop.jump(timeout)
        return ready


class LoopClock:
    """Implements `Clock` by the time of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.now() * 1000)


def run(main: Coroutine[Any, Any, None]) -> None:
    """To its end, on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


async def turns(count: int = 20) -> None:
    """Let everything run that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
