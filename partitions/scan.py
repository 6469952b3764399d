"""Walks a segment batch by batch, and says where and why it stops being sound."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from crc32c import crc32c

from quorumlog.wire.batches import (
    CRC_START,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    MAGIC,
    BatchError,
    BatchHeader,
    Buffer,
    read_header,
)

from .segment import Segment

CHUNK_BYTES = 1 << 20
_SHAPE = struct.Struct(">qiibIhi")  # a header up to its last offset delta: all that a walk over trusted batches needs


class DamagedBatch(Exception):
    """At this place of a segment there is no sound batch where one should begin."""

    def __init__(self, segment: Segment, position: int, offset: int, reason: str) -> None:
        super().__init__(f"{segment.path} at byte {position}, offset {offset}: {reason}")
        self.segment = segment
        self.position = position
        self.offset = offset
        self.reason = str(self)


@dataclass(frozen=True, slots=True)
class Found:
    """A batch and where it starts in its segment."""

    position: int
    header: BatchHeader

    @property
    def end(self) -> int:
        return self.position + self.header.size


def walk(segment: Segment, *, position: int, offset: int, leader_epoch: int = -1, verify: bool) -> Iterator[Found]:
    """The batches from `position`, where `offset` must begin, to the end of the segment.

    Each must follow the one before, without a gap unless the segment may have some, and in no older epoch than it (bytes that an
    unsynced truncation brought back could be sound batches of a log that was given up); with `verify`, its CRC must match. Raises
    DamagedBatch.
    """
    chunk, chunk_position = b"", position
    while position < segment.size:
        if position + HEADER_SIZE > chunk_position + len(chunk):
            chunk, chunk_position = segment.read(position, CHUNK_BYTES), position
        header = _header(segment, chunk, position - chunk_position, position, offset, leader_epoch)
        if verify:
            within = position - chunk_position
            if within + header.size > len(chunk) and header.size <= CHUNK_BYTES:
                chunk, chunk_position, within = segment.read(position, CHUNK_BYTES), position, 0
            _check_crc(segment, memoryview(chunk)[within : within + header.size], position, offset, header)
        yield Found(position, header)
        position += header.size
        offset = header.next_offset
        leader_epoch = header.leader_epoch


def walk_whole(segment: Segment) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Every batch of a segment, checked as `walk` does, with its bytes. Raises DamagedBatch."""
    chunk, chunk_position, position = b"", 0, 0
    offset, leader_epoch = segment.base_offset, -1
    while position < segment.size:
        if position + HEADER_SIZE > chunk_position + len(chunk):
            chunk, chunk_position = segment.read(position, CHUNK_BYTES), position
        header = _header(segment, chunk, position - chunk_position, position, offset, leader_epoch)
        if position + header.size > chunk_position + len(chunk):
            chunk, chunk_position = segment.read(position, max(CHUNK_BYTES, header.size)), position
        within = position - chunk_position
        batch = memoryview(chunk)[within : within + header.size]
        _check_crc(segment, batch, position, offset, header)
        yield header, batch
        position, offset, leader_epoch = position + header.size, header.next_offset, header.leader_epoch


def _is_behind_hole(segment: Segment, base_offset: int, expected: int) -> bool:
    """Whether a compaction may have removed what was before this batch."""
    return segment.has_gaps and base_offset > expected


def _header(segment: Segment, chunk: bytes, within: int, position: int, offset: int, leader_epoch: int) -> BatchHeader:
    try:
        header = read_header(chunk, within)
    except BatchError as error:
        raise DamagedBatch(segment, position, offset, str(error)) from error
    if header.base_offset != offset and not _is_behind_hole(segment, header.base_offset, offset):
        raise DamagedBatch(segment, position, offset, f"the batch there begins at offset {header.base_offset}")
    if header.leader_epoch < leader_epoch:
        raise DamagedBatch(segment, position, offset, f"epoch {header.leader_epoch} behind epoch {leader_epoch}")
    if position + header.size > segment.size:
        raise DamagedBatch(segment, position, offset, f"a batch of {header.size} bytes is cut after {segment.size - position}")
    return header


def _check_crc(segment: Segment, seen: memoryview, position: int, offset: int, header: BatchHeader) -> None:
    crc = crc32c(seen[CRC_START:])
    at, end = position + len(seen), position + header.size
    while at < end:  # a batch larger than a chunk
        piece = segment.read(at, min(CHUNK_BYTES, end - at))
        if not piece:
            raise DamagedBatch(segment, position, offset, f"the file ends at byte {at}")
        crc, at = crc32c(piece, crc), at + len(piece)
    if crc != header.crc:
        raise DamagedBatch(segment, position, offset, f"CRC-32C {crc:#010x}, the header says {header.crc:#010x}")


def cut_to_batches(
    segment: Segment, data: Buffer, *, position: int, expected: int, offset: int, limit: int, max_bytes: int
) -> tuple[int, int, int, int]:
    """Find in `data`, read at `position` where `expected` begins, the whole batches from the one that holds `offset` to `limit`.

    Returns (start, end, next offset, missing): the range in `data`, the offset behind it, and, if not even the first batch is
    whole, how many bytes it takes from `position` to have it. The first batch may exceed `max_bytes`. Each batch in the range
    had its CRC checked. Raises DamagedBatch, unless sound batches came before the damaged one.
    """
    view = memoryview(data)
    size, cursor, start, end = len(view), 0, -1, 0
    next_offset = offset
    while expected < limit and position + cursor < segment.size:
        if position + cursor + HEADER_SIZE > segment.size:
            raise DamagedBatch(segment, position + cursor, expected, "no room for a batch header")
        if size - cursor < HEADER_SIZE:
            missing = cursor + HEADER_SIZE if start < 0 else 0
            return max(start, 0), end, next_offset, missing
        base_offset, length, _, magic, crc, _, delta = _SHAPE.unpack_from(view, cursor)
        whole = length + LENGTH_OVERHEAD
        reason = _misshape(segment, position + cursor, base_offset, expected, magic, whole, delta)
        following = base_offset + delta + 1
        if not reason:
            if following > limit:
                break
            is_wanted = following > offset
            if is_wanted and start >= 0 and cursor + whole - start > max_bytes:
                break
            if cursor + whole > size:
                return max(start, 0), end, next_offset, (cursor + whole if start < 0 else 0)
            if is_wanted:
                seen = crc32c(view[cursor + CRC_START : cursor + whole])
                reason = "" if seen == crc else f"CRC-32C {seen:#010x}, the header says {crc:#010x}"
        if reason:
            if start >= 0:
                break
            raise DamagedBatch(segment, position + cursor, expected, reason)
        if is_wanted:
            start = cursor if start < 0 else start
            end, next_offset = cursor + whole, following
        cursor += whole
        expected = following
    return max(start, 0), end, next_offset, 0


def _misshape(segment: Segment, position: int, base_offset: int, expected: int, magic: int, size: int, delta: int) -> str:
    if base_offset != expected and not _is_behind_hole(segment, base_offset, expected):
        return f"the batch there begins at offset {base_offset}"
    if magic != MAGIC or size < HEADER_SIZE or delta < 0:
        return f"no batch header: magic {magic}, {size} bytes, last offset delta {delta}"
    if position + size > segment.size:
        return f"a batch of {size} bytes is cut after {segment.size - position}"
    return ""
