"""Copies segments into new files after a failed sync, so that what is found in them can be made durable at all.

A process dies of a failed sync, the machine goes on. The next process finds in memory what the medium never got, and another
sync of the same file succeeds and saves nothing: the kernel has taken the pages for clean (fsyncgate, 2018). Writing the bytes
again in place is not enough: ext4 then writes them to blocks that its extent tree still calls unwritten (measured on Linux 6.18).
A new file has pages and blocks of its own, and the old one stays until the new one is durable.
"""

from quorumlog.host.ports import Disk, KVStore, StorageError
from quorumlog.wire.batches import BatchError, read_header

from .index import IndexEntry, OffsetIndex
from .keys import Keys, read_checkpoint, read_compaction
from .log import LOGS_DIRECTORY, parse_directory_name
from .scan import CHUNK_BYTES, DamagedBatch, walk
from .segment import Segment, base_offset_of
from .swap import recover_swap

_COPY = "~"  # behind the segment's name


def renew_unpromised(disk: Disk, store: KVStore) -> list[str]:
    """If a sync failed, copy every segment with bytes that no checkpoint vouches for; the paths of those.

    Before any partition is opened. Raises StorageError, and is to be done again then.
    """
    if not disk.has_failed_sync():
        return []
    renewed = []
    for name in disk.list(LOGS_DIRECTORY):
        if (owner := parse_directory_name(name)) is not None:
            tp, topic_id = owner
            renewed += _renew_log(disk, store, f"{LOGS_DIRECTORY}/{name}", Keys(topic_id, tp.partition))
    disk.forget_failed_sync()
    return renewed


def _renew_log(disk: Disk, store: KVStore, directory: str, keys: Keys) -> list[str]:
    recover_swap(disk, store, keys, directory)
    has_gaps = read_compaction(store, keys).has_gaps
    checkpoint = read_checkpoint(store, keys)
    recovery_point = checkpoint.recovery_point if checkpoint else 0
    bases = [base for name in disk.list(directory) if (base := base_offset_of(name)) is not None]
    first = max((at for at, base in enumerate(bases) if base <= recovery_point), default=0)
    renewed = []
    for base in bases[first:]:
        segment = Segment(disk, directory, base, created_ms=0, has_gaps=has_gaps or checkpoint is None)
        try:
            segment.size = segment.file.size()
            is_promised = _promised_bytes(segment, OffsetIndex(store, keys), recovery_point) == segment.size
            if not is_promised:
                _copy(disk, segment)
                renewed.append(segment.path)
        finally:
            segment.file.close()
        if not is_promised:
            disk.rename(segment.path + _COPY, segment.path)
    return renewed


def _promised_bytes(segment: Segment, index: OffsetIndex, recovery_point: int) -> int:
    """How far the segment's batches are below the recovery point; less if they are not sound."""
    entry = _entry(segment, index, recovery_point)
    position = entry.position
    try:
        for found in walk(segment, position=position, offset=entry.offset, verify=False):
            if found.header.next_offset > recovery_point:
                break
            position = found.end
    except DamagedBatch:
        pass  # recovery will say so
    return position


def _entry(segment: Segment, index: OffsetIndex, recovery_point: int) -> IndexEntry:
    """Where to begin to read: an index entry, if a batch really begins there."""
    entry = index.floor(segment.base_offset, max(segment.base_offset, recovery_point))
    try:
        if read_header(segment.read(entry.position, 128)).base_offset == entry.offset:
            return entry
    except (BatchError, ValueError):
        pass
    return IndexEntry(segment.base_offset, 0, entry.max_timestamp)


def _copy(disk: Disk, segment: Segment) -> None:
    """The segment's bytes as they are, durably, under a name of their own."""
    path = segment.path + _COPY
    disk.delete(path)
    copy = disk.open(path)
    try:
        while copy.size() < segment.size:
            data = segment.read(copy.size(), CHUNK_BYTES)
            if not data:
                raise StorageError(f"{segment.path} has {copy.size()} bytes and should have {segment.size}")
            copy.append([data])
        copy.sync()
    finally:
        copy.close()
