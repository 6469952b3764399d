"""Record batches of Kafka's message format v2, read by their headers: the records inside stay opaque bytes.

    byte  0  base offset            int64    written by the leader, outside the CRC
          8  batch length           int32    bytes after this field
         12  partition leader epoch int32    written by the leader, outside the CRC
         16  magic                  int8     2
         17  CRC-32C                uint32   over everything from byte 21 to the end
         21  attributes             int16    bits 0-2 compression, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
         23  last offset delta      int32
         27  base timestamp         int64    ms; with a delete horizon that, and records count from it all the same (KIP-534)
         35  max timestamp          int64    ms
         43  producer id            int64    -1 without idempotence
         51  producer epoch         int16
         53  base sequence          int32
         57  record count           int32
         61  records

Source: Kafka protocol guide, "Record Batch"; KIP-98.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_SIZE = HEADER.size
PREFIX = struct.Struct(">qii")
LENGTH_OVERHEAD = 12  # bytes of a batch that its length field does not count
CRC_START = 21
MAGIC = 2
NO_PRODUCER = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1
SEQUENCE_LIMIT = 2**31  # sequences wrap from 2^31-1 to 0

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

assert HEADER_SIZE == 61


class BatchError(ValueError):
    """Bytes that are not a whole, sound v2 batch."""


class CorruptBatch(BatchError):
    """The checksum does not match the content."""


class OldFormat(BatchError):
    """A message set of format v0 or v1, which Kafka 4 no longer takes either (KIP-724)."""


class BatchHeader(NamedTuple):
    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch, its first 12 included."""
        return self.batch_length + LENGTH_OVERHEAD

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & COMPRESSION_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def delete_horizon_ms(self) -> int:
        """From then on a compaction removes the deletions, or the mark of a transaction, in this batch; -1 if none set it yet."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON else NO_TIMESTAMP

    @property
    def newest_timestamp(self) -> int:
        """Of its records; an emptied batch keeps the timestamp of what it held, which nobody can find any more."""
        return self.max_timestamp if self.record_count else NO_TIMESTAMP

    @property
    def is_idempotent(self) -> bool:
        return self.producer_id >= 0

    @property
    def last_sequence(self) -> int:
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) % SEQUENCE_LIMIT


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`. Raises BatchError if it is cut short, or is no v2 header with a possible length."""
    if len(buffer) - position < HEADER_SIZE:
        if len(buffer) - position > 16 and buffer[position + 16] in (0, 1):
            raise OldFormat(f"message format v{buffer[position + 16]}; only v2 record batches are taken")
        raise BatchError(f"{len(buffer) - position} bytes, and a batch header has {HEADER_SIZE}")
    header = BatchHeader._make(HEADER.unpack_from(buffer, position))
    if header.magic != MAGIC:
        if header.magic in (0, 1):
            raise OldFormat(f"message format v{header.magic}; only v2 record batches are taken")
        raise BatchError(f"magic byte {header.magic}, expected {MAGIC}")
    if header.batch_length < HEADER_SIZE - LENGTH_OVERHEAD:
        raise BatchError(f"batch length {header.batch_length}, the least is {HEADER_SIZE - LENGTH_OVERHEAD}")
    if header.last_offset_delta < 0:
        raise BatchError(f"last offset delta {header.last_offset_delta} is negative")
    return header


def iterate_headers(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch in a buffer of whole batches. Raises BatchError at anything else, a cut end included."""
    position, end = 0, len(buffer)
    while position < end:
        header = read_header(buffer, position)
        if position + header.size > end:
            raise BatchError(f"batch of {header.size} bytes at {position}, but only {end - position} are there")
        yield position, header
        position += header.size


def check_crc(batch: Buffer, header: BatchHeader) -> None:
    """Raises CorruptBatch unless the CRC of this one whole batch matches."""
    seen = crc32c(memoryview(batch)[CRC_START:])
    if seen != header.crc:
        raise CorruptBatch(f"CRC-32C {seen:#010x}, the header says {header.crc:#010x}")


def stamped_prefix(header: BatchHeader, *, base_offset: int, leader_epoch: int) -> bytes:
    """The first 16 bytes of a batch with the leader's offset and epoch in place; the rest is stored as it came."""
    return PREFIX.pack(base_offset, header.batch_length, leader_epoch)
