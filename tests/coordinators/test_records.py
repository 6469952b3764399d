"""Tests of the records of offsets and classic groups: bytes laid out by hand after Kafka's schema, each version, and damage."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.coordinators.codec import CorruptRecord, decode_record, encode_record
from quorumlog.coordinators.records import CommittedOffset, GroupMetadata, GroupState, MemberMetadata, OffsetCommit
from quorumlog.coordinators.results import LogRecord

OFFSET_KEY = bytes.fromhex("0001 0002 6731 0003 746f70 00000007")
GROUP_KEY = bytes.fromhex("0002 0002 6731")
STAMP = 1_700_000_000_000
STAMP_BYTES = struct.pack(">q", STAMP)

# Written by Apache Kafka 4.3.1 for a consumer with group.instance.id inst-1, an empty group, and an offset with its topic's id.
KAFKA_GROUP_KEY = bytes.fromhex("0002000f62696c6c696e67332d737461746963")
KAFKA_GROUP = bytes.fromhex(
    "00030008636f6e73756d657200000001000572616e6765002b696e73742d312d31613866343938652d346165312d34663063"
    "2d613862332d316162643830336538666161000001a2086e357800000001002b696e73742d312d31613866343938652d3461"
    "65312d346630632d613862332d3161626438303365386661610006696e73742d310003617070000a2f3132372e302e302e31"
    "000493e00000afc80000001c00030000000100066f72646572730000000000000000ffffffff00000000001a000000000001"
    "00066f7264657273000000010000000000000000"
)
KAFKA_EMPTY_KEY = bytes.fromhex("0002000862696c6c696e6733")
KAFKA_EMPTY = bytes.fromhex("00030008636f6e73756d657200000002ffffffff000001a2086e298100000000")
KAFKA_OFFSET_KEY = bytes.fromhex("0001000862696c6c696e673300066f726465727300000000")
KAFKA_OFFSET = bytes.fromhex(
    "0004000000000000000affffffff0968616c6620c3a900000001a2086e297b01001080d853dca60b4ec3b133a789379e363d"
)

TEXTS = st.text(max_size=20)
INT32S = st.integers(-(2**31), 2**31 - 1)
INT64S = st.integers(-(2**63), 2**63 - 1)
COMMITS = st.builds(
    OffsetCommit, TEXTS, TEXTS, INT32S, st.none() | st.builds(CommittedOffset, INT64S, INT32S, TEXTS, INT64S, st.just(-1))
)
MEMBERS = st.builds(
    MemberMetadata,
    member_id=TEXTS,
    instance_id=st.none() | TEXTS,
    client_id=TEXTS,
    client_host=TEXTS,
    rebalance_timeout_ms=st.integers(0, 2**31 - 1),
    session_timeout_ms=INT32S,
    subscription=st.binary(max_size=40),
    assignment=st.binary(max_size=40),
)
STATES = st.builds(
    GroupState, TEXTS, INT32S, st.none() | TEXTS, st.none() | TEXTS, INT64S, st.lists(MEMBERS, max_size=3).map(tuple)
)
GROUPS = st.builds(GroupMetadata, TEXTS, st.none() | STATES)


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def compact(value: str) -> bytes:
    return bytes([len(value) + 1]) + value.encode()


def member_bytes(version: int) -> bytes:
    pack = compact if version >= 4 else text
    size = (lambda raw: bytes([len(raw) + 1])) if version >= 4 else (lambda raw: struct.pack(">i", len(raw)))
    parts = [pack("m1"), pack("inst") if version >= 3 else b"", pack("client"), pack("/1.2.3.4")]
    parts += [struct.pack(">i", 60_000) if version >= 1 else b"", struct.pack(">i", 45_000)]
    parts += [size(b"sub"), b"sub", size(b"assign"), b"assign", b"\x00" if version >= 4 else b""]
    return b"".join(parts)


def group_bytes(version: int) -> bytes:
    pack = compact if version >= 4 else text
    parts = [struct.pack(">h", version), pack("consumer"), struct.pack(">i", 5), pack("range"), pack("m1")]
    parts += [STAMP_BYTES if version >= 2 else b"", b"\x02" if version >= 4 else struct.pack(">i", 1), member_bytes(version)]
    parts.append(bytes.fromhex("01 07 02 ffff") if version >= 4 else b"")  # one tagged field that nobody knows
    return b"".join(parts)


def group_read(version: int) -> GroupState:
    member = MemberMetadata(
        member_id="m1",
        instance_id="inst" if version >= 3 else None,
        client_id="client",
        client_host="/1.2.3.4",
        rebalance_timeout_ms=60_000 if version >= 1 else 45_000,
        session_timeout_ms=45_000,
        subscription=b"sub",
        assignment=b"assign",
    )
    return GroupState("consumer", 5, "range", "m1", STAMP if version >= 2 else -1, (member,))


def test_an_offset_is_written_as_kafka_writes_it() -> None:
    """Key type 1 and value version 3, byte by byte."""
    record = encode_record(OffsetCommit("g1", "top", 7, CommittedOffset(9, 4, "note", STAMP, -1)))
    assert record.key == OFFSET_KEY
    assert record.value == bytes.fromhex("0003 0000000000000009 00000004 0004 6e6f7465") + STAMP_BYTES


def test_an_offset_with_an_end_of_its_own_is_written_as_version_1() -> None:
    """Only version 1 has a place for the time of expiry."""
    committed = CommittedOffset(9, -1, "", STAMP, STAMP + 1)
    record = encode_record(OffsetCommit("g1", "top", 7, committed))
    assert record.value == bytes.fromhex("0001 0000000000000009 0000") + STAMP_BYTES + struct.pack(">q", STAMP + 1)
    assert decode_record(record.key, record.value) == OffsetCommit("g1", "top", 7, committed)


@pytest.mark.parametrize(
    ("value", "leader_epoch", "expires"),
    [
        (bytes.fromhex("0000 0000000000000009 0001 78") + STAMP_BYTES, -1, -1),
        (bytes.fromhex("0001 0000000000000009 0001 78") + STAMP_BYTES + STAMP_BYTES, -1, STAMP),
        (bytes.fromhex("0002 0000000000000009 0001 78") + STAMP_BYTES, -1, -1),
        (bytes.fromhex("0003 0000000000000009 00000002 0001 78") + STAMP_BYTES, 2, -1),
        (bytes.fromhex("0004 0000000000000009 00000002 02 78") + STAMP_BYTES + b"\x00", 2, -1),
        (bytes.fromhex("0004 0000000000000009 00000002 02 78") + STAMP_BYTES + b"\x01\x00\x10" + bytes(16), 2, -1),
    ],
)
@pytest.mark.parametrize("key_type", [0, 1])
def test_each_version_of_an_offset_is_read(key_type: int, value: bytes, leader_epoch: int, expires: int) -> None:
    """The last one has a topic id as its tag, as brokers after 4.0 may write it."""
    key = struct.pack(">h", key_type) + OFFSET_KEY[2:]
    expected = CommittedOffset(9, leader_epoch, "x", STAMP, expires)
    assert decode_record(key, value) == OffsetCommit("g1", "top", 7, expected)


def test_a_group_is_written_as_kafka_writes_it() -> None:
    """Key type 2 and value version 3, byte by byte."""
    record = encode_record(GroupMetadata("g1", group_read(3)))
    assert (record.key, record.value) == (GROUP_KEY, group_bytes(3))


@pytest.mark.parametrize(("key", "value"), [(KAFKA_GROUP_KEY, KAFKA_GROUP), (KAFKA_EMPTY_KEY, KAFKA_EMPTY)])
def test_a_group_of_kafka_is_read_and_written_alike(key: bytes, value: bytes) -> None:
    """Byte for byte what the real broker has in its log."""
    record = decode_record(key, value)
    assert isinstance(record, GroupMetadata)
    assert record.state is not None
    assert record.state.protocol_type == "consumer"
    assert encode_record(record) == LogRecord(key, value)


def test_an_offset_of_kafka_is_read() -> None:
    """Kafka 4.3 writes version 4 with the topic's id as a tag; ours can be read by every broker that reads version 3."""
    record = decode_record(KAFKA_OFFSET_KEY, KAFKA_OFFSET)
    assert isinstance(record, OffsetCommit)
    assert (record.topic, record.partition) == ("orders", 0)
    assert record.committed is not None
    assert (record.committed.offset, record.committed.leader_epoch) == (10, -1)
    assert record.committed.metadata.startswith("half é")


