"""What a topic's settings demand of the records in a batch: keys, timestamps in bounds, one compression.

The way of a batch looks inside only where a setting asks for it, which by default none does. All of it is bounded by what a batch
may hold when decompressed, and done at once, so that batches stay in the order in which they came.
"""

from collections.abc import Iterator
from itertools import islice

from quorumlog.metadata.internal_topics import is_internal
from quorumlog.metadata.settings import LONG_MAX
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.batches import HEADER, HEADER_SIZE, NO_TIMESTAMP, BatchError, BatchHeader, Buffer
from quorumlog.wire.compression import Compression, decompress
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.produce import RecordError
from quorumlog.wire.records import Record, iterate_records, keys_and_values
from quorumlog.wire.rewriting import rebuilt

APPEND_TIME = "LogAppendTime"
RECORD_ERRORS_MAX = 1_000  # told of one batch
RECORDS_MAX = 500_000  # looked at in one batch: half a second, in which nobody else is served

COMPRESSIONS = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


class RecordsRefused(ClusterError):
    """Some records of a batch cannot be taken, and so none is."""

    def __init__(self, code: ErrorCode, message: str, record_errors: tuple[RecordError, ...]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


def check_records(
    tp: TopicPartition, batch: Buffer, header: BatchHeader, config: TopicConfig, *, wall_ms: int, decompressed_bytes_max: int
) -> None:
    """Raises INVALID_TIMESTAMP or INVALID_RECORD, naming the records."""
    checks_times = _may_be_out_of_bounds(header, config, wall_ms)
    # What coordinators write has keys, and nobody else writes there: a commit of many offsets is not read again for that.
    checks_keys = config.is_compacted and not is_internal(tp.topic)
    if (checks_times or checks_keys) and header.record_count > RECORDS_MAX:
        raise ClusterError(
            ErrorCode.invalid_record, f"{tp}: {header.record_count} records in a batch; this topic takes at most {RECORDS_MAX}"
        )
    try:
        if checks_times:
            records = iterate_records(batch, header, decompressed_bytes_max=decompressed_bytes_max)
            _refuse(tp, ErrorCode.invalid_timestamp, _out_of_bounds(records, config, wall_ms))
        if checks_keys:
            pairs = keys_and_values(batch, header, decompressed_bytes_max=decompressed_bytes_max)
            _refuse(tp, ErrorCode.invalid_record, _keyless(tp, pairs))
    except BatchError as error:
        raise ClusterError(ErrorCode.invalid_record, f"{tp}: {error}") from error


def _may_be_out_of_bounds(header: BatchHeader, config: TopicConfig, wall_ms: int) -> bool:
    """Told by the header, which says what the latest timestamp is; of the earliest it says nothing."""
    if config.message_timestamp_type == APPEND_TIME:
        return False
    is_ahead = header.max_timestamp - wall_ms > config.message_timestamp_after_max_ms
    return is_ahead or config.message_timestamp_before_max_ms < LONG_MAX


def _out_of_bounds(records: Iterator[Record], config: TopicConfig, wall_ms: int) -> Iterator[RecordError]:
    least, most = wall_ms - config.message_timestamp_before_max_ms, wall_ms + config.message_timestamp_after_max_ms
    for number, record in enumerate(records):
        if record.timestamp != NO_TIMESTAMP and not least <= record.timestamp <= most:
            yield RecordError(number, f"Timestamp {record.timestamp} is out of range. It should be within [{least}, {most}].")


def _keyless(tp: TopicPartition, pairs: Iterator[tuple[bytes | None, bytes | None]]) -> Iterator[RecordError]:
    for number, (key, _) in enumerate(pairs):
        if key is None:
            yield RecordError(number, f"Compacted topic cannot accept message without key in topic partition {tp}.")


def _refuse(tp: TopicPartition, code: ErrorCode, found: Iterator[RecordError]) -> None:
    """Raises RecordsRefused if there are any."""
    errors = tuple(islice(found, RECORD_ERRORS_MAX))
    if errors:
        first = errors[0]
        sentence = f"{tp}: {len(errors)} records cannot be taken; number {first.batch_index}: {first.message}"
        raise RecordsRefused(code, sentence, errors)


def recompressed(
    tp: TopicPartition, batch: Buffer, header: BatchHeader, config: TopicConfig, *, decompressed_bytes_max: int
) -> tuple[Buffer, BatchHeader]:
    """The batch in the compression that the topic wants. Raises INVALID_RECORD, or MESSAGE_TOO_LARGE if it grew too much."""
    wanted = wanted_compression(config)
    if wanted is None or wanted == header.compression or not header.record_count:
        return batch, header
    try:
        plain = decompress(header.compression, memoryview(batch)[HEADER_SIZE:], bytes_max=decompressed_bytes_max)
    except BatchError as error:
        raise ClusterError(ErrorCode.invalid_record, f"{tp}: {error}") from error
    whole = rebuilt(
        header,
        bytes(plain),
        record_count=header.record_count,
        newest_timestamp=header.max_timestamp,
        compression=wanted,
        level=level_of(wanted, config),
    )
    check_recompressed(tp, len(whole), config)
    return whole, BatchHeader._make(HEADER.unpack_from(whole))


def wanted_compression(config: TopicConfig) -> Compression | None:
    """None if batches are stored in the one in which they came."""
    return COMPRESSIONS.get(config.compression_type)


def check_recompressed(tp: TopicPartition, size: int, config: TopicConfig) -> None:
    """Raises MESSAGE_TOO_LARGE for a batch that grew too much."""
    if size > config.max_message_bytes:
        raise ClusterError(
            ErrorCode.message_too_large,
            f"{tp}: a batch of {size} bytes as {config.compression_type}, max.message.bytes is {config.max_message_bytes}",
        )


def level_of(compression: Compression, config: TopicConfig) -> int | None:
    match compression:
        case Compression.GZIP:
            return config.compression_gzip_level
        case Compression.LZ4:
            return config.compression_lz4_level
        case Compression.ZSTD:
            return config.compression_zstd_level
        case _:
            return None
