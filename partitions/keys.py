"""Every key that a partition keeps in the node's store. All of it can be rebuilt from the segments (`rebuild.py`).

A key is `part/`, the topic id (16 bytes), the partition (uint32), one byte for the kind, and what tells keys of a kind apart.
Numbers are big-endian, so that the store's order is theirs. Since the topic id is in front, a topic that was deleted and made
again shares nothing with its namesake; `delete_range` of a partition's prefix removes all it has.

    kind  behind it            value                                               lives
    c     -                    CHECKPOINT: version, recovery point, high           rewritten with each flush
                               watermark, truncation count
    l     -                    LOG_START: version, offset                          rewritten when the start rises
    t     -                    TRUNCATION: version, truncation count, offset       rewritten with each truncation
    s     base offset int64    SEGMENT: version, size, next offset, max            written at roll and close, until the
                               timestamp ms, created ms                            segment is deleted
    i     first offset int64   a block of the index (see index.py)                 until retention or truncation
    e     leader epoch uint32  EPOCH: first offset of the epoch                    until retention or truncation
    p     offset int64         producers as they were before `offset` (see         the newest few, and one a segment
                               producers.py)
    k     -                    COMPACTION: version, whether batches may be         from the first compaction on, here or
                               missing between others, end of the clean part,      at a leader that was copied
                               when the last pass ended (ms), the last request
                               that was met
    x     -                    SWAP: version, base offset and end of the segments  from when the new segment counts until
                               that one takes the place of                         the names in the directory say so
    a     marker offset int64  an aborted transaction (see aborted.py)             until retention or truncation
    d     offset int64         ids of events that were learned before `offset`,    until they have left the window, or
                               since the chunk before (see dedup.py)               truncation

The store's writes are durable in the order they were made, so a power cut leaves an old state of all this, never a mixed one.
Older than the log is harmless: recovery then scans more. Newer than the log never happens to `c`, which is written after the
data is synced; the others are cut back to the log's end by recovery, before anything is appended.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

from quorumlog.host.ports import KVStore, WriteBatch

VERSION = 1
CHECKPOINT = struct.Struct(">BqqQ")
LOG_START = struct.Struct(">Bq")
TRUNCATION = struct.Struct(">BQq")
SEGMENT = struct.Struct(">Bqqqq")
EPOCH = struct.Struct(">q")
COMPACTION = struct.Struct(">BBqqq")
SWAP = struct.Struct(">Bqq")

_PREFIX = b"part/"
_OFFSET = struct.Struct(">q")
_NUMBER = struct.Struct(">I")


class Keys:
    """The keys of one partition."""

    __slots__ = ("checkpoint", "compaction", "log_start", "prefix", "swap", "truncation")

    def __init__(self, topic_id: UUID, partition: int) -> None:
        self.prefix = _PREFIX + topic_id.bytes + _NUMBER.pack(partition)
        self.checkpoint = self.prefix + b"c"
        self.log_start = self.prefix + b"l"
        self.truncation = self.prefix + b"t"
        self.compaction = self.prefix + b"k"
        self.swap = self.prefix + b"x"

    def segment(self, base_offset: int) -> bytes:
        return self.prefix + b"s" + _OFFSET.pack(base_offset)

    def index(self, first_offset: int) -> bytes:
        return self.prefix + b"i" + _OFFSET.pack(first_offset)

    def epoch(self, leader_epoch: int) -> bytes:
        return self.prefix + b"e" + _NUMBER.pack(leader_epoch)

    def producers(self, offset: int) -> bytes:
        return self.prefix + b"p" + _OFFSET.pack(offset)

    def aborted(self, marker_offset: int) -> bytes:
        return self.prefix + b"a" + _OFFSET.pack(marker_offset)

    def event_ids(self, offset: int) -> bytes:
        return self.prefix + b"d" + _OFFSET.pack(offset)

    def end_of(self, kind: bytes) -> bytes:
        """Above every key of a kind."""
        return self.prefix + bytes([kind[0] + 1])

    def everything(self) -> tuple[bytes, bytes]:
        return self.prefix, self.prefix + b"\xff"

    def number_of(self, key: bytes) -> int:
        """The offset, or the epoch, at the end of a key."""
        tail = key[len(self.prefix) + 1 :]
        number: int = (_NUMBER if len(tail) == _NUMBER.size else _OFFSET).unpack(tail)[0]
        return number


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was durable and committed when it was written."""

    recovery_point: int  # every byte below this offset is synced
    high_watermark: int  # never above the recovery point
    truncations: int  # how many truncations of this log its writer knew of


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    size: int
    next_offset: int
    max_timestamp: int
    created_ms: int


