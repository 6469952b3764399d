"""Opens a log after whatever happened to it, and says what it found.

What the catalogue vouches for is believed; from the last checkpoint on every batch is read and its CRC checked. Where that ends
before the files do, the rest is a torn tail (a crash lost what was not synced) and is cut, unless the checkpoint had promised it:
bytes below the recovery point were synced, so if they are not sound now, the disk has damaged them. Such a log is left as it is,
and reported: its replica leaves the in-sync set and fetches them again (`Partition.repair_damage`).

A store without any checkpoint (it was lost) vouches for nothing: the whole log is read, and a bad batch with sound ones behind it
counts as damage.
"""

from dataclasses import dataclass

from quorumlog.host.ports import WriteBatch
from quorumlog.wire.batches import NO_TIMESTAMP, BatchError, read_header

from .index import IndexEntry
from .keys import (
    Checkpoint,
    CompactionRecord,
    SegmentRecord,
    put_checkpoint,
    put_log_start,
    put_segment,
    read_checkpoint,
    read_log_start,
    read_segments,
)
from .log import Log
from .scan import DamagedBatch, Found, walk
from .segment import Segment, base_offset_of
from .swap import recover_swap


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that were synced and are not sound any more. The log is good below `offset`."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening a log took and found. `clean` if nothing had to be read."""

    clean: bool
    scanned_bytes: int
    batches: int
    truncated_bytes: int
    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    damage: str | None


@dataclass(frozen=True, slots=True)
class Recovered:
    report: RecoveryReport
    damage: Damage | None


def recover(log: Log, wall_ms: int) -> Recovered:
    """Fill the log from its directory. On return all of it is durable, and the store knows nothing beyond its end."""
    return _Recovery(log, wall_ms).run()


