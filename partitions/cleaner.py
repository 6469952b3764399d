"""One compaction of a log: two passes over its segments, which write new ones beside them.

The first pass notes where each key of the dirty part is last, in an `OffsetMap` of bounded size; where that is full, it ends
early. The second copies all segments up to there, less what a later record made obsolete, several small ones into one. Nothing
that a reader or a restart would find is touched: a finished file is handed over, and takes its place in `swap.py`.

It is a generator, so that whoever drives it can pause it: in production that is a process of its own (`node/cleaner_process.py`),
which sleeps between the steps as the throttle demands.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from quorumlog.host.ports import Buffer, Disk, DiskFile, StorageError
from quorumlog.wire.batches import HEADER, HEADER_SIZE, NO_TIMESTAMP, BatchHeader
from quorumlog.wire.compression import decompress
from quorumlog.wire.records import record_slices

from .cleaned_transactions import CleanedTransactions
from .cleaning import CleanedGroup, CleanedLog, CleaningJob, Source, grouped
from .index import IndexEntry, encode_blocks
from .offset_map import OffsetMap
from .record_filter import RecordFilter
from .scan import walk_whole
from .segment import Segment, cleaned_name

STEP_BYTES = 256 << 10  # worked on between two pauses, or as much as one batch has
WRITE_BYTES = 1 << 20
SYNC_BYTES = 1 << 20  # written between two syncs: more at once would hold up those of the log

Step = int | CleanedGroup | CleanedLog  # bytes that were worked on, a new segment, the end


class Files(Protocol):
    """What a compaction does with files: it reads those that are there, and makes others."""

    def open(self, path: str) -> DiskFile:
        """An existing file. Raises StorageError if it is gone: never makes one."""
        ...

    def create(self, path: str) -> DiskFile:
        """A new file, in the place of a leftover of that name."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the names in it durable."""
        ...