def test_an_empty_group_has_nulls() -> None:
    """No protocol, no leader: length -1."""
    record = encode_record(GroupMetadata("g1", GroupState("consumer", 6, None, None, STAMP, ())))
    assert record.value == bytes.fromhex("0003 0008") + b"consumer" + bytes.fromhex("00000006 ffff ffff") + STAMP_BYTES + bytes(4)


@pytest.mark.parametrize("version", range(5))
def test_each_version_of_a_group_is_read(version: int) -> None:
    """Fields come and go with the version; a missing rebalance timeout is the session timeout."""
    assert decode_record(GROUP_KEY, group_bytes(version)) == GroupMetadata("g1", group_read(version))


@pytest.mark.parametrize("key", [OFFSET_KEY, GROUP_KEY])
def test_a_tombstone_has_no_value(key: bytes) -> None:
    """Key alone, both ways."""
    record = decode_record(key, None)
    assert record is not None
    assert encode_record(record).key == key
    assert encode_record(record).value is None


@settings(max_examples=60)
@given(COMMITS | GROUPS)
def test_what_is_written_is_read(record: OffsetCommit | GroupMetadata) -> None:
    """Any record survives the way to the log and back."""
    written = encode_record(record)
    assert decode_record(written.key, written.value) == record


@pytest.mark.parametrize(
    ("key", "value"),
    [(OFFSET_KEY, bytes.fromhex("0003 0000000000000009 00000004 0004 6e6f7465") + STAMP_BYTES)]
    + [(GROUP_KEY, group_bytes(version)) for version in range(5)],
)
def test_a_cut_record_is_corrupt(key: bytes, value: bytes) -> None:
    """At each byte of key and value, and with a byte too many."""
    for end in range(2, len(key)):
        with pytest.raises(CorruptRecord):
            decode_record(key[:end], value)
    for cut in [value[:end] for end in range(len(value))] + [value + b"\x00"]:
        with pytest.raises(CorruptRecord):
            decode_record(key, cut)


