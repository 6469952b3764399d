"""The records of offsets and classic groups in `__consumer_offsets`, in Apache Kafka's own format.

Everything is big-endian; `text` is an int16 length and UTF-8, `bytes` an int32 length and those; `?` may be null (length -1).

    key    OffsetCommit    int16 type 0 or 1 | text group | text topic | int32 partition
           GroupMetadata   int16 type 2 | text group
    value  OffsetCommit    int16 version | int64 offset | v3+ int32 leader epoch | text metadata | int64 committed at
                           | v1 int64 expires at | v4 tags
           GroupMetadata   int16 version | text protocol type | int32 generation | ?text protocol | ?text leader
                           | v2+ int64 in this state since | int32 members of:
                           text member id | v3+ ?text instance id | text client id | text client host
                           | v1+ int32 rebalance timeout | int32 session timeout | bytes subscription | bytes assignment | v4 tags
                           | v4 tags

Version 4 of both has varints for lengths, and tags, which are skipped. Key type 1 and value version 3 are written, as Kafka does
(KIP-915: an older broker could not read more); an offset that expires at a time of its own has a place only in version 1.
"""

import struct
from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.cursor import Cursor, DecodeError, not_null


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """What a group committed for a partition."""

    offset: int
    leader_epoch: int  # -1 where the consumer told none
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int  # -1: by the coordinator's retention


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """Key types 0 and 1. `committed` None is a tombstone."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None


@dataclass(frozen=True, slots=True)
class MemberMetadata:
    """A member as it is saved when a generation became stable. Times are ms."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class GroupState:
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    current_state_timestamp_ms: int  # -1: not known
    members: tuple[MemberMetadata, ...]


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """Key type 2. `state` None is a tombstone."""

    group_id: str
    state: GroupState | None


Decoded = TypeVar("Decoded")

OFFSET_COMMIT_KEY_TYPES = (0, 1)
GROUP_METADATA_KEY_TYPE = 2
VALUE_VERSION_MAX = 4
FLEXIBLE_VERSION = 4

TWO_INT16 = Struct(">hh")
INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
OFFSET_V0 = Struct(">hqh")  # version, offset, length of the metadata
OFFSET_V3 = Struct(">hqih")  # the same, with the leader epoch
TIMES_V1 = Struct(">qq")


def encode_key(record: OffsetCommit | GroupMetadata) -> bytes:
    group = record.group_id.encode()
    if isinstance(record, GroupMetadata):
        return TWO_INT16.pack(GROUP_METADATA_KEY_TYPE, len(group)) + group
    topic = record.topic.encode()
    return b"%b%b%b%b%b" % (TWO_INT16.pack(1, len(group)), group, INT16.pack(len(topic)), topic, INT32.pack(record.partition))


def encode_value(record: OffsetCommit | GroupMetadata) -> bytes | None:
    if isinstance(record, GroupMetadata):
        return None if record.state is None else _encode_group(record.state)
    return None if record.committed is None else _encode_offset(record.committed)


def decode(key_type: int, key: bytes, value: bytes | None) -> OffsetCommit | GroupMetadata | None:
    """None for a type that this version does not know. Raises CorruptRecord."""
    try:
        if key_type in OFFSET_COMMIT_KEY_TYPES:
            return _decode_offset_commit(key, value)
        if key_type == GROUP_METADATA_KEY_TYPE:
            return _decode_group_metadata(key, value)
    except (struct.error, UnicodeDecodeError, DecodeError) as error:
        raise CorruptRecord(f"group record of type {key_type} with key {key[:100]!r}: {error}") from None
    return None


# --- offsets: a shard loads a hundred thousand of them while its groups wait, hence no cursor and no field by field


def _encode_offset(committed: CommittedOffset) -> bytes:
    metadata = committed.metadata.encode()
    if committed.expire_timestamp_ms >= 0:
        times = TIMES_V1.pack(committed.commit_timestamp_ms, committed.expire_timestamp_ms)
        return OFFSET_V0.pack(1, committed.offset, len(metadata)) + metadata + times
    head = OFFSET_V3.pack(3, committed.offset, committed.leader_epoch, len(metadata))
    return head + metadata + INT64.pack(committed.commit_timestamp_ms)


def _decode_offset_commit(key: bytes, value: bytes | None) -> OffsetCommit:
    group_end = 4 + INT16.unpack_from(key, 2)[0]
    topic_end = group_end + 2 + INT16.unpack_from(key, group_end)[0]
    if not 4 <= group_end <= topic_end - 2 or topic_end + 4 != len(key):
        raise CorruptRecord(f"key of an offset has {len(key)} bytes: its group ends at {group_end}, its topic at {topic_end}")
    group_id, topic = str(key[4:group_end], "utf-8"), str(key[group_end + 2 : topic_end], "utf-8")
    committed = None if value is None else _decode_offset(value)
    return OffsetCommit(group_id, topic, INT32.unpack_from(key, topic_end)[0], committed)


