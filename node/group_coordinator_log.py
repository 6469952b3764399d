"""Between a shard's records and its partition's batches: what is logged, and what is read when a shard is loaded."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from quorumlog.coordinators.results import LogRecord, Writer
from quorumlog.host.ports import Buffer
from quorumlog.wire.batches import BatchError, BatchHeader, check_crc, iterate_headers
from quorumlog.wire.markers import read_marker
from quorumlog.wire.records import Record, build_batch, keys_and_values

BATCH_OVERHEAD = 61
RECORD_OVERHEAD = 40  # the most that lengths, deltas and the rest of a record can take
DECOMPRESSED_BYTES_MAX = 256 << 20  # of one batch: we write none that is compressed, an operator's setting may


def record_bytes_max(batch_bytes_max: int) -> int:
    """Of key and value of one record together, so that it fits into a batch of its own."""
    return batch_bytes_max - BATCH_OVERHEAD - RECORD_OVERHEAD


def batches_of(records: Sequence[LogRecord], *, wall_ms: int, bytes_max: int, writer: Writer | None = None) -> Iterator[bytes]:
    """The records in order, in as few batches as fit. One that is too large by itself gets its own, to be refused."""
    chosen: list[Record] = []
    size = BATCH_OVERHEAD
    for record in records:
        record_size = RECORD_OVERHEAD + len(record.key) + len(record.value or b"")
        if chosen and size + record_size > bytes_max:
            yield _batch(chosen, writer)
            chosen, size = [], BATCH_OVERHEAD
        chosen.append(Record(offset=len(chosen), timestamp=wall_ms, key=record.key, value=record.value))
        size += record_size
    if chosen:
        yield _batch(chosen, writer)


def _batch(records: Sequence[Record], writer: Writer | None) -> bytes:
    if writer is None:
        return build_batch(records)
    return build_batch(records, producer_id=writer.producer_id, producer_epoch=writer.producer_epoch, is_transactional=True)


class Replayed(Protocol):
    """A shard that is being loaded."""

    def replay(self, key: bytes, value: bytes | None) -> None: ...
    def replay_for(self, producer_id: int, key: bytes, value: bytes | None) -> None: ...
    def replay_end(self, producer_id: int, *, is_commit: bool) -> None: ...


def replay_batches(buffers: Sequence[Buffer], shard: Replayed) -> None:
    """Replay a run of batches: plain records, those of transactions, and the ends of these. Raises BatchError."""
    for buffer in buffers:
        view = memoryview(buffer)
        for position, header in iterate_headers(view):
            batch = view[position : position + header.size]
            check_crc(batch, header)
            if header.is_control:
                if (marker := read_marker(batch, header)) is not None:
                    shard.replay_end(header.producer_id, is_commit=marker.is_commit)
            elif header.is_transactional:
                for key, value in _records(batch, header):
                    shard.replay_for(header.producer_id, key, value)
            else:
                replay = shard.replay
                for key, value in _records(batch, header):
                    replay(key, value)


def _records(batch: Buffer, header: BatchHeader) -> Iterator[tuple[bytes, bytes | None]]:
    for key, value in keys_and_values(batch, header, decompressed_bytes_max=DECOMPRESSED_BYTES_MAX):
        if key is None:
            raise BatchError(f"batch at offset {header.base_offset} has a record without a key")
        yield key, value
