"""How a compacted segment takes the place of those that it was made from, so that a crash at any moment leaves one or the other.

    <base>.log.cleaned       durable, its name too, and nobody's yet: a start removes it
    one batch in the store   the catalogue and the index speak of the new segment, and SWAP says what must be done
    synced                   the store; before, a power cut takes the batch, and the old segments are still there
    rename, removals         <base>.log is the new file, the others of its range are gone; the directory synced
    SWAP removed             the next compaction begins with a sync of the store: no older SWAP can come back beside its files

A start that finds SWAP goes on behind it. The batch is written on the loop, with which the log becomes the new one for readers
and writers at once; all that is slow is done by `PendingSwap.finish` in another thread. The new segment's file stays open
meanwhile, for its name changes. Whoever is about to cut files on the loop finishes it first, or waits for who is doing so.
"""

from collections.abc import Sequence
from threading import Lock

from quorumlog.host.ports import Disk, DiskFile, KVStore, WriteBatch

from .keys import Keys, read_swap
from .segment import CLEANED_SUFFIX, Segment, base_offset_of, cleaned_name, file_name


class PendingSwap:
    """What is left to do for a swap that the log has made. Owned by the log; done once, by whoever comes first."""

    def __init__(
        self, disk: Disk, store: KVStore, keys: Keys, directory: str, segment: Segment, replaced: Sequence[DiskFile]
    ) -> None:
        self._disk = disk
        self._store = store
        self._keys = keys
        self._directory = directory
        self.segment = segment
        self._replaced = list(replaced)
        self._lock = Lock()
        self._is_done = False

    def finish(self) -> None:
        """Blocking; from any thread."""
        with self._lock:
            if self._is_done:
                return
            self._store.sync()
            finish_swap(self._disk, self._store, self._keys, self._directory)
            self.segment.path = f"{self._directory}/{file_name(self.segment.base_offset)}"
            self.segment.is_pinned = False
            for file in self._replaced:  # the space of a large one is given back now, which takes a while
                file.close()
            self._is_done = True


def finish_swap(disk: Disk, store: KVStore, keys: Keys, directory: str) -> None:
    """Do what SWAP says, if there is one; it is durable already."""
    swap = read_swap(store, keys)
    if swap is None:
        return
    base_offset, end_offset = swap
    cleaned = f"{directory}/{cleaned_name(base_offset)}"
    if disk.exists(cleaned):
        disk.rename(cleaned, f"{directory}/{file_name(base_offset)}")
    replaced = [name for name in disk.list(directory) if _is_between(base_offset_of(name), base_offset, end_offset)]
    for name in replaced:
        disk.delete(f"{directory}/{name}")
    disk.sync_directory(directory)  # also of what a process before us removed
    batch = WriteBatch()
    batch.delete(keys.swap)
    store.write(batch)


def recover_swap(disk: Disk, store: KVStore, keys: Keys, directory: str) -> None:
    """At a start: finish what was begun, remove what was only prepared."""
    if read_swap(store, keys) is not None:
        store.sync()  # or a power cut now could take SWAP, and leave what it explains
        finish_swap(disk, store, keys, directory)
    remove_cleaned(disk, directory)


def remove_cleaned(disk: Disk, directory: str) -> None:
    """Files of compactions that came to nothing."""
    for name in disk.list(directory):
        if name.endswith(CLEANED_SUFFIX):
            disk.delete(f"{directory}/{name}")


def _is_between(offset: int | None, base_offset: int, end_offset: int) -> bool:
    return offset is not None and base_offset < offset < end_offset
