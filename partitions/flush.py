"""One partition's part of a flush round: what to sync, and what may be said afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quorumlog.host.ports import Disk, DiskFile, KVStore, WriteBatch

from .keys import Checkpoint, Keys, put_checkpoint


@dataclass(slots=True, eq=False)
class Flush:
    """Made by `Partition.begin_flush` on the loop, given back to `end_flush` there. Between the two, in another thread, first
    `sync_together`, then `checkpoint`: a checkpoint must never be written before the data it speaks of is durable.
    """

    disk: Disk
    files: list[DiskFile]
    directories: list[str]  # where names were created or removed
    store: KVStore | None  # what it has of a new log is to be made durable as well
    keys: Keys
    end_offset: int  # of the log when the flush began: all below is durable after `sync_together`
    truncations: int  # the store believes no checkpoint that is older than a truncation beyond it
    high_watermark: Callable[[], int]

    def checkpoint(self, batch: WriteBatch) -> None:
        """Add what the next start may rely on."""
        high_watermark = min(self.high_watermark(), self.end_offset)
        put_checkpoint(batch, self.keys, Checkpoint(self.end_offset, high_watermark, self.truncations))


def sync_together(flushes: Sequence[Flush]) -> None:
    """Make durable what several partitions of one node began with. Blocking. Raises StorageError."""
    files = [file for flush in flushes for file in flush.files]
    directories = dict.fromkeys(directory for flush in flushes for directory in flush.directories)
    if flushes:
        flushes[0].disk.sync_all(files, list(directories))
    store = next((flush.store for flush in flushes if flush.store is not None), None)
    if store is not None:
        store.sync()
