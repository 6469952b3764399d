"""Finds records by their timestamps, exact to the record, in compressed batches too."""

from quorumlog.wire.batches import BatchError, BatchHeader
from quorumlog.wire.records import iterate_records

from .log import Log
from .scan import walk

NOTHING = (-1, -1)


def offset_of_timestamp(log: Log, timestamp_ms: int, *, limit: int, decompressed_bytes_max: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record below `limit` that is not older. Raises DamagedBatch."""
    for segment in list(log.segments):
        if segment.next_offset <= log.start_offset or segment.max_timestamp < timestamp_ms:
            continue
        entry = log.index.floor_time(segment.base_offset, segment.next_offset, timestamp_ms)
        for found in walk(segment, position=entry.position, offset=entry.offset, verify=False):
            header = found.header
            if header.base_offset >= limit:
                return None
            if header.newest_timestamp < timestamp_ms or header.next_offset <= log.start_offset:
                continue
            batch = log.read_batch(segment, found)
            for offset, timestamp in _timestamps(batch, header, decompressed_bytes_max):
                if timestamp >= timestamp_ms and offset >= log.start_offset:
                    return offset, timestamp
    return None


def greatest_timestamp(log: Log, *, limit: int, decompressed_bytes_max: int) -> tuple[int, int]:
    """(timestamp, offset) of the newest record below `limit`, (-1, -1) without any timestamp. Raises DamagedBatch."""
    best = NOTHING
    for segment in sorted(log.segments, key=lambda segment: (-segment.max_timestamp, segment.base_offset)):
        if segment.max_timestamp <= best[0] or segment.next_offset <= log.start_offset:
            continue
        newest = _newest_batch(log, segment.base_offset, limit)
        if newest is not None and newest[0] > best[0]:
            best = newest
    if best == NOTHING:
        return NOTHING
    found = offset_of_timestamp(log, best[0], limit=limit, decompressed_bytes_max=decompressed_bytes_max)
    return (found[1], found[0]) if found is not None else best


def _newest_batch(log: Log, segment_base: int, limit: int) -> tuple[int, int] | None:
    """(max timestamp, base offset) of the batch of a segment, below `limit`, with the greatest timestamp."""
    segment = log.segment_at(segment_base)
    newest: tuple[int, int] | None = None
    entry = log.index.floor_time(segment_base, segment.next_offset, segment.max_timestamp)
    start = (entry.position, entry.offset) if segment.next_offset <= limit else (0, segment_base)
    for found in walk(segment, position=start[0], offset=start[1], verify=False):
        header = found.header
        if header.base_offset >= limit:
            break
        if header.next_offset > log.start_offset and (newest is None or header.newest_timestamp > newest[0]):
            newest = header.newest_timestamp, header.base_offset
    return newest


def _timestamps(batch: bytes, header: BatchHeader, decompressed_bytes_max: int) -> list[tuple[int, int]]:
    """(offset, timestamp) of each record. A batch whose records cannot be read answers as one record, by its header."""
    try:
        records = iterate_records(batch, header, decompressed_bytes_max=decompressed_bytes_max)
        return [(record.offset, record.timestamp) for record in records]
    except BatchError:
        return [(header.base_offset, header.max_timestamp)]
