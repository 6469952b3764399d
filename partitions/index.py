"""The sparse index of a log: which batch starts where, and how late it got before.

An entry is made for a batch when `index_interval_bytes` have been written since the last one. It says the batch's base offset,
its position in the segment file, and the greatest timestamp of the segment before it, which rises from entry to entry, so that
the same entries find an offset and a timestamp. The start of a segment needs no entry.

Entries gather in memory and go to the store in blocks, so memory stays flat however long the log is:

    key    i + base offset of the first entry
    value  segment base int64, then for n entries: n x offset delta uint32, n x position uint32, n x max timestamp before int64

where the delta counts from the segment's base offset. The newest entries stay in memory after that too: readers at the tail,
which are nearly all, ask the store nothing.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quorumlog.host.ports import KVStore, WriteBatch
from quorumlog.wire.batches import NO_TIMESTAMP

from .keys import Keys

BLOCK_ENTRIES = 128
TAIL_ENTRIES_MAX = 2048  # kept in memory at most, of those the store has
_BASE = struct.Struct(">q")
_ENTRY_BYTES = 16


class IndexEntry(NamedTuple):
    offset: int
    position: int
    max_timestamp: int  # of all batches of the segment before this one, ms


@dataclass(frozen=True, slots=True)
class _Block:
    segment_base: int
    deltas: tuple[int, ...]
    positions: tuple[int, ...]
    timestamps: tuple[int, ...]

    def encode(self) -> bytes:
        count = len(self.deltas)
        return _BASE.pack(self.segment_base) + struct.pack(
            f">{count}I{count}I{count}q", *self.deltas, *self.positions, *self.timestamps
        )

    @classmethod
    def decode(cls, value: bytes) -> "_Block":
        count = (len(value) - _BASE.size) // _ENTRY_BYTES
        numbers = struct.unpack_from(f">{count}I{count}I{count}q", value, _BASE.size)
        return cls(_BASE.unpack_from(value)[0], numbers[:count], numbers[count : 2 * count], numbers[2 * count :])

    def floor(self, offset: int) -> IndexEntry:
        at = bisect_right(self.deltas, offset - self.segment_base) - 1
        return IndexEntry(self.segment_base + self.deltas[at], self.positions[at], self.timestamps[at])

    def below(self, offset: int) -> "_Block":
        count = bisect_left(self.deltas, offset - self.segment_base)
        return _Block(self.segment_base, self.deltas[:count], self.positions[:count], self.timestamps[:count])


def encode_blocks(segment_base: int, entries: Sequence[IndexEntry]) -> Iterator[tuple[int, bytes]]:
    """The entries of one segment as the store has them: (first offset, block)."""
    for start in range(0, len(entries), BLOCK_ENTRIES):
        offsets, positions, timestamps = zip(*entries[start : start + BLOCK_ENTRIES], strict=True)
        deltas = tuple(offset - segment_base for offset in offsets)
        yield offsets[0], _Block(segment_base, deltas, positions, timestamps).encode()


class OffsetIndex:
    """Owned by its log. Entries are added in the order of the log; `drain` hands the store those that are durable."""

    def __init__(self, store: KVStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._bases = array("q")
        self._offsets = array("q")
        self._positions = array("q")
        self._timestamps = array("q")
        self._stored_count = 0  # entries at the front of the arrays that the store has too
        self._cached: tuple[bytes, _Block] | None = None

    @property
    def pending_count(self) -> int:
        """Entries that only memory has."""
        return len(self._offsets) - self._stored_count

    def add(self, *, segment_base: int, offset: int, position: int, max_timestamp: int) -> None:
        self._bases.append(segment_base)
        self._offsets.append(offset)
        self._positions.append(position)
        self._timestamps.append(max_timestamp)

    def floor(self, segment_base: int, offset: int) -> IndexEntry:
        """The last entry of the segment at or below `offset`; the segment's start if there is none."""
        at = bisect_right(self._offsets, offset) - 1
        if at >= 0:
            if self._bases[at] == segment_base:
                return IndexEntry(self._offsets[at], self._positions[at], self._timestamps[at])
            if self._bases[at] < segment_base:
                return IndexEntry(segment_base, 0, NO_TIMESTAMP)
        block = self._stored_block(segment_base, offset)
        return block.floor(offset) if block is not None else IndexEntry(segment_base, 0, NO_TIMESTAMP)

    def floor_time(self, segment_base: int, next_offset: int, timestamp_ms: int) -> IndexEntry:
        """The last entry before which every timestamp of the segment is below `timestamp_ms`: a search may start there."""
        best = IndexEntry(segment_base, 0, NO_TIMESTAMP)
        low, high = segment_base, next_offset - 1
        while low <= high:
            middle = (low + high) // 2
            entry = self.floor(segment_base, middle)
            if entry.max_timestamp < timestamp_ms:
                best = max(best, entry)
                low = middle + 1
            else:
                high = entry.offset - 1
        return best

    def drain(self, batch: WriteBatch, *, below: int, all_entries: bool = False) -> None:
        """Move entries below a (durable) offset to the store: full blocks, and smaller ones at a segment's end or on demand."""
        end = bisect_left(self._offsets, below)
        start = self._stored_count
        while start < end:
            run = min(end, start + BLOCK_ENTRIES, bisect_right(self._bases, self._bases[start]))
            is_last_of_segment = run < len(self._bases) and self._bases[run] != self._bases[start]
            if run - start < BLOCK_ENTRIES and not is_last_of_segment and not all_entries:
                break
            self._put_block(batch, start, run)
            start = self._stored_count = run
        self._forget_front()

    def truncate(self, offset: int, batch: WriteBatch) -> None:
        """Forget the entries at and above `offset`."""
        end = bisect_left(self._offsets, offset)
        for column in (self._bases, self._offsets, self._positions, self._timestamps):
            del column[end:]
        self._stored_count = min(self._stored_count, end)
        self._cached = None
        straddling = self._store.floor(self._keys.index(offset - 1), self._keys.index(0)) if offset > 0 else None
        if straddling is not None:
            batch.put(straddling[0], _Block.decode(straddling[1]).below(offset).encode())
        batch.delete_range(self._keys.index(offset), self._keys.end_of(b"i"))

    def has_stored_from(self, offset: int) -> bool:
        """True if the store holds an entry at or above `offset`."""
        if next(iter(self._store.scan(self._keys.index(offset), self._keys.end_of(b"i"))), None) is not None:
            return True
        last = self._store.floor(self._keys.index(offset), self._keys.index(0))
        if last is None:
            return False
        block = _Block.decode(last[1])
        return block.segment_base + block.deltas[-1] >= offset

    def drop_below(self, segment_base: int, batch: WriteBatch) -> None:
        """Forget the entries of all segments before the one that starts at `segment_base`."""
        count = bisect_left(self._bases, segment_base)
        self._delete_front(count)
        self._stored_count = max(0, self._stored_count - count)
        self._cached = None
        batch.delete_range(self._keys.index(0), self._keys.index(segment_base))

    def replace(self, base_offset: int, end_offset: int, blocks: Sequence[tuple[int, bytes]], batch: WriteBatch) -> None:
        """Other entries for what lies between; all before them is durable, and forgotten here for the store to tell."""
        self.drain(batch, below=base_offset, all_entries=True)
        count = bisect_left(self._offsets, end_offset)
        self._delete_front(count)
        self._stored_count = max(0, self._stored_count - count)
        self._cached = None
        batch.delete_range(self._keys.index(base_offset), self._keys.index(end_offset))
        for first_offset, block in blocks:
            batch.put(self._keys.index(first_offset), block)

    def _put_block(self, batch: WriteBatch, start: int, end: int) -> None:
        base = self._bases[start]
        deltas = tuple(offset - base for offset in self._offsets[start:end])
        block = _Block(base, deltas, tuple(self._positions[start:end]), tuple(self._timestamps[start:end]))
        batch.put(self._keys.index(self._offsets[start]), block.encode())

    def _forget_front(self) -> None:
        if self._stored_count > TAIL_ENTRIES_MAX:
            count = self._stored_count - TAIL_ENTRIES_MAX // 2
            self._delete_front(count)
            self._stored_count -= count

    def _delete_front(self, count: int) -> None:
        for column in (self._bases, self._offsets, self._positions, self._timestamps):
            del column[:count]

    def _stored_block(self, segment_base: int, offset: int) -> _Block | None:
        """The stored block of this segment whose first entry is at or below `offset`."""
        found = self._store.floor(self._keys.index(offset), self._keys.index(segment_base))
        if found is None:
            return None
        if self._cached is None or self._cached[0] != found[0]:
            self._cached = (found[0], _Block.decode(found[1]))
        block = self._cached[1]
        return block if block.segment_base == segment_base else None