@settings(max_examples=200)
@given(st.sampled_from([0, 1, 2]), st.binary(max_size=30), st.binary(max_size=40), st.integers(0, 4))
def test_garbage_is_corrupt_and_nothing_worse(key_type: int, key: bytes, value: bytes, version: int) -> None:
    """Whatever the bytes, it is a record or CorruptRecord."""
    for raw_key in (struct.pack(">h", key_type) + key, OFFSET_KEY, GROUP_KEY):
        try:
            decode_record(raw_key, struct.pack(">h", version) + value)
        except CorruptRecord:
            continue


@pytest.mark.parametrize("key", [OFFSET_KEY, GROUP_KEY])
@pytest.mark.parametrize("version", [-1, 5])
def test_an_unknown_version_is_corrupt(key: bytes, version: int) -> None:
    """A newer value cannot be guessed."""
    with pytest.raises(CorruptRecord, match=f"version {version}"):
        decode_record(key, struct.pack(">h", version) + bytes(40))


def test_a_huge_count_of_members_is_corrupt() -> None:
    """It is held against the bytes that are left before anything is made of it."""
    with pytest.raises(CorruptRecord, match="members claims"):
        decode_record(GROUP_KEY, group_bytes(0)[: 2 + 10 + 4 + 7 + 4] + b"\x7f\xff\xff\xff")


def test_an_unknown_kind_is_left_to_newer_nodes() -> None:
    """None, not an error."""
    assert decode_record(bytes.fromhex("0063 0000"), b"\x00\x00") is None
