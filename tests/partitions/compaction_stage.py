"""What the tests of compaction stand on: keyed batches, a pass over a log, what is left of it, and the last value of each key."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.cleaner import FilesOfDisk, clean
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog
from quorumlog.partitions.compaction import Cleaning
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.scan import DamagedBatch
from quorumlog.wire.batches import BatchHeader, iterate_headers
from quorumlog.wire.compression import Compression
from quorumlog.wire.records import Record, build_batch, iterate_records
from tests.partitions.stage import TINY, Host, stored

COMPACT = replace(TINY, cleanup_policy="compact", min_cleanable_dirty_ratio=0.0)
Pair = tuple[bytes, bytes | None]


def keyed(pairs: Sequence[Pair], *, timestamp: int = 1000, compression: Compression = Compression.NONE, **producer: int) -> bytes:
    """What a producer sends."""
    records = [Record(i, timestamp + i, key, value, (("n", b"%d" % i),)) for i, (key, value) in enumerate(pairs)]
    return build_batch(records, compression=compression, **producer)


def put(partition: Partition, pairs: Sequence[Pair], *, wall_ms: int = 1000, **how: int) -> int:
    """Append as a client does; the base offset."""
    batch = keyed(pairs, **how)  # type: ignore[arg-type]
    return partition.append(batch, acks=1, now=0.0, wall_ms=wall_ms).base_offset


def compact(
    partition: Partition,
    host: Host,
    *,
    wall_ms: int = 1000,
    map_bytes: int = 1 << 20,
    between: Callable[[], None] = lambda: None,
    unfinished: Callable[[], None] = lambda: None,
) -> CleanedLog | None:
    """One pass, with `between` done at every pause, `unfinished` in the middle of each swap.

    None if the log changed under it, or is damaged.
    """
    host.store.sync()
    cleaning = partition.begin_cleaning(wall_ms, map_bytes=map_bytes, map_load=0.9)
    try:
        return _run(partition, host, cleaning, wall_ms, between, unfinished)
    except DamagedBatch as bad:
        partition.cleaning_met_damage(cleaning, bad)
        partition.abandon_cleaning()
        return None


def _run(
    partition: Partition,
    host: Host,
    cleaning: Cleaning,
    wall_ms: int,
    between: Callable[[], None],
    unfinished: Callable[[], None],
) -> CleanedLog | None:
    for step in clean(cleaning.job, FilesOfDisk(host.disk)):
        between()
        match step:
            case CleanedGroup():
                finish = partition.swap_in(cleaning, step)
                if finish is None:
                    partition.abandon_cleaning()
                    return None
                unfinished()
                finish()
            case CleanedLog():
                partition.end_cleaning(cleaning, step, wall_ms)
                return step
    raise AssertionError("a pass ends with what it did")


def close_segment(partition: Partition, host: Host, *, wall_ms: int = 1000) -> None:
    """Let all that was written be compacted."""
    if partition._log.active.size:
        partition._log.roll(wall_ms)
    host.flush(partition)


def headers(partition: Partition) -> list[BatchHeader]:
    return [header for _, _, data in stored(partition) for _, header in iterate_headers(data)]


def records(partition: Partition) -> list[Record]:
    """All that is left."""
    return [
        record
        for _, _, data in stored(partition)
        for _, header in iterate_headers(data)
        if not header.is_control
        for record in iterate_records(data, header, decompressed_bytes_max=1 << 20)
    ]


def last_values(found: Iterable[Record]) -> dict[bytes, bytes]:
    """What a reader from the beginning ends with."""
    values: dict[bytes, bytes] = {}
    for record in found:
        assert record.key is not None
        if record.value is None:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
    return values


def with_config(**settings: object) -> TopicConfig:
    return replace(COMPACT, **settings)  # type: ignore[arg-type]
