"""Who waits for an offset: producers for their records to be stored, consumers for new ones to read.

Offsets are asked for in rising order per partition, except after a change of leader, when all waits of the partition are over.
Every wait has a timeout in its caller; the number of waits is bounded by the requests in work.
"""

import asyncio
from collections import defaultdict, deque

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
    """Fetches that found too little, and wait until something can be read from any of their partitions."""

    def __init__(self) -> None:
        self._waiters: defaultdict[TopicPartition, dict[asyncio.Event, None]] = defaultdict(dict)

    def add(self, tps: list[TopicPartition], event: asyncio.Event) -> None:
        for tp in tps:
            self._waiters[tp][event] = None

    def remove(self, tps: list[TopicPartition], event: asyncio.Event) -> None:
        for tp in tps:
            waiters = self._waiters.get(tp)
            if waiters is not None:
                waiters.pop(event, None)
                if not waiters:
                    del self._waiters[tp]

    def wake(self, tp: TopicPartition) -> None:
        for event in self._waiters.get(tp, ()):
            event.set()
