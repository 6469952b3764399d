"""The log of one partition: segments, and what is derived from their batches (index, leader epochs, producers, transactions).

The disk and the store fail separately, so every change keeps an order:
- data is synced before a checkpoint says so (`Partition.begin_flush`);
- a truncation is durable in the store before the files are cut, and the cut is durable before anything is appended: bytes of
  the log that was given up can never come back under the new ones;
- a new log start is durable in the store before the files below it go.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from quorumlog.host.ports import Buffer, Disk, DiskFile, KVStore, StorageError, WriteBatch
from quorumlog.wire.batches import HEADER_SIZE, NO_TIMESTAMP, BatchHeader
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import read_marker

from .aborted import AbortedIndex
from .cleaning import CleanedGroup
from .dedup import Dedup
from .epochs import LeaderEpochs
from .index import BLOCK_ENTRIES, IndexEntry, OffsetIndex
from .keys import (
    Checkpoint,
    CompactionRecord,
    Keys,
    SegmentRecord,
    put_checkpoint,
    put_compaction,
    put_log_start,
    put_segment,
    put_swap,
    put_truncation,
    read_compaction,
    read_truncation,
)
from .producers import ProducerStates
from .scan import DamagedBatch, Found, cut_to_batches, walk
from .segment import RELATIVE_OFFSET_MAX, Segment, base_offset_of, cleaned_name
from .swap import PendingSwap

LOGS_DIRECTORY = "logs"
OPEN_SEGMENTS_MAX = 8  # files of rolled segments kept open for readers
SNAPSHOTS_KEPT = 4
SNAPSHOT_WORTH_BYTES = 1_000  # of new log for each producer in a snapshot, each of which takes some 150 bytes there
_TOPIC_NAME_MAX = 180  # a file name has at most 255 bytes, and the topic id already tells topics apart


def directory_name(tp: TopicPartition, topic_id: UUID) -> str:
    return f"{LOGS_DIRECTORY}/{tp.topic[:_TOPIC_NAME_MAX]}-{tp.partition}-{topic_id.hex}"


def parse_directory_name(name: str) -> tuple[TopicPartition, UUID] | None:
    """What a directory under `logs/` belongs to (the topic's name may be cut); None if it is no partition's."""
    topic, _, rest = name.rpartition("-")
    topic, _, partition = topic.rpartition("-")
    if not topic or not partition.isdecimal() or len(rest) != 32:
        return None
    try:
        return TopicPartition(topic, int(partition)), UUID(hex=rest)
    except ValueError:
        return None


class Log:
    """Owned by its partition. Opened by `recovery.recover`, which fills in the segments."""

    def __init__(
        self,
        disk: Disk,
        store: KVStore,
        directory: str,
        keys: Keys,
        producers: ProducerStates,
        *,
        segment_bytes: int,
        index_interval_bytes: int,
        checkpoint_interval_bytes: int,
    ) -> None:
        self.disk = disk
        self.store = store
        self.directory = directory
        self.keys = keys
        self.segment_bytes = segment_bytes
        self.index_interval_bytes = index_interval_bytes
        self._checkpoint_interval_bytes = checkpoint_interval_bytes
        self.segments: list[Segment] = []
        self.index = OffsetIndex(store, keys)
        self.epochs = LeaderEpochs.load(store, keys)
        self.aborted = AbortedIndex(store, keys)
        self.producers = producers
        self.dedup: Dedup | None = None  # what it remembers of event ids, where its topic drops events that come again
        self.start_offset = 0
        self.end_offset = 0
        self.truncations = read_truncation(store, keys)[0]
        self.compaction = read_compaction(store, keys)
        self.swaps = 0  # since it was opened
        self._swap: PendingSwap | None = None
        self.directory_is_dirty = False
        self.is_new = False  # neither its directory nor what the store has of it is durable: the first flush sees to that
        self.flush_is_running = False
        self._active = Segment(disk, directory, 0, created_ms=0)  # replaced by `recover` or `start_at`
        self._bases: list[int] = []
        self._unsynced: dict[Segment, None] = {}
        self._opened: dict[Segment, None] = {}
        self._retired_files: list[DiskFile] = []
        self._bytes_since_entry = 0
        self._bytes_since_snapshot = 0

    # --- writing

    def append(self, buffers: Sequence[Buffer], header: BatchHeader, wall_ms: int) -> None:
        """Add one batch, whose header has its offset and epoch in place already."""
        assert header.base_offset == self.end_offset, (header.base_offset, self.end_offset)
        if self._must_roll(header):
            self.roll(wall_ms)
        self._note_batch(buffers, header, wall_ms)
        self._active.append(buffers, size=header.size, next_offset=header.next_offset, max_timestamp=header.newest_timestamp)
        self._unsynced[self._active] = None
        self.end_offset = header.next_offset

    def append_run(self, data: memoryview, found: Sequence[Found], wall_ms: int) -> None:
        """Add batches that lie one after the other in `data`, checked before, with one write a segment."""
        start = 0
        while start < len(found):
            if self._must_roll(found[start].header):
                self.roll(wall_ms)
            end = self._run_end(found, start)
            self._append_run(data, found[start:end], wall_ms)
            start = end

    def roll(self, wall_ms: int) -> None:
        """Close the active segment and begin another."""
        batch = WriteBatch()
        put_segment(batch, self.keys, self._active.base_offset, _record(self._active))
        self.put_snapshot(batch, self.end_offset)
        self.store.write(batch)
        self._cache_file(self._active)
        self._add_segment(self.end_offset, wall_ms)

    def start_at(self, offset: int, wall_ms: int) -> None:
        """Begin an empty log."""
        self.start_offset = self.end_offset = offset
        self._add_segment(offset, wall_ms)

    def adopt(self, segments: list[Segment]) -> None:
        """Take over the segments that recovery found; the last one is appended to."""
        self.segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self._active = segments[-1]

    def note_recovered(
        self, found: Found, segment: Segment, wall_ms: int, batch: WriteBatch, *, index: bool, producers: bool
    ) -> None:
        """Derive again what a batch in the segment means, where it is not known from the store."""
        if index:
            self._note_index(found.header, segment, found.position)
        if producers and found.header.is_idempotent:
            self._restore_producer(found, segment, wall_ms, batch)
        if producers and self.dedup is not None:
            self.dedup.learn(segment.read(found.position, found.header.size), found.header, wall_ms)

    # --- reading

    def read(self, offset: int, *, limit: int, max_bytes: int) -> tuple[list[Buffer], int, int]:
        """Whole batches from the one that holds `offset`, below `limit`: (buffers, their size, the offset behind them).

        At least one batch if there is any, then as many as fit. Raises DamagedBatch at a batch that is not sound.
        """
        buffers: list[Buffer] = []
        size, next_offset = 0, offset
        while next_offset < limit and (size < max_bytes or not buffers):
            segment = self.segment_at(next_offset)
            try:
                data, following = self._read_segment(segment, next_offset, limit, max_bytes - size)
            except DamagedBatch:
                if buffers:
                    break
                raise
            if not data or (buffers and len(data) > max_bytes - size):
                break
            buffers.append(data)
            size += len(data)
            next_offset = following
            if next_offset < segment.next_offset:  # there was no room for more, or no more below the limit
                break
        return buffers, size, next_offset

    def segment_at(self, offset: int) -> Segment:
        return self.segments[max(0, bisect_right(self._bases, offset) - 1)]

    def walk_from(self, offset: int, *, verify: bool = False) -> Iterator[tuple[Segment, Found]]:
        """The batches from the one that holds `offset` to the end of the log. Raises DamagedBatch."""
        first = max(0, bisect_right(self._bases, offset) - 1)
        for segment in self.segments[first:]:
            entry = self.index.floor(segment.base_offset, max(offset, segment.base_offset))
            for found in walk(segment, position=entry.position, offset=entry.offset, verify=verify):
                if found.header.next_offset > offset:
                    yield segment, found

    def read_batch(self, segment: Segment, found: Found) -> bytes:
        self._cache_file(segment)
        return segment.read(found.position, found.header.size)

    # --- cutting

    def truncate(self, offset: int, wall_ms: int, *, at_damage: bool = False) -> None:
        """Cut the log so that it ends at `offset`, or before the batch that holds it; durable on return.

        With `at_damage` the cut goes before the first damaged batch on the way. Raises DamagedBatch, before the cut or after.
        """
        self.settle_swap()
        segment, position, offset, max_timestamp = self._cut_place(offset, at_damage=at_damage)
        if offset < self.start_offset:  # the log starts inside the batch that goes
            self.reset(self.start_offset, wall_ms)
            return
        batch = WriteBatch()
        self._put_truncation(batch, offset)
        self._lower_cleaned(batch, offset)
        self.forget_from(batch, offset)
        self.store.write(batch)
        self.store.sync()
        self.cut_files(segment, position, offset)
        segment.max_timestamp = max_timestamp
        self.restore_producers(wall_ms)
        self._bytes_since_entry = self.index_interval_bytes

    def reset(self, offset: int, wall_ms: int) -> None:
        """Drop everything and begin again at `offset`."""
        self.settle_swap()
        batch = WriteBatch()
        self._put_truncation(batch, 0)
        self.forget_from(batch, 0)
        put_checkpoint(batch, self.keys, Checkpoint(0, 0, self.truncations))
        put_log_start(batch, self.keys, offset)
        self._lower_cleaned(batch, 0)
        self.store.write(batch)
        self.store.sync()
        self._drop_segments(self.segments)
        self.disk.sync_directory(self.directory)
        self.segments, self._bases = [], []
        self.producers.clear()
        self.start_at(offset, wall_ms)

    def begin_at(self, base_offset: int, wall_ms: int) -> None:
        """The log is empty, and the first batch it gets begins before its start (which lies inside the batch)."""
        assert self._active.size == 0, self._active.path
        assert base_offset < self.start_offset == self.end_offset, (base_offset, self.start_offset, self.end_offset)
        self._drop_segments(self.segments)
        self.segments = []
        self.end_offset = base_offset
        self._add_segment(base_offset, wall_ms)

    def cut_files(self, segment: Segment, position: int, offset: int) -> None:
        """Make `segment`, cut at `position`, the last one; durable on return."""
        for name in reversed(self.disk.list(self.directory)):
            base = base_offset_of(name)
            if base is not None and base > segment.base_offset:
                self._delete_file(f"{self.directory}/{name}", base)
        self.disk.sync_directory(self.directory)
        self.adopt([kept for kept in self.segments if kept.base_offset <= segment.base_offset])
        file = segment.file
        if file.size() > position:
            file.truncate(position)
            file.sync()
        segment.size, segment.next_offset = position, offset
        self.end_offset = offset
        self._opened.pop(segment, None)

    def restore_producers(self, wall_ms: int) -> None:
        """Set the producers to what the log says up to its end: the newest snapshot, and the batches behind it."""
        self.producers.clear()
        snapshot = self.newest_snapshot(self.end_offset)
        start = self.start_offset
        if snapshot is not None:
            start, value = snapshot
            self.producers.restore(value)
        if start >= self.end_offset:
            return
        batch = WriteBatch()
        for segment, found in self.walk_from(start):
            if found.header.is_idempotent:  # also of a batch in which the log starts
                self._restore_producer(found, segment, wall_ms, batch)
        if batch:
            self.store.write(batch)

    def raise_start(self, offset: int) -> int:
        """Make `offset` the first one that can be read, and delete the segments below it. The number of segments deleted."""
        assert self.start_offset <= offset <= self.end_offset, (self.start_offset, offset, self.end_offset)
        self.settle_swap()
        self.start_offset = offset
        doomed = [segment for segment in self.segments[:-1] if segment.next_offset <= offset]
        batch = WriteBatch()
        put_log_start(batch, self.keys, offset)
        if not doomed:
            self.store.write(batch)
            return 0
        first = self.segments[len(doomed)].base_offset
        batch.delete_range(self.keys.segment(0), self.keys.segment(first))
        batch.delete_range(self.keys.producers(0), self.keys.producers(first))
        self.index.drop_below(first, batch)
        self.epochs.drop_below(offset, batch)
        self.aborted.drop_below(offset, batch)
        self.store.write(batch)
        self.store.sync()
        self._drop_segments(doomed)
        self.adopt(self.segments[len(doomed) :])
        self.directory_is_dirty = True
        return len(doomed)

    # --- compacting

    @property
    def has_gaps(self) -> bool:
        """Whether batches may be missing between others: a compaction took them, here or at the leader whom we copied."""
        return self.compaction.has_gaps

    def set_compaction(self, value: CompactionRecord, batch: WriteBatch) -> None:
        self.compaction = value
        put_compaction(batch, self.keys, value)
        for segment in self.segments:
            segment.has_gaps = value.has_gaps

    def allow_gaps(self) -> None:
        """The next batches leave some out. Durable on return: a start that did not know would take the log for damaged."""
        if not self.has_gaps:
            batch = WriteBatch()
            self.set_compaction(replace(self.compaction, has_gaps=True), batch)
            self.store.write(batch)
            self.store.sync()

    def swap_in(self, old: Sequence[Segment], cleaned: CleanedGroup) -> PendingSwap:
        """Let a compacted segment take the place of these. It does at once for readers; what is returned is to be finished, and
        blocks for a while.
        """
        self.settle_swap()
        at = self.segments.index(old[0])
        segment = Segment(self.disk, self.directory, cleaned.base_offset, created_ms=cleaned.created_ms, has_gaps=True)
        segment.next_offset, segment.size, segment.max_timestamp = cleaned.next_offset, cleaned.size, cleaned.max_timestamp
        segment.path, segment.is_pinned = f"{self.directory}/{cleaned_name(cleaned.base_offset)}", True
        assert segment.file.size() == cleaned.size, f"{segment.path} has {segment.file.size()} bytes, expected {cleaned.size}"
        held = [file for file in map(self._release_for_good, old) if file is not None]
        batch = WriteBatch()
        put_swap(batch, self.keys, cleaned.base_offset, cleaned.next_offset)
        batch.delete_range(self.keys.segment(cleaned.base_offset), self.keys.segment(cleaned.next_offset))
        put_segment(batch, self.keys, cleaned.base_offset, _record(segment))
        self.index.replace(cleaned.base_offset, cleaned.next_offset, cleaned.index_blocks, batch)
        for marker_offset in cleaned.marks_gone:  # a reader that was told of the abort would wait for its mark for ever
            batch.delete(self.keys.aborted(marker_offset))
        self.set_compaction(replace(self.compaction, has_gaps=True), batch)
        self.store.write(batch)
        self.adopt([*self.segments[:at], segment, *self.segments[at + len(old) :]])
        self.swaps += 1
        self._swap = PendingSwap(self.disk, self.store, self.keys, self.directory, segment, held)
        return self._swap

    def settle_swap(self) -> None:
        """Let all names be what they are to be: the work on this log is over, or files are about to be cut or removed."""
        if self._swap is not None:
            self._swap.finish()
            file = self._swap.segment.release()  # whoever reads it opens it again, by its name
            if file is not None:
                file.close()
            self._swap = None

    # --- making durable

    def take_unsynced(self) -> list[DiskFile]:
        """The files with bytes that were never synced. Whoever takes them syncs them."""
        files = [segment.file for segment in self._unsynced]
        self._unsynced.clear()
        return files

    def sync_directories(self) -> None:
        """Make the names of the segments durable, and that of a new log."""
        self.disk.sync_directory(self.directory)
        if self.is_new:
            self.disk.sync_directory(LOGS_DIRECTORY)

    def after_flush(self, flushed_offset: int) -> None:
        """Everything below is durable: let the store have what is known of it."""
        if self.is_checkpoint_due:
            self.save_derived(flushed_offset)
        elif self.index.pending_count >= BLOCK_ENTRIES:
            batch = WriteBatch()
            self.index.drain(batch, below=flushed_offset)
            self.store.write(batch)
        self._close_retired()

    def save_derived(self, flushed_offset: int) -> None:
        """Let the store have what a start would otherwise read the log's end for."""
        batch = WriteBatch()
        self.index.drain(batch, below=flushed_offset, all_entries=True)
        self.put_snapshot(batch, self.end_offset)
        self.store.write(batch)

    def put_final(self, batch: WriteBatch) -> None:
        """All that the next start needs to scan nothing. Everything must be synced."""
        self.index.drain(batch, below=self.end_offset, all_entries=True)
        put_segment(batch, self.keys, self._active.base_offset, _record(self._active))
        self.put_snapshot(batch, self.end_offset)

    def close(self) -> None:
        self.settle_swap()
        for segment in self.segments:
            self._retire_file(segment)
        if not self.flush_is_running:
            self._close_retired()

    def put_snapshot(self, batch: WriteBatch, offset: int) -> None:
        """Note the producers as they are before `offset`; of the older notes keep the newest few, and those at segment starts."""
        batch.put(self.keys.producers(offset), self.producers.encode())
        if self.dedup is not None:
            self.dedup.put(batch, offset)
        self._bytes_since_snapshot = 0
        stored = [self.keys.number_of(key) for key, _ in self.store.scan(self.keys.producers(0), self.keys.end_of(b"p"))]
        for old in stored[: 1 - SNAPSHOTS_KEPT]:
            if old not in self._bases:
                batch.delete(self.keys.producers(old))

    def newest_snapshot(self, offset: int) -> tuple[int, bytes] | None:
        """The newest snapshot of the producers that is not behind `offset`."""
        found = self.store.floor(self.keys.producers(offset), self.keys.producers(0))
        return (self.keys.number_of(found[0]), found[1]) if found is not None else None

    def forget_from(self, batch: WriteBatch, offset: int, *, replayed_from: int | None = None) -> None:
        """Remove from the store all that is derived from batches at and above `offset`; where what follows is replayed from a
        snapshot of the producers, aborted transactions and event ids from there on.
        """
        keys = self.keys
        replayed_from = offset if replayed_from is None else replayed_from
        self.aborted.truncate(replayed_from, batch)
        if self.dedup is not None:
            self.dedup.forget_from(batch, offset, replayed_from=replayed_from)
        self.epochs.truncate(offset, batch)
        self.index.truncate(offset, batch)
        batch.delete_range(keys.producers(offset + 1), keys.end_of(b"p"))
        # The segment that holds the cut is no longer what the catalogue says; it is scanned again if that must be known.
        holder = self.segment_at(offset).base_offset if self.segments else 0
        batch.delete_range(keys.segment(min(offset, holder)), keys.end_of(b"s"))

    def has_derived_from(self, offset: int) -> bool:
        """True if the store holds anything derived from batches at or above `offset`: they are gone."""
        newest = self.newest_snapshot(RELATIVE_OFFSET_MAX << 31)
        is_epoch_gone = bool(self.epochs.starts) and self.epochs.starts[-1] >= offset
        if is_epoch_gone or self.aborted.newest >= offset:
            return True
        return (newest is not None and newest[0] > offset) or self.index.has_stored_from(offset)

    @property
    def is_checkpoint_due(self) -> bool:
        return self._bytes_since_snapshot >= self._checkpoint_interval_bytes

    @property
    def is_worth_saving(self) -> bool:
        """Whether reading what no snapshot covers yet would cost a start more than the next snapshot costs now."""
        return self._bytes_since_snapshot > len(self.producers) * SNAPSHOT_WORTH_BYTES

    @property
    def active(self) -> Segment:
        return self._active

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    # --- inside

    def _must_roll(self, header: BatchHeader) -> bool:
        return self._active.size > 0 and not self._fits(header, 0)

    def _fits(self, header: BatchHeader, size_before: int) -> bool:
        active = self._active
        size = active.size + size_before + header.size
        return size <= self.segment_bytes and header.last_offset - active.base_offset <= RELATIVE_OFFSET_MAX

    def _run_end(self, found: Sequence[Found], start: int) -> int:
        size, end = 0, start
        while end < len(found) and (end == start or self._fits(found[end].header, size)):
            size += found[end].header.size
            end += 1
        return end

    def _append_run(self, data: memoryview, run: Sequence[Found], wall_ms: int) -> None:
        active, first, last = self._active, run[0], run[-1]
        offset_in_file = active.size - first.position
        max_timestamp = NO_TIMESTAMP
        for item in run:
            self._note_epoch(item.header)
            self._note_index(item.header, active, item.position + offset_in_file, max_timestamp)
            max_timestamp = max(max_timestamp, item.header.newest_timestamp)
            if item.header.is_idempotent:
                self._note_producer([data[item.position : item.position + item.header.size]], item.header, wall_ms)
        if self.dedup is not None:
            for item in run:
                self.dedup.learn(data[item.position : item.end], item.header, wall_ms)
        end = last.position + last.header.size
        active.append(
            [data[first.position : end]],
            size=end - first.position,
            next_offset=last.header.next_offset,
            max_timestamp=max_timestamp,
        )
        self._bytes_since_snapshot += end - first.position
        self._unsynced[active] = None
        self.end_offset = last.header.next_offset

    def _note_batch(self, buffers: Sequence[Buffer], header: BatchHeader, wall_ms: int) -> None:
        active = self._active
        self._note_epoch(header)
        self._note_index(header, active, active.size)
        self._bytes_since_snapshot += header.size
        if header.producer_id >= 0:
            self._note_producer(buffers, header, wall_ms)

    def _note_producer(self, buffers: Sequence[Buffer], header: BatchHeader, wall_ms: int) -> None:
        if not header.is_control:
            self.producers.update(header, wall_ms)
            return
        batch = WriteBatch()
        self._note_marker(b"".join(buffers), header, wall_ms, batch)
        if batch:
            self.store.write(batch)

    def _restore_producer(self, found: Found, segment: Segment, wall_ms: int, batch: WriteBatch) -> None:
        if found.header.is_control:
            self._note_marker(segment.read(found.position, found.header.size), found.header, wall_ms, batch)
        else:
            self.producers.update(found.header, wall_ms)

    def _note_marker(self, control_batch: Buffer, header: BatchHeader, wall_ms: int, batch: WriteBatch) -> None:
        aborted = self.producers.end_transaction(header, read_marker(control_batch, header), wall_ms)
        if aborted is not None:
            self.aborted.add(aborted, batch)

    def _note_epoch(self, header: BatchHeader) -> None:
        if header.leader_epoch > self.epochs.latest:
            batch = WriteBatch()
            self.epochs.assign(header.leader_epoch, header.base_offset, batch)
            self.store.write(batch)

    def _note_index(self, header: BatchHeader, segment: Segment, position: int, max_timestamp: int = NO_TIMESTAMP) -> None:
        if position > 0 and self._bytes_since_entry >= self.index_interval_bytes:
            self.index.add(
                segment_base=segment.base_offset,
                offset=header.base_offset,
                position=position,
                max_timestamp=max(max_timestamp, segment.max_timestamp),
            )
            self._bytes_since_entry = 0
        self._bytes_since_entry += header.size

    def _add_segment(self, base_offset: int, wall_ms: int) -> None:
        segment = Segment(self.disk, self.directory, base_offset, created_ms=wall_ms, has_gaps=self.has_gaps)
        file = segment.file
        assert file.size() == 0, f"{segment.path} should be new and has {file.size()} bytes"
        batch = WriteBatch()
        put_segment(batch, self.keys, base_offset, _record(segment))
        self.store.write(batch)
        self.adopt([*self.segments, segment])
        self.directory_is_dirty = True
        self._bytes_since_entry = 0

    def _lower_cleaned(self, batch: WriteBatch, offset: int) -> None:
        """What comes at and behind the offset is new."""
        if self.compaction.cleaned_to > offset:
            self.set_compaction(replace(self.compaction, cleaned_to=offset), batch)

    def _release_for_good(self, segment: Segment) -> DiskFile | None:
        """The segment's open file, unless a flush may be syncing it: then it is closed after that."""
        self._unsynced.pop(segment, None)
        self._opened.pop(segment, None)
        if self.flush_is_running:
            self._retire_file(segment)
            return None
        return segment.release()

    def _put_truncation(self, batch: WriteBatch, offset: int) -> None:
        self.truncations = put_truncation(batch, self.store, self.keys, offset, flush_is_running=self.flush_is_running)

    def _cut_place(self, offset: int, *, at_damage: bool) -> tuple[Segment, int, int, int]:
        """(segment, position, offset, max timestamp) where the log would be cut to end at `offset` at the latest."""
        segment = self.segment_at(offset)
        entry = self.index.floor(segment.base_offset, offset)
        if segment.has_gaps:  # where the batch before the cut ends, no entry tells
            entry = IndexEntry(segment.base_offset, 0, NO_TIMESTAMP)
        max_timestamp, end = entry.max_timestamp, entry.offset
        try:
            for found in walk(segment, position=entry.position, offset=entry.offset, verify=True):
                if found.header.next_offset > offset:
                    return segment, found.position, end, max_timestamp
                max_timestamp = max(max_timestamp, found.header.newest_timestamp)
                end = found.header.next_offset
        except DamagedBatch as bad:
            if not at_damage:
                raise
            return segment, bad.position, bad.offset, max_timestamp
        return segment, segment.size, segment.next_offset, max_timestamp

    def _read_segment(self, segment: Segment, offset: int, limit: int, room: int) -> tuple[Buffer, int]:
        self._cache_file(segment)
        entry = self.index.floor(segment.base_offset, offset)
        slack = 0 if entry.offset == offset else self.index_interval_bytes
        wanted = max(room, HEADER_SIZE) + slack
        while True:
            try:
                data = segment.read(entry.position, wanted)
            except StorageError as error:  # bytes that cannot be read are as good as bytes that fail their CRC
                raise DamagedBatch(segment, entry.position, offset, str(error)) from error
            start, end, next_offset, missing = cut_to_batches(
                segment, data, position=entry.position, expected=entry.offset, offset=offset, limit=limit, max_bytes=room
            )
            if not missing:
                return memoryview(data)[start:end], next_offset
            if len(data) < min(wanted, segment.size - entry.position):
                raise DamagedBatch(segment, entry.position, offset, f"the file ends after {len(data)} more bytes")
            wanted = max(missing, wanted)

    def _cache_file(self, segment: Segment) -> None:
        """Keep the files of the last few rolled segments open, and close the others."""
        if segment is self._active or segment.is_pinned:
            return
        self._opened.pop(segment, None)
        self._opened[segment] = None
        if len(self._opened) > OPEN_SEGMENTS_MAX:
            oldest = next(iter(self._opened))
            del self._opened[oldest]
            if oldest not in self._unsynced:
                self._retire_file(oldest)

    def _drop_segments(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._delete_file(segment.path, segment.base_offset)

    def _delete_file(self, path: str, base_offset: int) -> None:
        for segment in self.segments:
            if segment.base_offset == base_offset:
                self._unsynced.pop(segment, None)
                self._opened.pop(segment, None)
                self._retire_file(segment)
        self.disk.delete(path)

    def _retire_file(self, segment: Segment) -> None:
        # A flush may be syncing the file in another thread: it is closed when no flush is running.
        file = segment.release()
        if file is not None:
            self._retired_files.append(file)
        if not self.flush_is_running:
            self._close_retired()

    def _close_retired(self) -> None:
        for file in self._retired_files:
            file.close()
        self._retired_files.clear()


def _record(segment: Segment) -> SegmentRecord:
    return SegmentRecord(segment.size, segment.next_offset, segment.max_timestamp, segment.created_ms)
