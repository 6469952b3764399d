"""One partition's part of a flush round: what to sync, and what may be said afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quorumlog.host.ports import Disk, DiskFile, KVStore, WriteBatch

from .keys import Checkpoint, Keys, put_checkpoint


@dataclass(slots=True, eq=False)
class Flush:
    """Made by `Partition.begin_flush` on the loop, given back to `end_flush` there. Between the two, in another thread, first
    `sync`, then `checkpoint`: a checkpoint must never be written before the data it speaks of is durable.
    """

    disk: Disk
    files: list[DiskFile]
    directories: list[str]  # where names were created or removed
    store: KVStore | None  # what it has of a new log is to be made durable as well
    keys: Keys
    end_offset: int  # of the log when the flush began: all below is durable after `sync`
    truncations: int  # the store believes no checkpoint that is older than a truncation beyond it
    high_watermark: Callable[[], int]

    def sync(self) -> None:
        """Blocking. Raises StorageError."""
        sync_together([self])

    def checkpoint(self, batch: WriteBatch) -> None:
        """Add what the next start may rely on."""
        high_watermark = min(self.high_watermark(), self.end_offset)
        put_checkpoint(batch, self.keys, Checkpoint(self.end_offset, high_watermark, self.truncations))


def sync_together(flushes: Sequence[Flush]) -> None:
    """`Flush.sync` of several partitions of one disk, which may know a cheaper way than one after the other."""
    files = [file for flush in flushes for file in flush.files]
    directories = dict.fromkeys(directory for flush in flushes for directory in flush.directories)
    if flushes:
        flushes[0].disk.sync_all(files, list(directories))
    for store in {id(flush.store): flush.store for flush in flushes}.values():
        if store is not None:
            store.sync()
