"""Trying again to reach another node, with tenacity. Without jitter: the other side is one node, not a crowd, and a simulated
run must be the same each time."""

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_fixed

from quorumlog.host.ports import PeerGone


def until_reached(
    *, first_pause_s: float, longest_pause_s: float, stop: Callable[[RetryCallState], bool] = lambda _: False
) -> AsyncRetrying:
    """Call again after PeerGone, with pauses that double from the first to the longest. Raises PeerGone once `stop` says so."""
    return AsyncRetrying(
        retry=retry_if_exception_type(PeerGone),
        wait=wait_exponential(multiplier=first_pause_s, max=longest_pause_s),
        stop=stop,
        sleep=asyncio.sleep,
        reraise=True,
    )


def until_answered(
    errors: tuple[type[Exception], ...], *, pause_s: float, sleep: Callable[[float], Awaitable[None]]
) -> AsyncRetrying:
    """Call again after any of these errors. `sleep(pause_s)` may return early, when trying again makes sense sooner."""
    return AsyncRetrying(retry=retry_if_exception_type(errors), wait=wait_fixed(pause_s), sleep=sleep, reraise=True)
