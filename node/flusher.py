"""Makes appended records durable, one round at a time: whatever became dirty during a round is synced by the next one.

A round syncs the files of all dirty partitions together, in one thread (parallel syncs only share the file system's journal:
measured slower), then tells each partition on the loop. Whoever waits is served by the round. Checkpoints, which only spare the
next start a part of its scan, are written every now and then: each was a tenth of what a round with one small batch cost.
A sync that fails stops the node: nobody knows what the disk holds then.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from quorumlog.host.ports import Clock, KVStore, Worker, WriteBatch
from quorumlog.partitions.flush import Flush, sync_together
from quorumlog.partitions.partition import Partition

from .tasks import Tasks

logger = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 0.1
STORE_SYNC_INTERVAL_S = 1.0


class Flusher:
    """Owned by the node, as is the worker. `on_flushed(partition, high_watermark_moved)` is called after each round."""

    def __init__(
        self, store: KVStore, clock: Clock, worker: Worker, tasks: Tasks, *, on_flushed: Callable[[Partition, bool], None]
    ) -> None:
        self._store = store
        self._worker = worker
        self._on_flushed = on_flushed
        self._tasks = tasks
        self._clock = clock
        self._store_synced_at = clock.now()
        self._checkpointed_at = float("-inf")
        self._unwritten: dict[Partition, Flush] = {}  # the last flush of each that no checkpoint tells of
        self._checkpoint_timer: asyncio.TimerHandle | None = None
        self._dirty: dict[Partition, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._round_over = asyncio.Event()
        self.rounds = 0
        self.files_synced = 0

    def mark(self, partition: Partition) -> None:
        """The partition has new bytes: sync them in the next round."""
        self._dirty[partition] = None
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), "flush rounds")

    def forget(self, partition: Partition) -> None:
        """The partition is being closed or deleted."""
        self._dirty.pop(partition, None)
        self._unwritten.pop(partition, None)

    async def round_over(self) -> None:
        """Return when the round that runs now, if any, is over: nothing forgotten before is in anybody's hands then."""
        if self._task is not None:
            await self._round_over.wait()

    async def close(self) -> None:
        """Finish what is dirty. Nothing may be marked any more; what has no checkpoint yet gets one when it is closed."""
        while self._task is not None:
            await asyncio.wait({self._task})
        if self._checkpoint_timer is not None:
            self._checkpoint_timer.cancel()
        self._worker.close()

    async def _run(self) -> None:
        try:
            while self._dirty or self._is_checkpoint_due():
                dirty, self._dirty = self._dirty, {}
                begun = [(partition, flush) for partition in dirty if (flush := partition.begin_flush()) is not None]
                self._unwritten.update(begun)
                checkpoints = self._due_checkpoints()
                if begun or checkpoints:
                    await self._worker.run(partial(self._sync, [flush for _, flush in begun], checkpoints))
                self.rounds += 1
                over, self._round_over = self._round_over, asyncio.Event()
                over.set()
                for partition, flush in begun:
                    self._on_flushed(partition, partition.end_flush(flush))
        finally:
            self._task = None
        self._arm()

    def _is_checkpoint_due(self) -> bool:
        return bool(self._unwritten) and self._clock.now() - self._checkpointed_at >= CHECKPOINT_INTERVAL_S

    def _due_checkpoints(self) -> list[Flush]:
        if not self._is_checkpoint_due():
            return []
        self._checkpointed_at = self._clock.now()
        due, self._unwritten = self._unwritten, {}
        return list(due.values())

    def _arm(self) -> None:
        """Also what is written last has a checkpoint soon: without one a later bad batch there counts as torn, not as damaged."""
        if self._unwritten and self._checkpoint_timer is None:
            self._checkpoint_timer = asyncio.get_running_loop().call_later(CHECKPOINT_INTERVAL_S, self._on_timer)

    def _on_timer(self) -> None:
        self._checkpoint_timer = None
        if self._task is None and self._is_checkpoint_due():
            self._task = self._tasks.spawn(self._run(), "checkpoints")
        else:
            self._arm()

    def _sync(self, flushes: list[Flush], checkpoints: list[Flush]) -> None:
        """On the worker. Sync first, checkpoint after: a checkpoint must never claim what the disk does not hold."""
        sync_together(flushes)
        self.files_synced += len(flushes)
        batch = WriteBatch()
        for flush in checkpoints:
            flush.checkpoint(batch)
        if batch:
            self._store.write(batch)
        if self._clock.now() - self._store_synced_at >= STORE_SYNC_INTERVAL_S:
            self._store.sync()  # or a power cut takes the checkpoints, and the next start has to scan from far back
            self._store_synced_at = self._clock.now()
