"""The single records inside a batch: for finding a timestamp, for tests and for tools. The way of a batch never comes here.

    record   length varint, attributes int8 (unused), timestamp delta varlong, offset delta varint,
             key length varint (-1 null), key, value length varint (-1 null), value, header count varint,
             [key length varint, key UTF-8, value length varint (-1 null), value]

All varints are zigzag. Source: Kafka protocol guide, "Record"; KIP-82 for headers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crc32c import crc32c

from quorumlog.wire.batches import (
    CONTROL,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    MAGIC,
    NO_PRODUCER,
    NO_SEQUENCE,
    TRANSACTIONAL,
    BatchError,
    BatchHeader,
    Buffer,
)
from quorumlog.wire.compression import Compression, compress, decompress
from quorumlog.wire.cursor import Cursor, DecodeError
from quorumlog.wire.encoding import unsigned_varint

RECORD_BYTES_MIN = 7
HEADER_BYTES_MIN = 2
NULL = b"\x01"  # -1 as a zigzag varint

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Record:
    offset: int = 0
    timestamp: int = 0
    """ms since 1970."""
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[Header, ...] = ()


def iterate_records(batch: Buffer, header: BatchHeader, *, decompressed_bytes_max: int) -> Iterator[Record]:
    """The records of one batch, which begins with `batch` and whose header that is.

    The checksum is not looked at: it was when the batch was appended. Raises BatchError, possibly after some records, if there
    are fewer or more than the header says, one is damaged, or they decompress to more than `decompressed_bytes_max`.
    """
    if header.size > len(batch):
        raise BatchError(f"batch of {header.size} bytes, but only {len(batch)} are there")
    payload = memoryview(batch)[HEADER_SIZE : header.size]
    records = bytes(decompress(header.compression, payload, bytes_max=decompressed_bytes_max))
    cursor = Cursor(records)
    try:
        if not header.record_count >= 0:
            raise DecodeError(f"record count {header.record_count} is negative")
        for _ in range(cursor.claim(header.record_count, RECORD_BYTES_MIN, "records")):
            yield _read_record(cursor, header)
        cursor.finish()
    except DecodeError as error:
        raise BatchError(f"batch at offset {header.base_offset}: {error}") from None


def keys_and_values(
    batch: Buffer, header: BatchHeader, *, decompressed_bytes_max: int
) -> Iterator[tuple[bytes | None, bytes | None]]:
    """As iterate_records, but only what those need who replay a log, in a quarter of the time."""
    payload = memoryview(batch)[HEADER_SIZE : header.size]
    data = bytes(decompress(header.compression, payload, bytes_max=decompressed_bytes_max))
    position, problem = 0, f"batch at offset {header.base_offset} is damaged behind byte"
    try:
        for _ in range(header.record_count):
            length, position = varint(data, position)
            end = position + length
            position += 1  # attributes
            while data[position] > 0x7F:  # timestamp
                position += 1
            position += 1
            while data[position] > 0x7F:  # offset
                position += 1
            size, position = varint(data, position + 1)
            key = data[position : position + size] if size >= 0 else None
            size, position = varint(data, position + size if size >= 0 else position)
            value = data[position : position + size] if size >= 0 else None
            if size >= 0:
                position += size
            if not position < end <= len(data) or (data[position] == 0) != (position + 1 == end):
                raise BatchError(f"{problem} {position}")
            yield key, value
            position = end
    except IndexError:
        raise BatchError(f"{problem} {position}") from None
    if position != len(data):
        raise BatchError(f"{len(data) - position} bytes follow the {header.record_count} records at offset {header.base_offset}")


Slice = tuple[int, bytes | None, bool, int, int]
"""One record as it lies among the others: offset delta, key, whether it has a value, where it starts and ends."""


def record_slices(data: bytes, header: BatchHeader) -> Iterator[Slice]:
    """Where each record lies in the decompressed payload, and what a compaction asks of it. Raises BatchError.

    Most numbers take one byte: those are read here, for a call would cost more than all else.
    """
    position, problem = 0, f"batch at offset {header.base_offset} is damaged behind byte"
    try:
        for _ in range(header.record_count):
            start = position
            length = data[position]
            if length > 0x7F:
                length, position = varint(data, position)
            else:
                length, position = (length >> 1) ^ -(length & 1), position + 1
            end = position + length
            position += 1  # attributes
            while data[position] > 0x7F:  # timestamp
                position += 1
            delta = data[position + 1]
            if delta > 0x7F:
                delta, position = varint(data, position + 1)
            else:
                delta, position = (delta >> 1) ^ -(delta & 1), position + 2
            size = data[position]
            if size > 0x7F:
                size, position = varint(data, position)
            else:
                size, position = (size >> 1) ^ -(size & 1), position + 1
            key = None
            if size >= 0:
                key = data[position : position + size]
                position += size
            has_value = not data[position] & 1  # a negative length is odd
            if not start < position < end <= len(data) or delta < 0:
                raise BatchError(f"{problem} {start}")
            yield delta, key, has_value, start, end
            position = end
    except IndexError:
        raise BatchError(f"{problem} {position}") from None
    if position != len(data):
        raise BatchError(f"{len(data) - position} bytes follow the {header.record_count} records at offset {header.base_offset}")


def timestamp_delta(data: bytes, start: int) -> tuple[int, int, int]:
    """Of the record at `start`: (its timestamp less the batch's base, where that field begins, where it ends)."""
    _, position = varint(data, start)
    delta, end = varint(data, position + 1)
    return delta, position + 1, end


def with_timestamp_delta(data: bytes, start: int, end: int, delta: int) -> bytes:
    """The record that lies there, with another timestamp delta."""
    _, field_start, field_end = timestamp_delta(data, start)
    fields = data[field_start - 1 : field_start] + _signed_varint(delta) + data[field_end:end]
    return _signed_varint(len(fields)) + fields


def varint(data: bytes, position: int) -> tuple[int, int]:
    """(zigzag value, position behind it). Raises IndexError where the bytes end before it does, or it has more than nine."""
    value = data[position]
    position += 1
    shift = 7
    while value >> shift:
        value += (data[position] - 1) << shift  # less the bit which said that a byte follows
        position += 1
        shift += 7
        if shift > 63:  # of a hostile one each byte would cost more than the one before
            raise IndexError(position)
    return (value >> 1) ^ -(value & 1), position


def build_batch(
    records: Sequence[Record],
    *,
    compression: Compression = Compression.NONE,
    leader_epoch: int = -1,
    producer_id: int = NO_PRODUCER,
    producer_epoch: int = -1,
    base_sequence: int = NO_SEQUENCE,
    log_append_time: int | None = None,
    is_transactional: bool = False,
    is_control: bool = False,
) -> bytes:
    """One sound batch of records with rising offsets; `log_append_time` (ms) makes it the timestamp of them all."""
    first = records[0]
    attributes = (
        compression
        | (0 if log_append_time is None else LOG_APPEND_TIME)
        | (TRANSACTIONAL if is_transactional else 0)
        | (CONTROL if is_control else 0)
    )
    payload = compress(compression, b"".join(_written(record, first) for record in records))
    header = BatchHeader(
        base_offset=first.offset,
        batch_length=HEADER_SIZE + len(payload) - LENGTH_OVERHEAD,
        leader_epoch=leader_epoch,
        magic=MAGIC,
        crc=0,
        attributes=attributes,
        last_offset_delta=records[-1].offset - first.offset,
        base_timestamp=first.timestamp,
        max_timestamp=max(record.timestamp for record in records) if log_append_time is None else log_append_time,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )
    return sealed(HEADER.pack(*header) + payload)


def sealed(batch: bytes) -> bytes:
    """The batch with its checksum in place."""
    header = BatchHeader._make(HEADER.unpack_from(batch))
    return HEADER.pack(*header._replace(crc=crc32c(memoryview(batch)[CRC_START:]))) + batch[HEADER_SIZE:]


def _read_record(cursor: Cursor, header: BatchHeader) -> Record:
    length = cursor.signed_varint("record length")
    if length < 0:
        raise DecodeError(f"record length {length} is negative")
    batch_end, start = cursor.end, cursor.take(length, "record")
    cursor.position, cursor.end = start, start + length
    record = _read_fields(cursor, header)
    cursor.finish()
    cursor.end = batch_end
    return record


def _read_fields(cursor: Cursor, header: BatchHeader) -> Record:
    cursor.int8("record attributes")
    timestamp = header.base_timestamp + cursor.signed_varlong("timestamp delta")
    offset_delta = cursor.signed_varint("offset delta")
    if not 0 <= offset_delta <= header.last_offset_delta:
        raise DecodeError(f"offset delta {offset_delta}, allowed are 0 to {header.last_offset_delta}")
    return Record(
        offset=header.base_offset + offset_delta,
        timestamp=header.max_timestamp if header.is_log_append_time else timestamp,
        key=_read_bytes(cursor, "key"),
        value=_read_bytes(cursor, "value"),
        headers=tuple([_read_header(cursor) for _ in range(_read_header_count(cursor))]),
    )


def _read_header_count(cursor: Cursor) -> int:
    count = cursor.signed_varint("header count")
    if count < 0:
        raise DecodeError(f"header count {count} is negative")
    return cursor.claim(count, HEADER_BYTES_MIN, "headers")


def _read_header(cursor: Cursor) -> Header:
    key = _read_bytes(cursor, "header key")
    if key is None:
        raise DecodeError("header key is null, which it may not be")
    # Brokers never look at header keys, so there may be some that are no UTF-8: they survive reading and writing.
    return key.decode("utf-8", "surrogateescape"), _read_bytes(cursor, "header value")


def _read_bytes(cursor: Cursor, name: str) -> bytes | None:
    length = cursor.signed_varint(name)
    if length < -1:
        raise DecodeError(f"{name} has length {length}")
    return None if length < 0 else cursor.blob(length, name)


def _written(record: Record, first: Record) -> bytes:
    pieces = [
        b"\x00",
        _signed_varint(record.timestamp - first.timestamp),
        _signed_varint(record.offset - first.offset),
        _written_bytes(record.key),
        _written_bytes(record.value),
        _signed_varint(len(record.headers)),
    ]
    for key, value in record.headers:
        pieces += (_written_bytes(key.encode("utf-8", "surrogateescape")), _written_bytes(value))
    fields = b"".join(pieces)
    return _signed_varint(len(fields)) + fields


def _written_bytes(value: bytes | None) -> bytes:
    return NULL if value is None else _signed_varint(len(value)) + value


def _signed_varint(value: int) -> bytes:
    return unsigned_varint(value << 1 if value >= 0 else (-value << 1) - 1)


__all__ = [
    "Compression",
    "Header",
    "Record",
    "Slice",
    "build_batch",
    "iterate_records",
    "keys_and_values",
    "record_slices",
    "sealed",
    "timestamp_delta",
    "varint",
    "with_timestamp_delta",
]
