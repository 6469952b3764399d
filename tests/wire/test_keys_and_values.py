"""Tests of the quick way through a batch: it finds what the careful one finds, and refuses what that refuses."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.wire.batches import HEADER, HEADER_SIZE, LENGTH_OVERHEAD, BatchError, read_header
from quorumlog.wire.records import (
    Compression,
    Header,
    Record,
    build_batch,
    iterate_records,
    keys_and_values,
    record_slices,
    timestamp_delta,
    with_timestamp_delta,
)

TEXTS = st.none() | st.binary(max_size=200)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2).map(tuple)
CONTENTS = st.lists(st.tuples(TEXTS, TEXTS, HEADERS, st.integers(0, 2**40)), min_size=1, max_size=8)
MAX = 1 << 20
Contents = list[tuple[bytes | None, bytes | None, tuple[Header, ...], int]]


@settings(max_examples=50)
@given(CONTENTS, st.sampled_from(list(Compression)))
def test_it_finds_what_the_careful_way_finds(contents: Contents, compression: Compression) -> None:
    records = [
        Record(offset=100 * number, timestamp=timestamp, key=key, value=value, headers=headers)
        for number, (key, value, headers, timestamp) in enumerate(contents)
    ]
    batch = build_batch(records, compression=compression)
    found = list(keys_and_values(batch, read_header(batch), decompressed_bytes_max=MAX))
    assert found == [(record.key, record.value) for record in records]


@settings(max_examples=50)
@given(CONTENTS)
def test_slices_are_the_records_themselves(contents: Contents) -> None:
    """Put together again, with other timestamps or the same, they are what they were."""
    records = [
        Record(offset=100 * number, timestamp=timestamp, key=key, value=value, headers=headers)
        for number, (key, value, headers, timestamp) in enumerate(contents)
    ]
    batch = build_batch(records)
    header, data = read_header(batch), batch[HEADER_SIZE:]
    slices = list(record_slices(data, header))
    assert [(delta, key, has_value) for delta, key, has_value, _, _ in slices] == [
        (record.offset, record.key, record.value is not None) for record in records
    ]
    assert b"".join(data[start:end] for _, _, _, start, end in slices) == data
    base = records[0].timestamp
    assert [timestamp_delta(data, start)[0] for _, _, _, start, _ in slices] == [record.timestamp - base for record in records]
    moved = [with_timestamp_delta(data, start, end, timestamp_delta(data, start)[0] + 9) for _, _, _, start, end in slices]
    shifted = header._replace(base_timestamp=base - 9, batch_length=len(b"".join(moved)) + HEADER_SIZE - LENGTH_OVERHEAD)
    again = iterate_records(HEADER.pack(*shifted) + b"".join(moved), shifted, decompressed_bytes_max=MAX)
    assert list(again) == records


@settings(max_examples=50)
@given(CONTENTS, st.data())
def test_damage_is_found_or_changes_nothing_but_content(contents: Contents, data: st.DataObject) -> None:
    """No other exception, no endless loop, and never more records than the header says."""
    batch = bytearray(build_batch([Record(offset=n, key=key, value=value) for n, (key, value, _, _) in enumerate(contents)]))
    at = data.draw(st.integers(HEADER_SIZE, len(batch) - 1))
    batch[at] = data.draw(st.integers(0, 255))
    header = read_header(batch)
    with contextlib.suppress(BatchError):
        assert len(list(record_slices(bytes(batch[HEADER_SIZE:]), header))) == len(contents)
    with contextlib.suppress(BatchError):
        assert len(list(keys_and_values(batch, header, decompressed_bytes_max=MAX))) == len(contents)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_must_be_as_many_records_as_the_header_says(count: int) -> None:
    batch = build_batch([Record(offset=0, key=b"k", value=b"v"), Record(offset=1, key=b"k", value=None)])
    header = read_header(batch)._replace(record_count=count)
    for way in (keys_and_values, iterate_records):
        with pytest.raises(BatchError):
            list(way(batch, header, decompressed_bytes_max=MAX))
    with pytest.raises(BatchError):
        list(record_slices(batch[HEADER_SIZE:], header))
