"""Compacts the logs of this node in the background, the dirtiest first; leaders and followers alike, each by itself.

Compactor._run -> Partition.cleaning_urgency          whose turn is it?
               -> Partition.begin_cleaning            what exactly is to be done
               -> Cleaner.next                        done elsewhere, segment by segment
               -> Partition.swap_in               a new segment takes the place of old ones: on the loop for all who use the log,
                  PendingSwap.finish              in a thread on the disk
               -> Partition.end_cleaning
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from quorumlog.host.ports import Clock, KVStore, Worker
from quorumlog.partitions.cleaning import CleanedLog
from quorumlog.partitions.compaction import Cleaning
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.scan import DamagedBatch

from .cleaners import Cleaner, CleaningFailed
from .replicas import Replicas
from .tasks import Tasks, cancelled, wait_at_most

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.2  # while a request waits for what was written before it to be committed
LEAST_PAUSE_S = 0.01
SPARED_S = 60.0  # after a failure: others come first meanwhile
THREADS_MAX = 16


class Compactor:
    """Owned by the node. `setting(name)` tells what counts of a broker's settings now."""

    def __init__(
        self,
        replicas: Replicas,
        store: KVStore,
        clock: Clock,
        tasks: Tasks,
        *,
        make_cleaner: Callable[[], Cleaner],
        make_worker: Callable[[str], Worker],
        setting: Callable[[str], str],
    ) -> None:
        self.replicas = replicas
        self.store = store
        self.clock = clock
        self.setting = setting
        self._tasks = tasks
        self._make_cleaner = make_cleaner
        self._make_worker = make_worker
        self._runners: list[_Runner] = []
        self._spared: dict[Partition, float] = {}  # not before this time
        self.passes = 0
        self.bytes_read = 0
        self.bytes_kept = 0
        self.failures = 0

    def start(self) -> None:
        self.grow()

    def wake(self) -> None:
        """Something may be asked for: look at once."""
        for runner in self._runners:
            runner.wake()

    def grow(self) -> None:
        """Have as many runners as `log.cleaner.threads` says; those beyond it rest."""
        while len(self._runners) < max(1, min(self.threads, THREADS_MAX)):
            number = len(self._runners)
            runner = _Runner(self, number, self._make_cleaner(), self._make_worker(f"compaction {number}"))
            self._runners.append(runner)
            runner.task = self._tasks.spawn(runner.run(), f"compaction {number}")

    @property
    def threads(self) -> int:
        return int(self.setting("log.cleaner.threads"))

    @property
    def bytes_per_s(self) -> float:
        return float(self.setting("log.cleaner.io.max.bytes.per.second"))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name)

    async def stopped(self, partition: Partition) -> None:
        """Return when nothing works on this log any more, and nothing will: it is retired."""
        for runner in self._runners:
            if runner.partition is partition:
                await runner.interrupt()
        self._spared.pop(partition, None)

    async def close(self) -> None:
        for runner in self._runners:
            await runner.close()

    def dirtiest(self) -> Partition | None:
        """Whose turn it is, of those that nobody works on."""
        now, wall_ms = self.clock.now(), self.clock.wall_ms()
        busy = {runner.partition for runner in self._runners}
        best, most = None, 0.0
        for partition in self.replicas.by_id.values():
            if not partition.is_compacted or partition in busy or self._spared.get(partition, now) > now:
                continue
            urgency = partition.cleaning_urgency(wall_ms)
            if partition.dirty:  # its active segment was closed
                self.replicas.flusher.mark(partition)
            if urgency > most:
                best, most = partition, urgency
        return best

    def pause_s(self) -> float:
        """Until somebody looks again."""
        backoff_s = int(self.setting("log.cleaner.backoff.ms")) / 1000
        return max(LEAST_PAUSE_S, min(backoff_s, LOOK_AGAIN_S) if self.is_waited_for() else backoff_s)

    def holds(self, partition: Partition) -> bool:
        """False once it is being deleted."""
        return self.replicas.by_id.get((partition.topic_id, partition.tp.partition)) is partition

    def is_waited_for(self) -> bool:
        return any(partition.compaction_is_waiting for partition in self.replicas.by_id.values() if partition.is_compacted)

    def spare(self, partition: Partition) -> None:
        self.failures += 1
        self._spared = {one: until for one, until in self._spared.items() if until > self.clock.now()}
        self._spared[partition] = self.clock.now() + SPARED_S

    def on_done(self, partition: Partition, done: CleanedLog) -> None:
        self.passes += 1
        self.bytes_read += done.bytes_read
        self.bytes_kept += done.bytes_kept
        logger.info(
            "%s: compacted up to offset %d: %d of %d records stay, %d of %d bytes",
            partition.tp, done.end_offset, done.records_kept, done.records_read, done.bytes_kept, done.bytes_read,
        )  # fmt: skip