def _decode_offset(value: bytes) -> CommittedOffset:
    version = INT16.unpack_from(value)[0]
    if version == 3:
        _, offset, leader_epoch, length = OFFSET_V3.unpack_from(value)
        end = OFFSET_V3.size + length
        if length < 0 or end + INT64.size != len(value):
            raise CorruptRecord(f"offset of {len(value)} bytes, with {length} bytes of metadata")
        metadata = str(value[OFFSET_V3.size : end], "utf-8") if length else ""
        return CommittedOffset(offset, leader_epoch, metadata, INT64.unpack_from(value, end)[0], -1)
    return _decode_other_offset(value)


def _decode_other_offset(value: bytes) -> CommittedOffset:
    """Of a version that we do not write as a rule."""
    cursor, version = _open_value(value, "offset")
    flexible = version >= FLEXIBLE_VERSION
    committed = CommittedOffset(
        offset=cursor.int64("offset"),
        leader_epoch=cursor.int32("leader epoch") if version >= 3 else -1,
        metadata=cursor.required_text(flexible=flexible, name="metadata"),
        commit_timestamp_ms=cursor.int64("commit timestamp"),
        expire_timestamp_ms=cursor.int64("expire timestamp") if version == 1 else -1,
    )
    return _finish(cursor, flexible, committed)


# --- groups


def _encode_group(state: GroupState) -> bytes:
    parts = [
        INT16.pack(3),
        _text(state.protocol_type),
        INT32.pack(state.generation),
        _text(state.protocol),
        _text(state.leader),
        INT64.pack(state.current_state_timestamp_ms),
        INT32.pack(len(state.members)),
    ]
    for member in state.members:
        parts += _encode_member(member)
    return b"".join(parts)


def _encode_member(member: MemberMetadata) -> list[bytes]:
    return [
        _text(member.member_id),
        _text(member.instance_id),
        _text(member.client_id),
        _text(member.client_host),
        INT32.pack(member.rebalance_timeout_ms),
        INT32.pack(member.session_timeout_ms),
        INT32.pack(len(member.subscription)),
        member.subscription,
        INT32.pack(len(member.assignment)),
        member.assignment,
    ]


def _text(text: str | None) -> bytes:
    if text is None:
        return INT16.pack(-1)
    raw = text.encode()
    return INT16.pack(len(raw)) + raw


def _decode_group_metadata(key: bytes, value: bytes | None) -> GroupMetadata:
    cursor = Cursor(key, 2)
    group_id = cursor.required_text(flexible=False, name="group")
    cursor.finish()
    return GroupMetadata(group_id, None if value is None else _decode_group(value))


def _decode_group(value: bytes) -> GroupState:
    cursor, version = _open_value(value, "group")
    flexible = version >= FLEXIBLE_VERSION
    state = GroupState(
        protocol_type=cursor.required_text(flexible=flexible, name="protocol type"),
        generation=cursor.int32("generation"),
        protocol=cursor.nullable_text(flexible=flexible, name="protocol"),
        leader=cursor.nullable_text(flexible=flexible, name="leader"),
        current_state_timestamp_ms=cursor.int64("current state timestamp") if version >= 2 else -1,
        members=_decode_members(cursor, version),
    )
    return _finish(cursor, flexible, state)


def _decode_members(cursor: Cursor, version: int) -> tuple[MemberMetadata, ...]:
    count = cursor.count(flexible=version >= FLEXIBLE_VERSION, item_bytes_min=8, name="members")
    return tuple(_decode_member(cursor, version) for _ in range(count))


def _decode_member(cursor: Cursor, version: int) -> MemberMetadata:
    flexible = version >= FLEXIBLE_VERSION
    member_id = cursor.required_text(flexible=flexible, name="member id")
    instance_id = cursor.nullable_text(flexible=flexible, name="instance id") if version >= 3 else None
    client_id = cursor.required_text(flexible=flexible, name="client id")
    client_host = cursor.required_text(flexible=flexible, name="client host")
    rebalance_timeout_ms = cursor.int32("rebalance timeout") if version >= 1 else -1
    session_timeout_ms = cursor.int32("session timeout")
    subscription, assignment = (
        cursor.blob(not_null(cursor.length(flexible=flexible, name=name), name), name) for name in ("subscription", "assignment")
    )
    if flexible:
        cursor.skip_tags()
    return MemberMetadata(
        member_id=member_id,
        instance_id=instance_id,
        client_id=client_id,
        client_host=client_host,
        rebalance_timeout_ms=session_timeout_ms if rebalance_timeout_ms < 0 else rebalance_timeout_ms,
        session_timeout_ms=session_timeout_ms,
        subscription=subscription,
        assignment=assignment,
    )


# --- versions


def _open_value(value: bytes, name: str) -> tuple[Cursor, int]:
    cursor = Cursor(value, items_max=len(value))
    version = cursor.int16("version")
    if not 0 <= version <= VALUE_VERSION_MAX:
        raise CorruptRecord(f"{name} of version {version}: this node reads versions 0 to {VALUE_VERSION_MAX}")
    return cursor, version


def _finish(cursor: Cursor, flexible: bool, decoded: Decoded) -> Decoded:
    if flexible:
        cursor.skip_tags()
    cursor.finish()
    return decoded
