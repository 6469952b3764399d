"""Records, requests and replies survive the way to bytes and back; anything else is refused."""

import contextlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.metadata.codec import (
    CorruptRecord,
    decode_records,
    decode_reply,
    decode_request,
    encode_records,
    encode_reply,
    encode_request,
)
from quorumlog.metadata.records import PartitionChange, Record, ResourceKind
from quorumlog.metadata.requests import NewPartitions, Reply, Request
from quorumlog.proto import controller_pb2, metadata_pb2
from tests.metadata.shapes import any_of


@given(st.lists(any_of(Record), max_size=5).map(tuple))
def test_records_come_back_as_they_went(records: tuple[Record, ...]) -> None:
    """A batch of any records is the same after encoding and decoding."""
    assert decode_records(encode_records(records)) == records


@given(any_of(Request))
def test_requests_come_back_as_they_went(request: Request) -> None:
    """Any request is the same after encoding and decoding."""
    assert decode_request(encode_request(request)) == request


@given(any_of(Reply))
def test_replies_come_back_as_they_went(reply: Reply) -> None:
    """Any reply is the same after encoding and decoding."""
    assert decode_reply(encode_reply(reply)) == reply


def test_absent_and_empty_are_told_apart() -> None:
    """None means "as before" and () means "nobody": they must not become the same bytes."""
    unchanged = PartitionChange(UUID(int=1), 0, 1)
    emptied = PartitionChange(UUID(int=1), 0, 1, isr=())
    assert decode_records(encode_records((unchanged, emptied))) == (unchanged, emptied)
    assert NewPartitions("t", 1, ()) != NewPartitions("t", 1, None)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """Hostile bytes raise nothing but CorruptRecord."""
    for decode in (decode_records, decode_request, decode_reply):
        with contextlib.suppress(CorruptRecord):
            decode(data)


@given(st.lists(any_of(Record), min_size=1, max_size=3).map(tuple), st.data())
def test_damaged_batches_decode_or_are_refused(records: tuple[Record, ...], data: st.DataObject) -> None:
    """A batch with one byte changed raises nothing but CorruptRecord."""
    damaged = bytearray(encode_records(records))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CorruptRecord):
        decode_records(bytes(damaged))


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (metadata_pb2.Batch(records=[metadata_pb2.Record()]), "unknown here"),
        (
            metadata_pb2.Batch(records=[metadata_pb2.Record(remove_topic=metadata_pb2.RemoveTopic(topic_id=b"short"))]),
            "16",
        ),
        (metadata_pb2.Batch(records=[metadata_pb2.Record(partition_record=metadata_pb2.PartitionRecord())]), "lacks state"),
        (
            metadata_pb2.Batch(records=[metadata_pb2.Record(config_record=metadata_pb2.ConfigRecord(kind="planet"))]),
            "planet",
        ),
    ],
)
def test_what_is_wrong_is_named(batch: metadata_pb2.Batch, what: str) -> None:
    """An unknown kind, an id of the wrong length, a missing part, an unknown enum value: refused, and said."""
    with pytest.raises(CorruptRecord, match=what):
        decode_records(batch.SerializeToString())


def test_unknown_request_is_refused() -> None:
    """A request of a later version is refused rather than taken for an empty one."""
    with pytest.raises(CorruptRecord, match="unknown here"):
        decode_request(controller_pb2.ControllerRequest().SerializeToString())


def test_kinds_are_written_as_words() -> None:
    """The resource kind compares with, and is stored as, its plain word."""
    assert [str(kind) for kind in ResourceKind] == ["topic", "broker", "group"] == list(ResourceKind)
