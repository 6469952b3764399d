"""Batches with other records in them than came: offsets, sequences and all else that readers and producers rely on stay."""

from collections.abc import Iterable

from quorumlog.wire.batches import (
    COMPRESSION_MASK,
    DELETE_HORIZON,
    HEADER,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    BatchHeader,
)
from quorumlog.wire.compression import Compression, compress
from quorumlog.wire.records import sealed, timestamp_delta


def newest_timestamp(header: BatchHeader, data: bytes, starts: Iterable[int]) -> int:
    """The greatest timestamp of the records that start there."""
    if header.is_log_append_time:
        return header.max_timestamp
    return header.base_timestamp + max(timestamp_delta(data, start)[0] for start in starts)


def rebuilt(
    header: BatchHeader,
    records: bytes,
    *,
    record_count: int,
    newest_timestamp: int,
    compression: Compression | None = None,
    level: int | None = None,
) -> bytes:
    """The batch with these records; None is the compression that it had."""
    compression = Compression(header.compression) if compression is None else compression
    payload = compress(compression, records, level=level)
    changed = header._replace(
        batch_length=HEADER_SIZE + len(payload) - LENGTH_OVERHEAD,
        attributes=header.attributes & ~COMPRESSION_MASK | compression,
        max_timestamp=newest_timestamp,
        record_count=record_count,
    )
    return sealed(HEADER.pack(*changed) + payload)


def emptied(header: BatchHeader) -> bytes:
    """The batch without records: what is learned from its header still is."""
    changed = header._replace(
        batch_length=HEADER_SIZE - LENGTH_OVERHEAD,
        attributes=header.attributes & ~(COMPRESSION_MASK | DELETE_HORIZON),
        base_timestamp=header.max_timestamp,
        record_count=0,
    )
    return sealed(HEADER.pack(*changed))
