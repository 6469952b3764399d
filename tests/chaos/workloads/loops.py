"""An event loop that runs only while its thread waits for something."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_bounded(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Raises what the work raises, and TimeoutError when it takes too long.

    Nobody cancels the work from outside, yet aiokafka hands on the cancellation of a task of its own.
    """
    try:
        return loop.run_until_complete(asyncio.wait_for(work, timeout_s))
    except asyncio.CancelledError:
        raise TimeoutError("cancelled from within") from None
