"""Whether bytes from a producer or a leader may become batches of the log. Work per batch: the records inside stay opaque."""

from crc32c import crc32c

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.batches import (
    CONTROL,
    HEADER,
    HEADER_SIZE,
    LOG_APPEND_TIME,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchError,
    BatchHeader,
    Buffer,
    CorruptBatch,
    OldFormat,
    check_crc,
    iterate_headers,
    read_header,
    stamped_prefix,
)
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from .scan import Found

COMPRESSION_MAX = 4  # zstd
RECORD_BYTES_MIN = 7  # length, attributes, two deltas, key length, value length, header count: a byte each
_AFTER_CRC_FIELD = 21
_LZ4_FLAGS = HEADER_SIZE + 4  # behind the frame's magic number
_LZ4_INDEPENDENT = 1 << 5


def admit(tp: TopicPartition, records: Buffer, config: TopicConfig, *, by_coordinator: bool = False) -> BatchHeader:
    """The header of the one sound batch that a producer sent, or a coordinator in its name. Raises ClusterError."""
    if len(records) > config.max_message_bytes:
        raise ClusterError(
            ErrorCode.message_too_large, f"{tp}: a batch of {len(records)} bytes, max.message.bytes is {config.max_message_bytes}"
        )
    header = _read(tp, records)
    if header.size != len(records):
        raise _invalid(tp, f"{len(records)} bytes of records hold a batch of {header.size}; exactly one batch is taken")
    try:
        check_crc(records, header)
    except CorruptBatch as error:
        raise ClusterError(ErrorCode.corrupt_message, f"{tp}: {error}") from error
    if header.record_count != header.last_offset_delta + 1 or header.record_count < 1:
        raise _invalid(tp, f"{header.record_count} records with a last offset delta of {header.last_offset_delta}")
    _check_attributes(tp, header)
    _check_frame(tp, records, header)
    _check_timestamps(tp, header)
    if not by_coordinator:
        _check_producer(tp, header)
    return header


def admit_fetched(
    view: memoryview, end_offset: int, start_offset: int, last_epoch: int, leader_epoch: int, *, high_watermark: int
) -> tuple[list[Found], bool]:
    """The batches a leader sent, and whether they leave offsets out. Raises BatchError, unless each is sound and they go on where
    the log ends.

    Epochs may not fall, nor exceed the leader's. Offsets may be left out below the leader's high watermark only, where a
    compaction may have removed what was there. Into an empty log a batch may come that begins before its start: records were
    deleted up to the middle of it.
    """
    first = read_header(view)
    expected, epoch = end_offset, last_epoch
    if start_offset == end_offset and first.base_offset < end_offset < first.next_offset:
        expected = first.base_offset
    found: list[Found] = []
    has_gaps = False
    for position, header in iterate_headers(view):
        check_crc(view[position : position + header.size], header)
        if expected < header.base_offset <= high_watermark:
            expected, has_gaps = header.base_offset, True
        if header.base_offset != expected or not epoch <= header.leader_epoch <= leader_epoch:
            raise BatchError(
                f"a batch at offset {header.base_offset} of epoch {header.leader_epoch}, "
                f"expected offset {expected}, epoch {epoch} to {leader_epoch}"
            )
        found.append(Found(position, header))
        expected, epoch = header.next_offset, header.leader_epoch
    return found, has_gaps


def append_time_buffers(records: Buffer, header: BatchHeader, wall_ms: int) -> tuple[BatchHeader, list[Buffer]]:
    """The batch with the time of the append in place of the producer's, and so with another CRC; the records are not copied."""
    header = header._replace(attributes=header.attributes | LOG_APPEND_TIME, max_timestamp=wall_ms)
    rest = memoryview(records)[HEADER_SIZE:]
    head = HEADER.pack(*header)
    header = header._replace(crc=crc32c(rest, crc32c(head[_AFTER_CRC_FIELD:])))
    return header, [HEADER.pack(*header), rest]


def stored_buffers(records: Buffer, header: BatchHeader) -> list[Buffer]:
    """The batch with the leader's offset and epoch in place; everything behind them as it came."""
    prefix = stamped_prefix(header, base_offset=header.base_offset, leader_epoch=header.leader_epoch)
    return [prefix, memoryview(records)[len(prefix) :]]


def _read(tp: TopicPartition, records: Buffer) -> BatchHeader:
    try:
        return read_header(records)
    except OldFormat as error:
        raise ClusterError(ErrorCode.unsupported_for_message_format, f"{tp}: {error}") from error
    except BatchError as error:
        code = ErrorCode.corrupt_message if len(records) >= HEADER_SIZE else ErrorCode.invalid_record
        raise ClusterError(code, f"{tp}: {error}") from error


def _check_frame(tp: TopicPartition, records: Buffer, header: BatchHeader) -> None:
    """Kafka's own consumers read lz4 frames only if their blocks are independent: one that is not would stop them for good."""
    if header.compression == Compression.LZ4 and len(records) > _LZ4_FLAGS and not records[_LZ4_FLAGS] & _LZ4_INDEPENDENT:
        raise _invalid(tp, "an lz4 frame whose blocks depend on each other, which consumers of Kafka cannot read")


def _check_attributes(tp: TopicPartition, header: BatchHeader) -> None:
    if header.attributes & CONTROL:
        raise _invalid(tp, "a client may not write control batches")
    if header.attributes & TRANSACTIONAL and header.producer_id < 0:
        raise _invalid(tp, "a transactional batch without a producer id")
    if header.compression > COMPRESSION_MAX:
        raise _invalid(tp, f"compression type {header.compression}, the greatest is {COMPRESSION_MAX}")
    if header.compression == 0 and header.record_count * RECORD_BYTES_MIN > header.size - HEADER_SIZE:
        raise _invalid(tp, f"{header.record_count} records cannot fit into {header.size - HEADER_SIZE} bytes")


def _check_timestamps(tp: TopicPartition, header: BatchHeader) -> None:
    if header.attributes & LOG_APPEND_TIME:
        raise ClusterError(ErrorCode.invalid_timestamp, f"{tp}: a producer may not set the timestamp type to LogAppendTime")
    if header.max_timestamp < NO_TIMESTAMP:
        raise ClusterError(ErrorCode.invalid_timestamp, f"{tp}: max timestamp {header.max_timestamp} is negative")


def _check_producer(tp: TopicPartition, header: BatchHeader) -> None:
    if header.producer_id >= 0 and (header.producer_epoch < 0 or header.base_sequence < 0):
        raise _invalid(
            tp, f"producer {header.producer_id} with epoch {header.producer_epoch} and sequence {header.base_sequence}"
        )


def _invalid(tp: TopicPartition, reason: str) -> ClusterError:
    return ClusterError(ErrorCode.invalid_record, f"{tp}: {reason}")
