"""Aim: single records are read and written as other libraries do, and a damaged or lying batch gives a BatchError."""

import contextlib
import io
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kio.records import schema as kio_records
from kio.records.writers import write_new_batch

from quorumlog.wire.batches import HEADER, HEADER_SIZE, BatchError, BatchHeader, check_crc, read_header
from quorumlog.wire.compression import Compression
from quorumlog.wire.records import Record, build_batch, iterate_records, sealed
from tests.wire.mutations import peak_bytes

MEGABYTE = 2**20
blobs = st.none() | st.binary(max_size=50)
header_lists = st.lists(st.tuples(st.text(max_size=8), blobs), max_size=3).map(tuple)
TIMES = st.integers(0, 2**41)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    """Offsets rise, with gaps as compaction leaves them."""
    gaps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    base_offset = draw(st.integers(0, 2**60))
    fields = st.builds(Record, timestamp=TIMES, key=blobs, value=blobs, headers=header_lists)
    return [replace(draw(fields), offset=base_offset + sum(gaps[:index])) for index in range(len(gaps))]


def read(batch: bytes, *, bytes_max: int = MEGABYTE) -> list[Record]:
    return list(iterate_records(batch, read_header(batch), decompressed_bytes_max=bytes_max))


@given(record_lists(), st.sampled_from(Compression))
def test_round_trip(records: list[Record], compression: Compression) -> None:
    """What is built is sound by its header and checksum, and reads as it was."""
    batch = build_batch(records, compression=compression, leader_epoch=3, producer_id=7, producer_epoch=1, base_sequence=5)
    header = read_header(batch)
    check_crc(batch, header)
    assert (header.size, header.record_count, header.leader_epoch) == (len(batch), len(records), 3)
    assert (header.base_offset, header.last_offset) == (records[0].offset, records[-1].offset)
    assert read(batch) == records
    assert read(batch + b"the next batch") == records


@given(record_lists(), st.booleans(), st.sampled_from([Compression.NONE, Compression.GZIP]))
def test_kafka_python_reads_ours(records: list[Record], is_transactional: bool, compression: Compression) -> None:
    """The twin finds the same fields in the header and the same records."""
    batch = build_batch(records, compression=compression, producer_id=9, producer_epoch=2, is_transactional=is_transactional)
    twin, header = DefaultRecordBatch(batch), read_header(batch)
    assert twin.validate_crc()
    assert_same_header(header, twin)
    assert [
        Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers)) for record in twin
    ] == records


def assert_same_header(header: BatchHeader, twin: DefaultRecordBatch) -> None:
    assert header.base_offset == twin.base_offset
    assert header.leader_epoch == twin.leader_epoch
    assert header.crc == twin.crc
    assert header.attributes == twin.attributes
    assert (header.last_offset, header.next_offset) == (twin.last_offset, twin.next_offset)
    assert (header.compression, header.is_transactional, header.is_control) == (
        twin.compression_type,
        twin.is_transactional,
        twin.is_control_batch,
    )
    assert (header.base_timestamp, header.max_timestamp) == (twin.first_timestamp, twin.max_timestamp)
    assert (header.producer_id, header.producer_epoch) == (twin.producer_id, twin.producer_epoch)
    assert (header.base_sequence, header.last_sequence) == (twin.base_sequence, twin.last_sequence)
    assert (header.record_count, header.size) == (twin.records_count, twin.size_in_bytes)


@given(st.lists(st.tuples(TIMES, blobs, blobs, header_lists), min_size=1, max_size=6), st.sampled_from([0, 1]))
def test_ours_reads_kafka_python(fields: list[Any], compression: int) -> None:
    """A producer's batch, as its library builds it."""
    builder = DefaultRecordBatchBuilder(2, compression, True, 11, 4, 2**31 - 2, 10**6)
    for offset, (timestamp, key, value, headers) in enumerate(fields):
        builder.append(offset, timestamp, key, value, list(headers))
    batch = bytes(builder.build())
    header = read_header(batch)
    check_crc(batch, header)
    assert_same_header(header, DefaultRecordBatch(batch))
    assert read(batch) == [Record(offset, *rest) for offset, rest in enumerate(fields)]