class _Runner:
    """Compacts one log at a time."""

    def __init__(self, owner: Compactor, number: int, cleaner: Cleaner, worker: Worker) -> None:
        self._owner = owner
        self._number = number
        self._cleaner = cleaner
        self._worker = worker
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self.partition: Partition | None = None
        self.task: asyncio.Task[None] | None = None
        self._is_over = False
        self._is_hurried = False
        self._bytes_per_s = 0.0  # of what is being done

    def wake(self) -> None:
        self._wake.set()
        if self.partition is not None and self._bytes_per_s not in (0.0, self._owner.bytes_per_s):
            self._is_hurried = True  # or slowed down: what it works on is begun again at the new rate
            self._owner.spawn(self._cleaner.stop(), "compaction at another rate")

    async def run(self) -> None:
        owner = self._owner
        while True:
            await wait_at_most(self._wake, owner.pause_s())
            self._wake.clear()
            owner.grow()
            while not self._is_over and self._number < owner.threads and (partition := owner.dirtiest()) is not None:
                await self._clean(partition)
            await self._cleaner.stop()  # its memory goes back until there is work again

    async def interrupt(self) -> None:
        await self._cleaner.stop()
        await self._idle.wait()

    async def close(self) -> None:
        self._is_over = True
        if self.partition is not None:
            await self.interrupt()  # a swap that was begun is finished
        await cancelled(self.task)
        await self._cleaner.close()
        self._worker.close()

    async def _clean(self, partition: Partition) -> None:
        self.partition = partition
        self._idle.clear()
        try:
            # No note of an earlier swap may come back with a power cut, beside the files that are made now.
            await self._worker.run(self._owner.store.sync)
            cleaning = self._begun(partition)
            if cleaning is not None:
                await self._work(partition, cleaning)
        finally:
            self._bytes_per_s, self._is_hurried = 0.0, False
            self.partition = None
            self._idle.set()

    def _begun(self, partition: Partition) -> Cleaning | None:
        owner = self._owner
        wall_ms = owner.clock.wall_ms()
        if not owner.holds(partition) or not partition.cleaning_urgency(wall_ms):  # deleted meanwhile, or its settings changed
            return None
        map_bytes = int(owner.setting("log.cleaner.dedupe.buffer.size")) // max(1, owner.threads)
        load = float(owner.setting("log.cleaner.io.buffer.load.factor"))
        return partition.begin_cleaning(wall_ms, map_bytes=map_bytes, map_load=load)

    async def _work(self, partition: Partition, cleaning: Cleaning) -> None:
        owner = self._owner
        self._bytes_per_s = owner.bytes_per_s
        self._cleaner.begin(cleaning.job, bytes_per_s=self._bytes_per_s)
        try:
            while not isinstance(done := await self._cleaner.next(), CleanedLog):
                finish = partition.swap_in(cleaning, done) if owner.holds(partition) else None
                if finish is None:
                    raise CleaningFailed("the log was cut, or lost segments, meanwhile")
                await self._worker.run(finish)
        except DamagedBatch as bad:
            await self._give_up(partition, bad)
            if partition.cleaning_met_damage(cleaning, bad):
                owner.replicas.check_damage(partition)
        except CleaningFailed as error:
            await self._give_up(partition, error)
        else:
            partition.end_cleaning(cleaning, done, owner.clock.wall_ms())
            owner.on_done(partition, done)

    async def _give_up(self, partition: Partition, reason: Exception) -> None:
        await self._cleaner.stop()
        partition.abandon_cleaning()
        if not (self._is_over or self._is_hurried) and self._owner.holds(partition):
            logger.warning("%s: not compacted: %s", partition.tp, reason)
            self._owner.spare(partition)
