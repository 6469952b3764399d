"""Sees to it that a start after a crash has little to read: what is derived from a log (index, producers) is saved soon.

A partition saves it by itself after so many bytes. With many partitions and small batches that could mean minutes of reading:
each of a thousand might have 16 MiB that nothing covers. So it is also saved a few seconds after a partition was written, which
bounds what all of them together have to read by what a node takes in those seconds.
"""

import asyncio
from itertools import islice

from quorumlog.partitions.partition import Partition

from .tasks import Tasks, cancelled

SAVED_AFTER_S = 5.0
PACE_S = 0.05
AT_ONCE_MAX = 50  # partitions, some 50 us each: others are served in between


class DerivedSaver:
    """Owned by the node's replicas."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._due: dict[Partition, float] = {}  # by the loop's time, which rises
        self._task: asyncio.Task[None] | None = None

    def mark(self, partition: Partition) -> None:
        """Something was written, and flushed."""
        if partition not in self._due:
            self._due[partition] = asyncio.get_running_loop().time() + SAVED_AFTER_S
            if self._task is None:
                self._task = self._tasks.spawn(self._run(), "save what is derived from logs")

    def forget(self, partition: Partition) -> None:
        """The partition is being closed or deleted."""
        self._due.pop(partition, None)

    async def close(self) -> None:
        await cancelled(self._task)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            await asyncio.sleep(max(PACE_S, next(iter(self._due.values())) - loop.time()))
            for partition, due_at in list(islice(self._due.items(), AT_ONCE_MAX)):
                if due_at > loop.time():
                    break
                del self._due[partition]
                partition.save_derived()
        self._task = None
