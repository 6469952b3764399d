"""Who waits for an offset: producers for their records to be stored, consumers for new ones to read.

Offsets are asked for in rising order per partition, except after a change of leader, when all waits of the partition are over.
Every wait has a timeout in its caller; the number of waits is bounded by the requests in work.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from quorumlog.wire.errors import ClusterError
from quorumlog.wire.ids import TopicPartition

Waiter = tuple[int, asyncio.Future[None]]


class OffsetWaits:
    """Waits for one mark of each partition (the high watermark, or the flushed offset) to reach an offset."""

    def __init__(self) -> None:
        self._waiters: defaultdict[TopicPartition, deque[Waiter]] = defaultdict(deque)

    def reached(self, tp: TopicPartition, offset: int) -> asyncio.Future[None]:
        """A future that is done when the mark is at least `offset`, or fails with the ClusterError that ended the wait."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[tp].append((offset, future))
        return future

    def release(self, tp: TopicPartition, mark: int) -> None:
        """The mark moved up to `mark`: whoever waited for no more goes on."""
        waiters = self._waiters.get(tp)
        while waiters and waiters[0][0] <= mark:
            future = waiters.popleft()[1]
            if not future.done():
                future.set_result(None)

    def fail(self, tp: TopicPartition, error: ClusterError) -> None:
        """The wait makes no sense any more: the leadership went, or the in-sync set became too small."""
        for _, future in self._waiters.pop(tp, ()):
            if not future.done():
                future.set_exception(error)


class ReadWaits:
    """Who wants to know when something can be read from a partition, or can no more: fetches that found too little, and fetch
    sessions. What is called may not add or remove anybody.
    """

    def __init__(self) -> None:
        self._callbacks: defaultdict[TopicPartition, dict[Callable[[], None], None]] = defaultdict(dict)

    def add(self, tps: Iterable[TopicPartition], callback: Callable[[], None]) -> None:
        for tp in tps:
            self._callbacks[tp][callback] = None

    def remove(self, tps: Iterable[TopicPartition], callback: Callable[[], None]) -> None:
        for tp in tps:
            callbacks = self._callbacks.get(tp)
            if callbacks is not None:
                callbacks.pop(callback, None)
                if not callbacks:
                    del self._callbacks[tp]

    def wake(self, tp: TopicPartition) -> None:
        for callback in self._callbacks.get(tp, ()):
            callback()
