"""Tests of the look for event ids in a batch: it finds what the careful way finds, and stands what is hostile."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.wire.batches import HEADER_SIZE, BatchError, read_header
from quorumlog.wire.encoding import unsigned_varint
from quorumlog.wire.event_ids import HEADERS_MAX, marked_records
from quorumlog.wire.records import Header, Record, build_batch, iterate_records

NAMES = st.sampled_from(["event-id", "event-id", "event-ie", "id", "", "x" * 70])
VALUES = st.none() | st.binary(max_size=3) | st.binary(min_size=64, max_size=70)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple)
TEXTS = st.none() | st.sampled_from([b"", b"\x10event-id", b"v" * 100])
CONTENTS = st.lists(st.tuples(TEXTS, TEXTS, HEADERS, st.integers(0, 2**40)), min_size=1, max_size=8)
Contents = list[tuple[bytes | None, bytes | None, tuple[Header, ...], int]]


def built(contents: Contents, step: int = 1) -> bytes:
    return build_batch([Record(step * n, time, key, value, headers) for n, (key, value, headers, time) in enumerate(contents)])


def id_by_hand(record: Record) -> bytes | None:
    """The last header of that name counts; an empty one is none."""
    values = [value for name, value in record.headers if name == "event-id"]
    return (values[-1] or None) if values else None


@settings(max_examples=100)
@given(CONTENTS, st.sampled_from([1, 100]))
def test_it_finds_what_the_careful_way_finds(contents: Contents, step: int) -> None:
    batch = built(contents, step)
    header, data = read_header(batch), batch[HEADER_SIZE:]
    marked = marked_records(data, header)
    careful = list(iterate_records(batch, header, decompressed_bytes_max=1 << 20))
    assert [(delta, event_id or None) for delta, event_id, _, _ in marked] == [(one.offset, id_by_hand(one)) for one in careful]
    assert b"".join(data[start:end] for _, _, start, end in marked) == data


@settings(max_examples=100)
@given(CONTENTS, st.data())
def test_damage_is_found_or_changes_nothing_but_content(contents: Contents, data: st.DataObject) -> None:
    """No other exception, no endless loop; offsets rise within the batch."""
    batch = bytearray(built(contents))
    at = data.draw(st.integers(HEADER_SIZE, len(batch) - 1))
    batch[at] = data.draw(st.integers(0, 255))
    header = read_header(batch)
    with contextlib.suppress(BatchError):
        deltas = [delta for delta, _, _, _ in marked_records(bytes(batch[HEADER_SIZE:]), header)]
        assert len(deltas) == len(contents)
        assert deltas == sorted(set(deltas))
        assert deltas[-1] <= header.last_offset_delta


def test_headers_without_end_are_not_read() -> None:
    """They may take nearly no room where they are compressed."""
    for count in (HEADERS_MAX + 1, -1, 2**40):
        zigzag = unsigned_varint(count << 1 if count >= 0 else 1)
        fields = b"\x00\x00\x00\x01\x01" + zigzag + b"\x00\x01" * min(abs(count), HEADERS_MAX + 1)
        data = unsigned_varint(len(fields) << 1) + fields
        header = read_header(built([(None, None, (), 0)]))
        with pytest.raises(BatchError, match="headers"):
            marked_records(data, header)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_must_be_as_many_records_as_the_header_says(count: int) -> None:
    batch = built([(b"k", b"v", (("event-id", b"1"),), 0), (b"k", None, (), 0)])
    with pytest.raises(BatchError):
        marked_records(batch[HEADER_SIZE:], read_header(batch)._replace(record_count=count))