@given(record_lists())
def test_ours_is_byte_for_byte_kio(records: list[Record]) -> None:
    """kio's writer makes the same batch of the same records."""
    records = [replace(record, timestamp=record.timestamp // 1000 * 1000) for record in records]
    buffer = io.BytesIO()
    write_new_batch(buffer, kio_batch(records))
    ours = build_batch(records, leader_epoch=6, producer_id=5, producer_epoch=1, base_sequence=2)
    assert ours == buffer.getvalue()


def kio_batch(records: list[Record]) -> Any:
    return kio_records.NewRecordBatch(
        producer_id=5,
        producer_epoch=1,
        partition_leader_epoch=6,
        base_sequence=2,
        attributes=0,
        records=tuple(
            kio_records.Record(
                attributes=0,
                timestamp=datetime.fromtimestamp(record.timestamp // 1000, tz=UTC),
                offset=record.offset,
                key=record.key,
                value=record.value,
                headers=tuple(kio_records.RecordHeader(key=key.encode(), value=value) for key, value in record.headers),
            )
            for record in records
        ),
    )


def test_log_append_time_is_the_time_of_all() -> None:
    """The broker's timestamp wins over the producer's."""
    batch = build_batch([Record(0, 5), Record(1, 6)], log_append_time=99)
    assert [record.timestamp for record in read(batch)] == [99, 99]
    assert DefaultRecordBatch(batch).timestamp_type == 1


def test_header_keys_that_are_no_text_survive() -> None:
    """Nobody checks a header's key when it is appended, so reading must not fail on one."""
    batch = build_batch([Record(0, 0, headers=(("name", b"v"),))])
    broken = sealed(batch.replace(b"name", b"n\xffme"))
    (record,) = read(broken)
    assert build_batch([record]) == broken


@pytest.mark.parametrize("compression", Compression)
def test_too_many_bytes_are_refused(compression: Compression) -> None:
    """The bound holds for every compression."""
    batch = build_batch([Record(0, 0, value=bytes(10_000))], compression=compression)
    assert len(read(batch, bytes_max=10_100)) == 1
    with pytest.raises(BatchError):
        read(batch, bytes_max=10_000)


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 2**31 - 1])
def test_a_wrong_record_count_is_refused(count: int) -> None:
    """Fewer or more records than the header says."""
    batch = build_batch([Record(0), Record(1)])
    header = read_header(batch)._replace(record_count=count)
    with pytest.raises(BatchError, match="batch at offset 0: "):
        list(iterate_records(batch, header, decompressed_bytes_max=MEGABYTE))


def test_an_offset_outside_the_batch_is_refused() -> None:
    """A record may not lie behind the last offset of its batch."""
    batch = build_batch([Record(10), Record(12)])
    header = read_header(batch)._replace(last_offset_delta=1)
    with pytest.raises(BatchError, match="offset delta 2, allowed are 0 to 1"):
        list(iterate_records(batch, header, decompressed_bytes_max=MEGABYTE))


def test_a_cut_batch_is_refused() -> None:
    """The header says how long it is."""
    batch = build_batch([Record(0)])
    with pytest.raises(BatchError, match="only"):
        list(iterate_records(batch[:-1], read_header(batch), decompressed_bytes_max=MEGABYTE))


@pytest.mark.parametrize("seed", range(300))
def test_damage_is_refused_or_read(seed: int) -> None:
    """Flipped bytes behind a checksum that matches them: a BatchError or records, in little memory."""
    random = Random(seed)
    records = [Record(i, i, b"key", b"value" * i, (("h", b"x"),)) for i in range(5)]
    batch = bytearray(build_batch(records, compression=Compression(seed % 5)))
    for _ in range(random.randrange(1, 4)):
        batch[random.randrange(HEADER_SIZE, len(batch))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    damaged = sealed(bytes(batch))

    def read_damaged() -> None:
        with contextlib.suppress(BatchError):
            assert len(read(damaged)) == 5

    read_damaged()
    assert peak_bytes(read_damaged) < 3 * MEGABYTE


def test_hostile_lengths_inside_a_record() -> None:
    """A key of 2^31 bytes, or as many headers, claimed by a few bytes."""
    for fields in (b"\x00\x00\x00\xfe\xff\xff\xff\x0f", b"\x00\x00\x00\x01\x01\xfe\xff\xff\xff\x0f", b"\x00\x00\x00\x03\x01\x00"):
        payload = bytes([2 * len(fields)]) + fields
        header = BatchHeader(0, HEADER_SIZE - 12 + len(payload), 0, 2, 0, 0, 0, 0, 0, -1, -1, -1, 1)
        with pytest.raises(BatchError):
            read(sealed(HEADER.pack(*header) + payload))