class _Recovery:
    def __init__(self, log: Log, wall_ms: int) -> None:
        self.log = log
        self.wall_ms = wall_ms
        self.checkpoint = read_checkpoint(log.store, log.keys)
        self.recovery_point = self.checkpoint.recovery_point if self.checkpoint else 0
        self.catalogue: dict[int, SegmentRecord] = {}
        self.promised_end = -1  # bytes below this offset were synced, and not deleted since
        self.scanned_bytes = 0
        self.batches = 0
        self.truncated_bytes = 0
        self.has_gaps = False  # seen in what was read
        self.damage: Damage | None = None
        self.batch = WriteBatch()

    def run(self) -> Recovered:
        log = self.log
        if self.checkpoint is None:
            self._forget_everything()
            log.compaction = CompactionRecord(has_gaps=True)  # who knows
        recover_swap(log.disk, log.store, log.keys, log.directory)
        self.catalogue = read_segments(self.log.store, self.log.keys)
        segments = self._list_segments()
        if segments:
            self._open_segments(segments)
        else:
            self._begin_empty()
        return Recovered(self._report(), self.damage)

    # --- what is there

    def _forget_everything(self) -> None:
        """Without a checkpoint nothing in the store can be dated."""
        if self._is_unknown():
            return
        batch = WriteBatch()
        batch.delete_range(*self.log.keys.everything())
        self.log.store.write(batch)
        self.log.epochs.truncate(0, WriteBatch())
        self.log.aborted.truncate(0, WriteBatch())

    def _is_unknown(self) -> bool:
        """The store has nothing of this partition. To remove a range all the same would cost every later look into the store."""
        return next(iter(self.log.store.scan(*self.log.keys.everything())), None) is None

    def _list_segments(self) -> list[Segment]:
        log = self.log
        bases = [base for name in log.disk.list(log.directory) if (base := base_offset_of(name)) is not None]
        log.start_offset = read_log_start(log.store, log.keys)
        if self.checkpoint is None and bases:
            log.start_offset = bases[0]
        if self.recovery_point > log.start_offset:
            self.promised_end = self.recovery_point
        # Retention notes the new start durably, then deletes: finish what it had begun.
        if len(bases) > 1 and bases[1] <= log.start_offset:
            log.store.sync()
        while len(bases) > 1 and bases[1] <= log.start_offset:
            log.disk.delete(Segment(log.disk, log.directory, bases.pop(0), created_ms=0).path)
        return [self._segment(base) for base in bases]

    def _segment(self, base_offset: int) -> Segment:
        log = self.log
        segment = Segment(log.disk, log.directory, base_offset, created_ms=self.wall_ms, has_gaps=log.has_gaps)
        segment.size = segment.file.size()
        if (file := segment.release()) is not None:
            file.close()
        if record := self.catalogue.get(base_offset):
            segment.created_ms = record.created_ms
        return segment

    def _begin_empty(self) -> None:
        """A new log, or one whose files are gone."""
        log = self.log
        if self.checkpoint is None:
            log.compaction = CompactionRecord()
        log.disk.make_directory(log.directory, durable=False)
        log.is_new = True
        log.start_at(log.start_offset, self.wall_ms)
        if self.promised_end >= 0:
            self._note_damage(log.start_offset, "there are no segments")
            return
        # The checkpoint marks the partition as known: recovery can tell a lost store from a young log.
        put_log_start(self.batch, log.keys, log.start_offset)
        put_checkpoint(self.batch, log.keys, Checkpoint(log.start_offset, log.start_offset, log.truncations))
        if self.checkpoint is None:
            log.store.write(self.batch)  # there is nothing else of it; the first flush syncs it
            return
        log.forget_from(self.batch, log.start_offset)
        self._save()

    # --- what can be believed

    def _open_segments(self, segments: list[Segment]) -> None:
        log = self.log
        log.is_new = self.promised_end < 0  # the process that made it may have died before its first flush
        if segments[0].base_offset > log.start_offset:
            self._on_gap_at_start(segments)
            return
        vouched = self._vouched(segments)
        if vouched == len(segments) and self._snapshot_offset() == segments[-1].next_offset:
            log.adopt(segments)
            log.end_offset = segments[-1].next_offset
            # A process that died after it rolled may have left the name of an empty segment that was never synced.
            log.disk.sync_directory(log.directory)
            if log.has_derived_from(log.end_offset):
                log.forget_from(self.batch, log.end_offset)
                self._save()
            log.restore_producers(self.wall_ms)
            if log.dedup is not None:
                log.dedup.load(log.end_offset, self.wall_ms)
        else:
            self._scan(segments, vouched)
        if log.end_offset < self.promised_end and self.damage is None:
            self._note_damage(log.end_offset, f"the log ends there, and was synced up to offset {self.recovery_point}")

    def _on_gap_at_start(self, segments: list[Segment]) -> None:
        log, start = self.log, self.log.start_offset
        if self.promised_end < 0:  # the name of the first file was never synced, so nothing in it was
            self.truncated_bytes = sum(segment.size for segment in segments)
            log.adopt(segments)
            log.reset(start, self.wall_ms)
            return
        self._note_damage(start, f"the first segment begins at offset {segments[0].base_offset}, the log at {start}")
        log.adopt([Segment(log.disk, log.directory, start, created_ms=self.wall_ms)])
        log.end_offset = start
        log.directory_is_dirty = True

    def _vouched(self, segments: list[Segment]) -> int:
        """How many segments from the first on are as the catalogue says, and were synced."""
        for count, segment in enumerate(segments):
            record = self.catalogue.get(segment.base_offset)
            if record is None or record.size != segment.size or record.next_offset > self.recovery_point:
                return count
            is_last = count == len(segments) - 1
            if is_last and record.next_offset != self.recovery_point:
                return count
            if not is_last and record.next_offset != segments[count + 1].base_offset:
                return count
            segment.next_offset = record.next_offset
            segment.max_timestamp = record.max_timestamp
        return len(segments)

    def _snapshot_offset(self) -> int | None:
        snapshot = self.log.newest_snapshot(self.recovery_point)
        return snapshot[0] if snapshot is not None else None

    # --- reading what cannot

    def _scan(self, segments: list[Segment], vouched: int) -> None:
        log = self.log
        snapshot_offset = self._restore_snapshot()
        if log.dedup is not None:
            log.dedup.load(snapshot_offset, self.wall_ms)
        start = max(segments[0].base_offset, min(self.recovery_point, snapshot_offset))
        first = min(vouched, max(i for i, segment in enumerate(segments) if segment.base_offset <= start))
        log.adopt(segments)
        last = segments[first + 1].base_offset - 1 if first + 1 < len(segments) else start
        entry = self._entry(segments[first], min(start, last))
        log.forget_from(self.batch, entry.offset, replayed_from=max(entry.offset, snapshot_offset))
        if entry.position:  # the entry itself holds
            log.index.add(
                segment_base=segments[first].base_offset,
                offset=entry.offset,
                position=entry.position,
                max_timestamp=entry.max_timestamp,
            )
        end = self._scan_from(segments, first, entry, snapshot_offset)
        self._save_scanned(segments[first:], end)

    def _restore_snapshot(self) -> int:
        snapshot = self.log.newest_snapshot(self.recovery_point)
        if snapshot is None:
            return self.log.start_offset
        self.log.producers.restore(snapshot[1])
        return snapshot[0]

    def _entry(self, segment: Segment, offset: int) -> IndexEntry:
        """Where in the segment to begin to read: an index entry, if a batch really begins there."""
        entry = self.log.index.floor(segment.base_offset, offset)
        if entry.position:
            try:
                if read_header(segment.read(entry.position, 128)).base_offset == entry.offset:
                    return entry
            except (BatchError, ValueError):
                pass
        return IndexEntry(segment.base_offset, 0, NO_TIMESTAMP)

    def _scan_from(self, segments: list[Segment], first: int, entry: IndexEntry, snapshot_offset: int) -> Segment:
        """Read to the end of what is sound; the segment in which that is."""
        position, expected, max_timestamp = entry.position, entry.offset, entry.max_timestamp
        current = segments[first]
        try:
            for segment in segments[first:]:
                if segment is not current:
                    if segment.base_offset != expected:
                        reason = f"the next segment begins at offset {segment.base_offset}"
                        raise DamagedBatch(current, current.size, expected, reason)
                    current, position, max_timestamp = segment, 0, NO_TIMESTAMP
                    self._save_segment_end(expected, snapshot_offset)
                current.next_offset, current.max_timestamp = expected, max_timestamp
                for found in walk(current, position=position, offset=expected, leader_epoch=self.log.epochs.latest, verify=True):
                    self.has_gaps |= found.header.base_offset > expected
                    self._note(found, current, snapshot_offset, skip_index=found.position == entry.position > 0)
                    expected = found.header.next_offset
                current.next_offset = expected
        except DamagedBatch as bad:
            return self._end_at(segments, bad)
        self.log.adopt(segments)
        self.log.end_offset = expected
        return current

    def _save_segment_end(self, offset: int, snapshot_offset: int) -> None:
        """Hand over what was gathered, so that memory stays flat however much has to be read."""
        if offset >= snapshot_offset:
            self.log.put_snapshot(self.batch, offset)
        self.log.index.drain(self.batch, below=offset, all_entries=True)
        self.log.store.write(self.batch)
        self.batch = WriteBatch()

    def _note(self, found: Found, segment: Segment, snapshot_offset: int, *, skip_index: bool) -> None:
        header = found.header
        if header.leader_epoch > self.log.epochs.latest:
            self.log.epochs.assign(header.leader_epoch, header.base_offset, self.batch)
        self.log.note_recovered(
            found,
            segment,
            self.wall_ms,
            self.batch,
            index=not skip_index,
            producers=header.next_offset > snapshot_offset,
        )
        segment.max_timestamp = max(segment.max_timestamp, header.newest_timestamp)
        self.scanned_bytes += header.size
        self.batches += 1

    def _end_at(self, segments: list[Segment], bad: DamagedBatch) -> Segment:
        """The log is sound up to here. Cut the rest if nobody was promised it."""
        at = segments.index(bad.segment)
        rest = bad.segment.size - bad.position + sum(segment.size for segment in segments[at + 1 :])
        is_damage = bad.offset < self.promised_end or (self.checkpoint is None and self._goes_on(segments, at, bad))
        bad.segment.size, bad.segment.next_offset = bad.position, bad.offset
        self.log.adopt(segments[: at + 1])
        self.log.end_offset = bad.offset
        if is_damage:
            self._note_damage(bad.offset, bad.reason)
        else:
            self.truncated_bytes = rest
            self.log.segments = segments
            self.log.cut_files(bad.segment, bad.position, bad.offset)
        return bad.segment

    @staticmethod
    def _goes_on(segments: list[Segment], at: int, bad: DamagedBatch) -> bool:
        """True if sound-looking batches follow the bad one: a crash tears the end of a log, not its middle."""
        if any(segment.size for segment in segments[at + 1 :]):
            return True
        try:
            header = read_header(bad.segment.read(bad.position, 128))
            follower = read_header(bad.segment.read(bad.position + header.size, 128))
        except (BatchError, ValueError):
            return False
        return follower.base_offset == header.next_offset

    # --- making it so

    def _save_scanned(self, scanned: list[Segment], end: Segment) -> None:
        """Sync what was read (a process that died may not have), then let the store know."""
        log = self.log
        kept = [segment for segment in scanned if segment.base_offset <= end.base_offset]
        for segment in kept:
            segment.file.sync()
            if segment is not end and (file := segment.release()) is not None:
                file.close()
        log.sync_directories()
        for segment in kept:
            if segment is not end:
                record = SegmentRecord(segment.size, segment.next_offset, segment.max_timestamp, segment.created_ms)
                put_segment(self.batch, log.keys, segment.base_offset, record)
        put_log_start(self.batch, log.keys, log.start_offset)
        if self.checkpoint is None:
            log.set_compaction(CompactionRecord(has_gaps=self.has_gaps), self.batch)
        if self.damage is None:
            log.put_snapshot(self.batch, log.end_offset)
            if log.end_offset < log.start_offset and self.promised_end < 0:
                self._restart_at_log_start()
                return
            if log.end_offset >= self.promised_end:
                self._put_checkpoint()
        self._save()

    def _put_checkpoint(self) -> None:
        high_watermark = min(self._high_watermark(), self.log.end_offset)
        put_checkpoint(self.batch, self.log.keys, Checkpoint(self.log.end_offset, high_watermark, self.log.truncations))

    def _restart_at_log_start(self) -> None:
        """The log was dropped to begin again at an offset beyond its end, and the crash came in between."""
        self._save()
        self.log.reset(self.log.start_offset, self.wall_ms)

    def _save(self) -> None:
        # Synced before anything is appended: entries of a lost tail must not come back beside the new one.
        self.log.store.write(self.batch)
        self.log.store.sync()
        self.batch = WriteBatch()

    def _note_damage(self, offset: int, reason: str) -> None:
        self.damage = Damage(offset, reason)

    def _high_watermark(self) -> int:
        known = self.checkpoint.high_watermark if self.checkpoint else 0
        return max(known, self.log.start_offset)

    def _report(self) -> RecoveryReport:
        log = self.log
        return RecoveryReport(
            clean=self.batches == 0 and self.truncated_bytes == 0 and self.damage is None,
            scanned_bytes=self.scanned_bytes,
            batches=self.batches,
            truncated_bytes=self.truncated_bytes,
            log_start_offset=log.start_offset,
            log_end_offset=log.end_offset,
            high_watermark=min(self._high_watermark(), log.end_offset),
            damage=self.damage.reason if self.damage else None,
        )
