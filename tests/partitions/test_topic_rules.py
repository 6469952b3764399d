"""What topics demand of records, and how batches are stored: seen at the partition that takes them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.rolling import roll_after_ms, segment_bytes_max
from quorumlog.partitions.segment import Segment
from quorumlog.partitions.topic_rules import COMPRESSIONS, RecordsRefused, check_records, recompressed
from quorumlog.wire.batches import HEADER_SIZE, check_crc, read_header
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.records import Record, build_batch, iterate_records, sealed

from .stage import TP, Host, batch_of, changed, joined

HOUR_MS = 3_600_000
NOW = 10 * HOUR_MS
BYTES_MAX = 1 << 20


def checked(batch: bytes, config: TopicConfig, *, tp: TopicPartition = TP) -> None:
    check_records(tp, batch, read_header(batch), config, wall_ms=NOW, decompressed_bytes_max=BYTES_MAX)


def refusal_of(batch: bytes, config: TopicConfig) -> tuple[ErrorCode, list[int]]:
    with pytest.raises(RecordsRefused) as refused:
        checked(batch, config)
    return refused.value.code, [error.batch_index for error in refused.value.record_errors]


# --- keys


@pytest.mark.parametrize("compression", list(Compression))
def test_compacted_topics_take_no_record_without_a_key(compression: Compression) -> None:
    """The answer names each such record. An empty key is one."""
    keys = [b"a", None, b"", None]
    batch = build_batch(
        [Record(offset=i, timestamp=NOW, key=key, value=b"v") for i, key in enumerate(keys)], compression=compression
    )
    for policy in ("compact", "compact,delete"):
        assert refusal_of(batch, TopicConfig(cleanup_policy=policy)) == (ErrorCode.invalid_record, [1, 3])
    checked(batch, TopicConfig())


def test_what_coordinators_write_is_not_read_again() -> None:
    """Their records have keys; the commits of thousands of offsets pass here."""
    checked(batch_of([b"v"]), TopicConfig(cleanup_policy="compact"), tp=TopicPartition("__consumer_offsets", 3))


def test_records_that_cannot_be_read_are_refused() -> None:
    """A compacted topic cannot tell whether they have keys."""
    batch = build_batch([Record(key=b"k", value=b"v" * 100)], compression=Compression.ZSTD)
    torn = changed(batch[:-20], batch_length=len(batch) - 20 - 12)
    bomb = build_batch([Record(key=b"k", value=bytes(BYTES_MAX))], compression=Compression.GZIP)
    endless = build_batch([Record(key=b"k", value=bytes(BYTES_MAX // 2))])
    endless = sealed(endless[:HEADER_SIZE] + b"\xff" * (len(endless) - HEADER_SIZE))
    for bad in (torn, bomb, endless):
        with pytest.raises(ClusterError) as refused:
            checked(bad, TopicConfig(cleanup_policy="compact"))
        assert refused.value.code is ErrorCode.invalid_record


def test_the_records_that_are_looked_at_are_bounded() -> None:
    """A megabyte of zstd can hold millions of them. A topic that demands nothing takes them all."""
    batch = build_batch([Record(key=b"k", value=b"v")])
    header = read_header(batch)._replace(record_count=500_001)
    with pytest.raises(ClusterError, match="at most 500000"):
        check_records(TP, batch, header, TopicConfig(cleanup_policy="compact"), wall_ms=NOW, decompressed_bytes_max=BYTES_MAX)
    check_records(TP, batch, header, TopicConfig(), wall_ms=NOW, decompressed_bytes_max=BYTES_MAX)


# --- timestamps


def test_timestamps_too_far_from_the_clock_are_refused() -> None:
    """Each bound belongs to what is allowed; records without a time pass; with LogAppendTime all do."""
    times = [NOW + HOUR_MS, NOW + HOUR_MS + 1, -1, NOW - 500, NOW - 501]
    batch = build_batch([Record(offset=i, timestamp=time, value=b"v") for i, time in enumerate(times)])
    config = TopicConfig(message_timestamp_before_max_ms=500)
    assert refusal_of(batch, config) == (ErrorCode.invalid_timestamp, [1, 4])
    assert refusal_of(batch, TopicConfig()) == (ErrorCode.invalid_timestamp, [1])
    checked(batch, replace(config, message_timestamp_type="LogAppendTime"))


# --- compression


@given(
    values=st.lists(st.binary(max_size=50), min_size=1, max_size=5),
    came=st.sampled_from(list(Compression)),
    wanted=st.sampled_from(sorted(COMPRESSIONS)),
)
def test_batches_are_stored_in_the_topics_compression(values: list[bytes], came: Compression, wanted: str) -> None:
    """The same records of the same producer, under a checksum that holds; what comes right stays byte for byte."""
    records = [Record(offset=i, timestamp=NOW + i, key=b"k", value=value) for i, value in enumerate(values)]
    batch = build_batch(records, compression=came, producer_id=7, producer_epoch=1, base_sequence=3)
    config = TopicConfig(compression_type=wanted)
    stored, header = recompressed(TP, batch, read_header(batch), config, decompressed_bytes_max=BYTES_MAX)
    assert header == read_header(stored) and header.compression == COMPRESSIONS[wanted]
    check_crc(stored, header)
    assert list(iterate_records(stored, header, decompressed_bytes_max=BYTES_MAX)) == records
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 3)
    assert came != COMPRESSIONS[wanted] or stored is batch


def test_the_level_is_the_topics() -> None:
    """Little work and much do not come to the same bytes; both can be read, at the ends of what is allowed."""
    value = b"".join(str(i * i).encode() for i in range(5_000))
    batch = build_batch([Record(value=value)])
    for name, least, most in (("gzip", 1, 9), ("lz4", 1, 17), ("zstd", -131072, 22)):
        stored = []
        for level in (least, most):
            config = TopicConfig(**{"compression_type": name, f"compression_{name}_level": level})  # type: ignore[arg-type]
            data, header = recompressed(TP, batch, read_header(batch), config, decompressed_bytes_max=BYTES_MAX)
            assert [one.value for one in iterate_records(data, header, decompressed_bytes_max=BYTES_MAX)] == [value]
            stored.append(data)
        assert stored[0] != stored[1]


def test_a_batch_that_grows_over_the_limit_is_refused() -> None:
    """It was small enough as it came."""
    batch = build_batch([Record(value=bytes(10_000))], compression=Compression.ZSTD)
    config = TopicConfig(compression_type="uncompressed", max_message_bytes=1_000)
    with pytest.raises(ClusterError) as refused:
        recompressed(TP, batch, read_header(batch), config, decompressed_bytes_max=BYTES_MAX)
    assert refused.value.code is ErrorCode.message_too_large


@pytest.mark.parametrize("timestamp_type", ["CreateTime", "LogAppendTime"])
def test_a_partition_hands_out_what_it_recompressed(timestamp_type: str) -> None:
    """With its offsets, its epoch, and the append's time where that is the topic's."""
    host = Host(config=TopicConfig(compression_type="lz4", message_timestamp_type=timestamp_type))
    partition = host.leader(leader_epoch=2)
    for _ in range(2):
        partition.append(batch_of([b"x" * 500, b"y"]), acks=1, now=0.0, wall_ms=5_000)
    host.flush(partition)
    data = joined(partition.read(2, max_bytes=1 << 20).buffers)
    header = read_header(data)
    check_crc(data, header)
    assert (header.base_offset, header.leader_epoch, header.compression) == (2, 2, Compression.LZ4)
    records = list(iterate_records(data, header, decompressed_bytes_max=BYTES_MAX))
    times = [1000, 1001] if timestamp_type == "CreateTime" else [5_000, 5_000]
    assert [(record.offset, record.timestamp, record.value) for record in records] == [
        (2, times[0], b"x" * 500),
        (3, times[1], b"y"),
    ]
    assert header.size < HEADER_SIZE + 200


# --- rolling


def test_a_full_index_ends_a_segment() -> None:
    """8 bytes an entry, an entry for each interval."""
    assert segment_bytes_max(TopicConfig()) == 1 << 30
    assert segment_bytes_max(TopicConfig(segment_index_bytes=800, index_interval_bytes=100)) == 10_000
    assert segment_bytes_max(TopicConfig(segment_index_bytes=800, index_interval_bytes=0)) == 1 << 30


def test_jitter_spreads_the_ends_of_segments() -> None:
    """Up to so much earlier, another part for each segment, and the same one each time."""
    host = Host()
    segments = [Segment(host.disk, "d", base, created_ms=0) for base in range(0, 1000, 10)]
    ages = [roll_after_ms(segment, TopicConfig(segment_ms=1_000, segment_jitter_ms=300), "d") for segment in segments]
    assert all(700 < age <= 1_000 for age in ages) and len(set(ages)) > 50
    assert ages == [roll_after_ms(segment, TopicConfig(segment_ms=1_000, segment_jitter_ms=300), "d") for segment in segments]
    assert roll_after_ms(segments[0], TopicConfig(segment_ms=1_000), "d") == 1_000
