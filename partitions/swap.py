"""How a compacted segment takes the place of those that it was made from, so that a crash at any moment leaves one or the other.

    <base>.log.cleaned       durable, its name too, and nobody's yet: a start removes it
    one batch in the store   the catalogue and the index speak of the new segment, and SWAP says what must be done; synced
    rename, removals         <base>.log is the new file, the others of its range are gone; the directory synced
    SWAP removed             the next compaction begins with a sync of the store: no older SWAP can come back beside its files

A start that finds SWAP goes on behind it. Readers work with whole reads on the loop, and see the log before or after.
"""

from quorumlog.host.ports import Disk, KVStore, WriteBatch

from .keys import Keys, read_swap
from .segment import CLEANED_SUFFIX, base_offset_of, cleaned_name, file_name


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