class FilesOfDisk:
    """Implements `Files` on a node's own disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def open(self, path: str) -> DiskFile:
        if not self._disk.exists(path):
            raise StorageError(f"{path} is gone")
        return self._disk.open(path)

    def create(self, path: str) -> DiskFile:
        self._disk.delete(path)
        return self._disk.open(path)

    def sync_directory(self, path: str) -> None:
        self._disk.sync_directory(path)


def clean(job: CleaningJob, files: Files) -> Iterator[Step]:
    """Compact. A CleanedGroup for each new segment, at last a CleanedLog. Raises DamagedBatch, BatchError, StorageError."""
    work = _Cleaning(job, files)
    yield from work.map_keys()
    yield from work.copy()


class _Cleaning:
    def __init__(self, job: CleaningJob, files: Files) -> None:
        self.job = job
        self.files = files
        self.seen = OffsetMap(bytes_max=job.map_bytes, load_max=job.map_load)
        self.end_offset = job.first_dirty  # up to here all keys are in the map
        self.bytes_read = 0
        self.bytes_kept = 0

    # --- the first pass

    def map_keys(self) -> Iterator[int]:
        transactions = CleanedTransactions(self.job.aborted)
        for source in self.job.sources:
            if source.next_offset <= self.job.first_dirty:
                continue
            worked = 0
            for header, batch in self._batches(source):
                if header.next_offset > self.job.first_dirty and not self._map_batch(header, batch, transactions):
                    return
                self.end_offset = max(self.end_offset, header.next_offset)
                worked += header.size
                if worked >= STEP_BYTES:
                    yield worked
                    worked = 0
            self.end_offset = source.next_offset
            yield worked

    def _map_batch(self, header: BatchHeader, batch: memoryview, transactions: CleanedTransactions) -> bool:
        """Note the keys of a batch; False if they do not fit any more."""
        if not header.record_count:
            return True
        data = bytes(decompress(header.compression, batch[HEADER_SIZE:], bytes_max=self.job.decompressed_bytes_max))
        if header.is_control:
            transactions.is_idle(header, next(iter(record_slices(data, header)))[1])
            return True
        if transactions.is_aborted(header):
            return True
        base, first_dirty, put = header.base_offset, self.job.first_dirty, self.seen.put
        for delta, key, _, _, _ in record_slices(data, header):
            offset = base + delta
            if key is None or offset < first_dirty:
                continue
            while not put(key, offset):
                if self.end_offset > first_dirty:
                    return False
                self.seen.widen()
        return True

    # --- the second

    def copy(self) -> Iterator[Step]:
        job = self.job
        keep = RecordFilter(job, self.seen, end_offset=self.end_offset)
        for group in grouped(job.sources, end_offset=self.end_offset, segment_bytes=job.segment_bytes):
            yield from self._copy_group(group, keep)
        yield CleanedLog(self.end_offset, keep.records_read, keep.records_kept, self.bytes_read, self.bytes_kept)

    def _copy_group(self, group: Sequence[Source], keep: RecordFilter) -> Iterator[Step]:
        writer = _Writer(self.job, group, self.files)
        try:
            worked = 0
            for source in group:
                for header, batch in self._batches(source):
                    left = keep.left_of(header, batch, is_last=header.next_offset == group[-1].next_offset)
                    worked += header.size
                    if left is not None:
                        worked += len(left)
                        writer.add(left)
                    elif header.is_control:
                        writer.marks_gone.append(header.base_offset)
                    writer.is_changed |= left is not batch
                    if worked >= STEP_BYTES:
                        yield worked
                        worked = 0
            yield worked
            cleaned = writer.finish()
        finally:
            writer.close()
        self.bytes_read += sum(source.size for source in group)
        self.bytes_kept += cleaned.size
        yield cleaned

    def _batches(self, source: Source) -> Iterator[tuple[BatchHeader, memoryview]]:
        segment = Segment(self.files, self.job.directory, source.base_offset, created_ms=0, has_gaps=self.job.has_gaps)
        segment.size = source.size
        try:
            yield from walk_whole(segment)
        finally:
            if (file := segment.release()) is not None:
                file.close()


class _Writer:
    """Writes one new segment, with its index. Owned by the group that it replaces."""

    def __init__(self, job: CleaningJob, group: Sequence[Source], files: Files) -> None:
        self.is_changed = len(group) > 1
        self.marks_gone: list[int] = []
        self._group = group
        self._interval_bytes = job.index_interval_bytes
        self._files = files
        self._directory = job.directory
        self._file = files.create(f"{job.directory}/{cleaned_name(group[0].base_offset)}")
        self._pending: list[Buffer] = []
        self._pending_bytes = 0
        self._unsynced_bytes = 0
        self._size = 0
        self._max_timestamp = NO_TIMESTAMP
        self._entries: list[IndexEntry] = []
        self._bytes_since_entry = 0

    def add(self, batch: Buffer) -> None:
        header = BatchHeader._make(HEADER.unpack_from(batch))
        if self._size > 0 and self._bytes_since_entry >= self._interval_bytes:
            self._entries.append(IndexEntry(header.base_offset, self._size, self._max_timestamp))
            self._bytes_since_entry = 0
        self._bytes_since_entry += header.size
        self._size += header.size
        self._max_timestamp = max(self._max_timestamp, header.newest_timestamp)
        self._pending.append(bytes(batch))  # a view would keep a whole chunk
        self._pending_bytes += header.size
        if self._pending_bytes >= WRITE_BYTES:
            self._write()

    def finish(self) -> CleanedGroup:
        """All of it durable, its name too: what is said of it in the store soon must be true after a power cut."""
        self._write()
        self._file.sync()
        self._files.sync_directory(self._directory)
        base_offset = self._group[0].base_offset
        return CleanedGroup(
            base_offset=base_offset,
            next_offset=self._group[-1].next_offset,
            size=self._size,
            max_timestamp=self._max_timestamp,
            created_ms=self._group[-1].created_ms,
            index_blocks=tuple(encode_blocks(base_offset, self._entries)),
            marks_gone=tuple(self.marks_gone),
            is_changed=self.is_changed,
        )

    def close(self) -> None:
        self._file.close()

    def _write(self) -> None:
        self._file.append(self._pending)
        self._unsynced_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        if self._unsynced_bytes >= SYNC_BYTES:
            self._file.sync()
            self._unsynced_bytes = 0
