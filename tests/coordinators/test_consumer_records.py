"""Records of consumer groups are, byte for byte, those of Apache Kafka: its 4.3.0 wrote the bytes that stand here."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.coordinators.codec import decode_record, encode_record
from quorumlog.coordinators.consumer_records import (
    ClassicMember,
    ClassicProtocol,
    ConsumerGroupMetadata,
    CurrentAssignment,
    GroupMember,
    PartitionMetadata,
    Position,
    Resolved,
    ResolvedRegex,
    Subscription,
    TargetAssignment,
    TargetEpoch,
)
from quorumlog.metadata.records import CorruptRecord

T1 = UUID("01020304-0506-0708-090a-0b0c0d0e0f10")
T2 = UUID("ffffffff-ffff-ffff-0000-000000000002")

KAFKA = {
    "group": (
        "0003000367c3a9",
        "000000000007010008fffffffffffffffb",
    ),
    "group_without_hash": (
        "0003000167",
        "00000000000700",
    ),
    "partition_metadata": (
        "0004000167",
        "0000020102030405060708090a0b0c0d0e0f10026100000003010000",
    ),
    "member": (
        "000500016700016d",
        "0000026902720263092f312e322e332e34030261026204782e2a000493e00672616e676500",
    ),
    "member_bare": (
        "000500016700016d",
        "000000000263010101ffffffff0000",
    ),
    "member_classic": (
        "000500016700016d",
        "0000000002630268020261010000000900010012010000afc8020672616e6765040102030000",
    ),
    "target_epoch": (
        "0006000167",
        "00000000000900",
    ),
    "target_epoch_4_3": (
        "0006000167",
        "00000000000901000800000000075bcd15",
    ),
    "target": (
        "000700016700016d",
        "0000030102030405060708090a0b0c0d0e0f100400000000000000010000000500ffffffffffffffff000000000000000202000000020000",
    ),
    "current": (
        "000800016700016d",
        "0000000000050000000401020102030405060708090a0b0c0d0e0f1003000000000000000101000903000000030000000502ffffffffff"
        "ffffff00000000000000020200000007010005020000000200",
    ),
    "current_4_0": (
        "000800016700016d",
        "0000000000050000000401020102030405060708090a0b0c0d0e0f10030000000000000001000100",
    ),
    "regex": (
        "00100001670003617c62",
        "00000302610262000000000000000b000000000000000c00",
    ),
}
CLASSIC = ClassicMember(45_000, (ClassicProtocol("range", b"\1\2\3"),))
FULL = Subscription("i", "r", "c", "/1.2.3.4", ("a", "b"), "x.*", 300_000, "range")
RECORDS = {
    "group": ConsumerGroupMetadata("g\u00e9", 7, -5),
    "group_without_hash": ConsumerGroupMetadata("g", 7),
    "partition_metadata": PartitionMetadata("g", exists=True),
    "member": GroupMember("g", "m", FULL),
    "member_bare": GroupMember("g", "m", Subscription(client_id="c")),
    "member_classic": GroupMember(
        "g", "m", Subscription(client_id="c", client_host="h", topic_names=("a",), rebalance_timeout_ms=9, classic=CLASSIC)
    ),
    "target_epoch": TargetEpoch("g", 9),
    "target_epoch_4_3": TargetEpoch("g", 9),
    "target": TargetAssignment("g", "m", {T1: (0, 1, 5), T2: (2,)}),
    "current": CurrentAssignment("g", "m", Position(5, 4, 1, {T1: {0: 3, 1: 5}}, {T2: {7: 2}})),
    "current_4_0": CurrentAssignment("g", "m", Position(5, 4, 1, {T1: {0: 5, 1: 5}}, {})),
    "regex": ResolvedRegex("g", "a|b", Resolved(("a", "b"), 11, 12)),
}
READ_ONLY = ("partition_metadata", "target_epoch_4_3", "current_4_0")
"""Of which more was written than we keep, or less than we would write."""


@pytest.mark.parametrize("name", KAFKA)
def test_kafkas_bytes_are_read(name: str) -> None:
    key, value = (bytes.fromhex(part) for part in KAFKA[name])
    assert decode_record(key, value) == RECORDS[name]


@pytest.mark.parametrize("name", [name for name in KAFKA if name not in READ_ONLY])
def test_kafkas_bytes_are_written(name: str) -> None:
    written = encode_record(RECORDS[name])
    assert written.value is not None
    assert (written.key.hex(), written.value.hex()) == KAFKA[name]


@pytest.mark.parametrize("name", KAFKA)
def test_a_tombstone_names_the_same_thing_and_says_nothing_of_it(name: str) -> None:
    key = bytes.fromhex(KAFKA[name][0])
    tombstone = decode_record(key, None)
    assert type(tombstone) is type(RECORDS[name])
    assert tombstone is not None
    assert tombstone != RECORDS[name]
    written = encode_record(tombstone)
    assert (written.key, written.value) == (key, None)


@pytest.mark.parametrize("name", KAFKA)
def test_a_value_that_is_cut_short_is_corrupt(name: str) -> None:
    """At any byte, and not only at the end of a field."""
    key, value = (bytes.fromhex(part) for part in KAFKA[name])
    if name == "partition_metadata":
        return  # its content is not looked at
    for size in range(len(value)):
        with pytest.raises(CorruptRecord):
            decode_record(key, value[:size])


def test_a_value_of_a_version_to_come_is_corrupt() -> None:
    key, value = (bytes.fromhex(part) for part in KAFKA["group"])
    with pytest.raises(CorruptRecord, match="version 1"):
        decode_record(key, b"\0\1" + value[2:])


def test_a_tag_of_a_version_to_come_is_stepped_over() -> None:
    key, value = (bytes.fromhex(part) for part in KAFKA["group_without_hash"])
    assert decode_record(key, value[:-1] + b"\1\7\2xy") == RECORDS["group_without_hash"]


def test_a_state_of_a_version_to_come_is_told_as_unknown() -> None:
    key, value = (bytes.fromhex(part) for part in KAFKA["current"])
    record = decode_record(key, value[:10] + b"\x09" + value[11:])
    assert isinstance(record, CurrentAssignment)
    assert record.position is not None
    assert record.position.state == 127


@pytest.mark.parametrize("key_type", [9, 10, 11, 12, 13, 14, 15])
def test_share_groups_are_not_ours(key_type: int) -> None:
    assert decode_record(key_type.to_bytes(2, "big") + b"\0\1g", b"\0\0") is None


@given(st.sampled_from([3, 5, 6, 7, 8, 16]), st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_are_a_record_or_corrupt(key_type: int, key: bytes, value: bytes) -> None:
    try:
        record = decode_record(key_type.to_bytes(2, "big") + key, b"\0\0" + value)
    except CorruptRecord:
        return
    assert record is not None
