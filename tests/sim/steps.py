"""The steps in which a transaction ends, in the nodes' own code, and traps that kill somebody at one of them.

end received -> prepare logged -> prepare committed -> marker sent -> marker appended -> markers written -> completion logged

with watched_steps(world.reach):     whoever comes to a step says so, and does not go on if it was killed for it
"""

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from quorumlog.coordinators.results import Result
from quorumlog.coordinators.transactions import EndDecided
from quorumlog.node.coordinator_shard import LedShard
from quorumlog.node.transaction_coordinator import TransactionCoordinator
from quorumlog.node.transaction_markers import MarkerSender, MarkerWriter

END_RECEIVED = "end received"  # nothing is decided
PREPARE_LOGGED = "prepare logged"  # decided, and on this node's disk perhaps
PREPARE_COMMITTED = "prepare committed"  # decided for good; the producer has no answer yet
MARKER_SENT = "marker sent"  # to one node; perhaps the others have none
MARKER_APPENDED = "marker appended"  # to one partition, and not committed
MARKERS_WRITTEN = "markers written"  # on all partitions that were asked, and committed there
COMPLETION_LOGGED = "completion logged"
STEPS = (
    *(END_RECEIVED, PREPARE_LOGGED, PREPARE_COMMITTED),
    *(MARKER_SENT, MARKER_APPENDED, MARKERS_WRITTEN, COMPLETION_LOGGED),
)
HERE, COORDINATOR = "here", "coordinator"

Reach = Callable[[str], bool]
"""Told which step the running process has come to; whether that process was killed for it."""


@dataclass(slots=True, eq=False)
class Trap:
    """Waits for a step, lets some pass, and then strikes once: whoever is there, or who coordinates transactions."""

    step: str
    to_pass: int
    victim: str
    power: bool
    is_sprung: bool = False

    def springs(self, step: str) -> bool:
        if self.is_sprung or step != self.step:
            return False
        self.to_pass -= 1
        self.is_sprung = self.to_pass < 0
        return self.is_sprung


@contextmanager
def watched_steps(reach: Reach) -> Iterator[None]:
    with ExitStack() as patches:
        for owner, name, wrap in (
            (TransactionCoordinator, "end", _before(END_RECEIVED)),
            (LedShard, "_apply", _when_decided),
            (TransactionCoordinator, "_perform", _at(PREPARE_COMMITTED)),
            (MarkerSender, "_codes", _when_sent),
            (MarkerWriter, "_append", _at(MARKER_APPENDED)),
            (TransactionCoordinator, "_send", _behind(MARKERS_WRITTEN)),
            (TransactionCoordinator, "_complete", _at(COMPLETION_LOGGED)),
        ):
            original = getattr(owner, name)
            patches.enter_context(patch.object(owner, name, functools.wraps(original)(wrap(original, reach))))
        yield


def _before(step: str) -> Any:
    """Of a coroutine: it does not begin, if its process was killed."""

    def wrap(original: Any, reach: Reach) -> Any:
        async def wrapped(*args: Any, **named: Any) -> Any:
            if reach(step):
                await asyncio.get_running_loop().create_future()
            return await original(*args, **named)

        return wrapped

    return wrap


def _behind(step: str) -> Any:
    def wrap(original: Any, reach: Reach) -> Any:
        async def wrapped(*args: Any, **named: Any) -> Any:
            result = await original(*args, **named)
            if reach(step):
                await asyncio.get_running_loop().create_future()
            return result

        return wrapped

    return wrap


def _at(step: str) -> Any:
    """Of a plain function, when it is over."""

    def wrap(original: Any, reach: Reach) -> Any:
        def wrapped(*args: Any, **named: Any) -> Any:
            result = original(*args, **named)
            reach(step)
            return result

        return wrapped

    return wrap


def _when_decided(original: Any, reach: Reach) -> Any:
    def wrapped(led: Any, result: Result) -> None:
        original(led, result)
        if any(isinstance(effect, EndDecided) for effect in result.effects):
            reach(PREPARE_LOGGED)

    return wrapped


def _when_sent(original: Any, reach: Reach) -> Any:
    """As soon as the call is on its way."""

    async def wrapped(*args: Any, **named: Any) -> Any:
        asyncio.get_running_loop().call_soon(reach, MARKER_SENT)
        return await original(*args, **named)

    return wrapped
