"""Who does the work of a compaction: in production another process (`cleaner_process.py`), in the simulator the node itself."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from quorumlog.host.ports import Disk, StorageError
from quorumlog.partitions.cleaner import FilesOfDisk, Step, clean
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog, CleaningJob
from quorumlog.wire.batches import BatchError


class CleaningFailed(Exception):
    """A compaction came to nothing; the log is as it was."""


class Cleaner(Protocol):
    """Does one job at a time. Its owner begins jobs, asks for what comes of them, and closes it."""

    def begin(self, job: CleaningJob, *, bytes_per_s: float) -> None: ...

    async def next(self) -> CleanedGroup | CleanedLog:
        """What is done next; the CleanedLog is the last. Raises CleaningFailed, DamagedBatch."""
        ...

    async def stop(self) -> None:
        """Drop what is being done; nobody writes to any file of it on return."""
        ...

    async def close(self) -> None: ...


class InlineCleaner:
    """Implements `Cleaner` on the node's own loop, with a pause after each step."""

    def __init__(self, disk: Disk, pause_s: Callable[[], float] = lambda: 0.0) -> None:
        self._files = FilesOfDisk(disk)
        self._pause_s = pause_s
        self._steps: Iterator[Step] | None = None
        self._bytes_per_s = 0.0

    def begin(self, job: CleaningJob, *, bytes_per_s: float) -> None:
        self._steps = clean(job, self._files)
        self._bytes_per_s = bytes_per_s

    async def next(self) -> CleanedGroup | CleanedLog:
        while self._steps is not None:
            try:
                step = next(self._steps)
            except (StorageError, BatchError) as error:
                raise CleaningFailed(str(error)) from error
            if not isinstance(step, int):
                return step
            await asyncio.sleep(self._pause_s() + step / self._bytes_per_s)
        raise CleaningFailed("stopped")

    async def stop(self) -> None:
        self._steps = None

    async def close(self) -> None:
        await self.stop()