def put_checkpoint(batch: WriteBatch, keys: Keys, value: Checkpoint) -> None:
    batch.put(keys.checkpoint, CHECKPOINT.pack(VERSION, value.recovery_point, value.high_watermark, value.truncations))


def read_checkpoint(store: KVStore, keys: Keys) -> Checkpoint | None:
    """The checkpoint as it must be believed: a truncation that its writer did not know of lowers it.

    A flush writes its checkpoint from another thread, so one that was begun before a truncation may be written after it.
    """
    stored = store.get(keys.checkpoint)
    if stored is None:
        return None
    _, recovery_point, high_watermark, truncations = CHECKPOINT.unpack(stored)
    count, offset = read_truncation(store, keys)
    if truncations < count:
        recovery_point, high_watermark = min(recovery_point, offset), min(high_watermark, offset)
    return Checkpoint(recovery_point, high_watermark, max(truncations, count))


def put_truncation(batch: WriteBatch, store: KVStore, keys: Keys, offset: int, *, flush_is_running: bool) -> int:
    """Note one more truncation, to `offset`; how many there were."""
    count, lowest = read_truncation(store, keys)
    stored = store.get(keys.checkpoint)
    is_known = count == 0 or (stored is not None and CHECKPOINT.unpack(stored)[3] >= count)
    if flush_is_running or not is_known:
        offset = min(offset, lowest) if count else offset
    batch.put(keys.truncation, TRUNCATION.pack(VERSION, count + 1, offset))
    return count + 1


def read_truncation(store: KVStore, keys: Keys) -> tuple[int, int]:
    """(how many truncations there were, the lowest offset any of those reached that no checkpoint knows of)."""
    stored = store.get(keys.truncation)
    if stored is None:
        return 0, 0
    _, count, offset = TRUNCATION.unpack(stored)
    return count, offset


def put_log_start(batch: WriteBatch, keys: Keys, offset: int) -> None:
    batch.put(keys.log_start, LOG_START.pack(VERSION, offset))


def read_log_start(store: KVStore, keys: Keys) -> int:
    stored = store.get(keys.log_start)
    offset: int = LOG_START.unpack(stored)[1] if stored is not None else 0
    return offset


def put_segment(batch: WriteBatch, keys: Keys, base_offset: int, value: SegmentRecord) -> None:
    batch.put(
        keys.segment(base_offset), SEGMENT.pack(VERSION, value.size, value.next_offset, value.max_timestamp, value.created_ms)
    )


def read_segments(store: KVStore, keys: Keys) -> dict[int, SegmentRecord]:
    """The catalogue: what is known of each segment, by base offset."""
    pairs = store.scan(keys.segment(0), keys.end_of(b"s"))
    return {keys.number_of(key): SegmentRecord(*SEGMENT.unpack(value)[1:]) for key, value in pairs}


@dataclass(frozen=True, slots=True)
class CompactionRecord:
    """What is remembered of the compactions of a log."""

    has_gaps: bool = False  # batches may be missing between others
    cleaned_to: int = 0  # below this offset each key is there once
    last_run_ms: int = -1
    request_met: int = 0  # the last value of `quorumlog.compaction.request` that was


def put_compaction(batch: WriteBatch, keys: Keys, value: CompactionRecord) -> None:
    batch.put(keys.compaction, COMPACTION.pack(VERSION, value.has_gaps, value.cleaned_to, value.last_run_ms, value.request_met))


def read_compaction(store: KVStore, keys: Keys) -> CompactionRecord:
    stored = store.get(keys.compaction)
    if stored is None:
        return CompactionRecord()
    _, has_gaps, cleaned_to, last_run_ms, request_met = COMPACTION.unpack(stored)
    return CompactionRecord(bool(has_gaps), cleaned_to, last_run_ms, request_met)


def put_swap(batch: WriteBatch, keys: Keys, base_offset: int, end_offset: int) -> None:
    batch.put(keys.swap, SWAP.pack(VERSION, base_offset, end_offset))


def read_swap(store: KVStore, keys: Keys) -> tuple[int, int] | None:
    stored = store.get(keys.swap)
    return SWAP.unpack(stored)[1:] if stored is not None else None
