"""The records of consumer groups (KIP-848) in `__consumer_offsets`, in Apache Kafka's own format.

Everything is big-endian. A key has `text`s of an int16 length and UTF-8. A value is an int16 version, always 0, and then fields
in Kafka's compact form: `text`, `bytes` and arrays `[]` begin with their length plus one as a varint, 0 is null (`?`), and each
struct ends with its tags.

    key    every type              int16 type | text group | 5, 7, 8: text member id | 16: text regular expression

    value  3  ConsumerGroup        int32 epoch | tags: 0 int64 hash of the topics read
           4  PartitionMetadata    [] of (uuid topic id | text name | int32 partitions | [] of (int32 partition | [] text racks))
           5  GroupMember          ?text instance id | ?text rack | text client id | text client host | [] text topics
                                   | ?text regular expression | int32 rebalance timeout | ?text assignor
                                   | tags: 0 (int32 session timeout | [] of (text protocol | bytes metadata)), of classic members
           6  TargetEpoch          int32 epoch
           7  TargetAssignment     [] of (uuid topic id | [] int32 partitions)
           8  CurrentAssignment    int32 epoch | int32 previous epoch | int8 state | [] assigned | [] being revoked, each of
                                   (uuid topic id | [] int32 partitions | tags: 0 [] int32 epochs in which they were assigned)
           16 ResolvedRegex        [] text topics | int64 version of the metadata | int64 time of the resolution

Type 4 is Kafka 4.0's; since 4.1 the hash in type 3 stands for it, which is what we write. A value of None is a tombstone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import TypeVar
from uuid import UUID

from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.cursor import Cursor, DecodeError, not_null
from quorumlog.wire.encoding import count, nullable_text, text, unsigned_varint

Partitions = dict[UUID, tuple[int, ...]]
"""By topic id: partitions in order. Never changed once it is in a record."""

Epochs = dict[UUID, dict[int, int]]
"""By topic id and partition: the epoch in which the member got it. Never changed once it is in a record."""

STABLE, UNREVOKED_PARTITIONS, UNRELEASED_PARTITIONS = range(3)
UNKNOWN_STATE = 127  # of a newer version


@dataclass(frozen=True, slots=True)
class ConsumerGroupMetadata:
    """Key type 3. `epoch` None is a tombstone."""

    group_id: str
    epoch: int | None
    metadata_hash: int = 0  # of the topics that are read, with their partitions; signed


@dataclass(frozen=True, slots=True)
class PartitionMetadata:
    """Key type 4: only that there is one, for nothing is done with it but to delete it."""

    group_id: str
    exists: bool


@dataclass(frozen=True, slots=True)
class ClassicProtocol:
    name: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class ClassicMember:
    """What a member told that still speaks the classic protocol."""

    session_timeout_ms: int
    protocols: tuple[ClassicProtocol, ...]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member told of itself."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topic_names: tuple[str, ...] = ()  # sorted
    topic_regex: str = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMember | None = None


@dataclass(frozen=True, slots=True)
class GroupMember:
    """Key type 5."""

    group_id: str
    member_id: str
    subscription: Subscription | None


@dataclass(frozen=True, slots=True)
class TargetEpoch:
    """Key type 6: the epoch for which the target assignment was made."""

    group_id: str
    epoch: int | None


@dataclass(frozen=True, slots=True)
class TargetAssignment:
    """Key type 7: what a member shall have."""

    group_id: str
    member_id: str
    partitions: Partitions | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a member stands on its way to its target."""

    epoch: int = 0
    previous_epoch: int = 0
    state: int = STABLE
    assigned: Epochs = field(default_factory=dict)
    revoking: Epochs = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CurrentAssignment:
    """Key type 8."""

    group_id: str
    member_id: str
    position: Position | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The topics whose whole name a regular expression matches."""

    topics: tuple[str, ...]  # sorted
    version: int = 0
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class ResolvedRegex:
    """Key type 16."""

    group_id: str
    regex: str
    resolved: Resolved | None


ConsumerRecord = (
    ConsumerGroupMetadata | PartitionMetadata | GroupMember | TargetEpoch | TargetAssignment | CurrentAssignment | ResolvedRegex
)
CONSUMER_KEY_TYPES = range(3, 17)

KEY_TYPES: dict[type, int] = {
    ConsumerGroupMetadata: 3,
    PartitionMetadata: 4,
    GroupMember: 5,
    TargetEpoch: 6,
    TargetAssignment: 7,
    CurrentAssignment: 8,
    ResolvedRegex: 16,
}

TWO_INT16 = Struct(">hh")
INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
POSITION = Struct(">hiib")  # version, epoch, previous epoch, state
VERSION = INT16.pack(0)
NO_TAGS = b"\0"


def encode_key(record: ConsumerRecord) -> bytes:
    group = record.group_id.encode()
    head = TWO_INT16.pack(KEY_TYPES[type(record)], len(group)) + group
    match record:
        case GroupMember() | TargetAssignment() | CurrentAssignment():
            return head + text(record.member_id, flexible=False)
        case ResolvedRegex():
            return head + text(record.regex, flexible=False)
        case _:
            return head


def encode_value(record: ConsumerRecord) -> bytes | None:
    match record:
        case ConsumerGroupMetadata():
            return None if record.epoch is None else VERSION + INT32.pack(record.epoch) + _hash_tag(record.metadata_hash)
        case PartitionMetadata():
            return VERSION + count(0, flexible=True) + NO_TAGS if record.exists else None
        case GroupMember():
            return None if record.subscription is None else _encode_subscription(record.subscription)
        case TargetEpoch():
            return None if record.epoch is None else VERSION + INT32.pack(record.epoch) + NO_TAGS
        case TargetAssignment():
            return None if record.partitions is None else _encode_target(record.partitions)
        case CurrentAssignment():
            return None if record.position is None else _encode_position(record.position)
        case ResolvedRegex():
            return None if record.resolved is None else _encode_resolved(record.resolved)


def decode(key_type: int, key: bytes, value: bytes | None) -> ConsumerRecord | None:
    """None for a type that this version does not know. Raises CorruptRecord."""
    decoder = DECODERS.get(key_type)
    if decoder is None:
        return None
    cursor = Cursor(key, 2)
    try:
        record = decoder(cursor, None if value is None else _open_value(value))
        cursor.finish()
    except DecodeError as error:
        raise CorruptRecord(f"group record of type {key_type} with key {key[:100]!r}: {error}") from None
    return record


# --- values, written


def _tagged(value: bytes) -> bytes:
    """The one tag that a struct of ours can have, number 0."""
    return b"\1\0" + unsigned_varint(len(value)) + value


def _hash_tag(metadata_hash: int) -> bytes:
    return _tagged(INT64.pack(metadata_hash)) if metadata_hash else NO_TAGS


def _encode_subscription(member: Subscription) -> bytes:
    return b"".join(
        (
            VERSION,
            nullable_text(member.instance_id, flexible=True),
            nullable_text(member.rack_id, flexible=True),
            text(member.client_id, flexible=True),
            text(member.client_host, flexible=True),
            _texts(member.topic_names),
            nullable_text(member.topic_regex, flexible=True),
            INT32.pack(member.rebalance_timeout_ms),
            nullable_text(member.assignor, flexible=True),
            NO_TAGS if member.classic is None else _tagged(_encode_classic(member.classic)),
        )
    )


def _encode_classic(member: ClassicMember) -> bytes:
    """As a struct that may be null, which the 1 says it is not."""
    parts = [b"\1", INT32.pack(member.session_timeout_ms), count(len(member.protocols), flexible=True)]
    for protocol in member.protocols:
        parts += [text(protocol.name, flexible=True), unsigned_varint(len(protocol.metadata) + 1), protocol.metadata, NO_TAGS]
    return b"".join((*parts, NO_TAGS))


def _encode_target(partitions: Partitions) -> bytes:
    parts = [VERSION, count(len(partitions), flexible=True)]
    for topic_id, indexes in partitions.items():
        parts += [topic_id.bytes, _int32s(indexes), NO_TAGS]
    return b"".join((*parts, NO_TAGS))


def _encode_position(position: Position) -> bytes:
    head = POSITION.pack(0, position.epoch, position.previous_epoch, position.state)
    return b"".join((head, *_encode_epochs(position.assigned), *_encode_epochs(position.revoking), NO_TAGS))


def _encode_epochs(epochs: Epochs) -> list[bytes]:
    parts = [count(len(epochs), flexible=True)]
    for topic_id, by_partition in epochs.items():
        parts += [topic_id.bytes, _int32s(tuple(by_partition)), _tagged(_int32s(tuple(by_partition.values())))]
    return parts


def _encode_resolved(resolved: Resolved) -> bytes:
    times = INT64.pack(resolved.version) + INT64.pack(resolved.timestamp_ms)
    return VERSION + _texts(resolved.topics) + times + NO_TAGS


def _texts(items: tuple[str, ...]) -> bytes:
    return b"".join((count(len(items), flexible=True), *(text(item, flexible=True) for item in items)))


def _int32s(items: tuple[int, ...]) -> bytes:
    return count(len(items), flexible=True) + Struct(f">{len(items)}i").pack(*items)


# --- keys and values, read

Value = Cursor | None
Item = TypeVar("Item")


def _open_value(value: bytes) -> Cursor:
    cursor = Cursor(value, items_max=len(value))
    if version := cursor.int16("version"):
        raise CorruptRecord(f"group record of version {version}: this node reads version 0")
    return cursor


def _done(cursor: Cursor, item: Item) -> Item:
    """What was read, if the value ends with it and its tags."""
    cursor.skip_tags()
    cursor.finish()
    return item


def _key_text(key: Cursor, name: str) -> str:
    return key.required_text(flexible=False, name=name)


def _decode_group(key: Cursor, value: Value) -> ConsumerRecord:
    group_id = _key_text(key, "group")
    if value is None:
        return ConsumerGroupMetadata(group_id, None)
    epoch, metadata_hash = value.int32("epoch"), 0
    for tag in value.tags():
        if tag == 0:
            metadata_hash = value.int64("metadata hash")
        else:
            value.position = value.end
    value.finish()
    return ConsumerGroupMetadata(group_id, epoch, metadata_hash)


def _decode_partition_metadata(key: Cursor, value: Value) -> ConsumerRecord:
    return PartitionMetadata(_key_text(key, "group"), value is not None)


def _decode_member(key: Cursor, value: Value) -> ConsumerRecord:
    group_id, member_id = _key_text(key, "group"), _key_text(key, "member")
    return GroupMember(group_id, member_id, None if value is None else _decode_subscription(value))


def _decode_subscription(value: Cursor) -> Subscription:
    instance_id = value.nullable_text(flexible=True, name="instance id")
    rack_id = value.nullable_text(flexible=True, name="rack")
    client_id = value.required_text(flexible=True, name="client id")
    client_host = value.required_text(flexible=True, name="client host")
    topic_names = _decode_texts(value, "topics")
    topic_regex = value.nullable_text(flexible=True, name="regular expression") or ""
    rebalance_timeout_ms = value.int32("rebalance timeout")
    assignor = value.nullable_text(flexible=True, name="assignor")
    classic = None
    for tag in value.tags():
        if tag == 0:
            classic = _decode_classic(value)
        else:
            value.position = value.end
    value.finish()
    return Subscription(
        instance_id=instance_id,
        rack_id=rack_id,
        client_id=client_id,
        client_host=client_host,
        topic_names=topic_names,
        topic_regex=topic_regex,
        rebalance_timeout_ms=rebalance_timeout_ms,
        assignor=assignor,
        classic=classic,
    )


def _decode_classic(value: Cursor) -> ClassicMember | None:
    if value.int8("classic member") <= 0:
        return None
    session_timeout_ms = value.int32("session timeout")
    items = value.count(flexible=True, item_bytes_min=3, name="protocols")
    protocols = tuple(_decode_protocol(value) for _ in range(items))
    value.skip_tags()
    return ClassicMember(session_timeout_ms, protocols)


def _decode_protocol(value: Cursor) -> ClassicProtocol:
    name = value.required_text(flexible=True, name="protocol")
    metadata = value.blob(not_null(value.length(flexible=True, name="metadata"), "metadata"), "metadata")
    value.skip_tags()
    return ClassicProtocol(name, metadata)


def _decode_target_epoch(key: Cursor, value: Value) -> ConsumerRecord:
    group_id = _key_text(key, "group")
    return TargetEpoch(group_id, None if value is None else _done(value, value.int32("epoch")))


def _decode_target(key: Cursor, value: Value) -> ConsumerRecord:
    group_id, member_id = _key_text(key, "group"), _key_text(key, "member")
    if value is None:
        return TargetAssignment(group_id, member_id, None)
    partitions: Partitions = {}
    for _ in range(value.count(flexible=True, item_bytes_min=18, name="topics")):
        topic_id = value.uuid("topic id")
        partitions[topic_id] = value.int32s(flexible=True, name="partitions")
        value.skip_tags()
    return _done(value, TargetAssignment(group_id, member_id, partitions))


def _decode_current(key: Cursor, value: Value) -> ConsumerRecord:
    group_id, member_id = _key_text(key, "group"), _key_text(key, "member")
    return CurrentAssignment(group_id, member_id, None if value is None else _decode_position(value))


def _decode_position(value: Cursor) -> Position:
    epoch, previous_epoch, state = value.int32("epoch"), value.int32("previous epoch"), value.int8("state")
    assigned, revoking = _decode_epochs(value, epoch), _decode_epochs(value, epoch)
    return _done(value, Position(epoch, previous_epoch, state if state in range(3) else UNKNOWN_STATE, assigned, revoking))


def _decode_epochs(value: Cursor, member_epoch: int) -> Epochs:
    epochs: Epochs = {}
    for _ in range(value.count(flexible=True, item_bytes_min=18, name="topics")):
        topic_id = value.uuid("topic id")
        partitions = value.int32s(flexible=True, name="partitions")
        told: tuple[int, ...] = ()
        for tag in value.tags():
            if tag == 0:
                told = value.int32s(flexible=True, name="assignment epochs")
            else:
                value.position = value.end
        if len(told) != len(partitions):  # as before Kafka 4.3
            told = (max(member_epoch, 0),) * len(partitions)
        epochs[topic_id] = dict(zip(partitions, told, strict=True))
    return epochs


def _decode_regex(key: Cursor, value: Value) -> ConsumerRecord:
    group_id, regex = _key_text(key, "group"), _key_text(key, "regular expression")
    if value is None:
        return ResolvedRegex(group_id, regex, None)
    resolved = Resolved(_decode_texts(value, "topics"), value.int64("version"), value.int64("timestamp"))
    return _done(value, ResolvedRegex(group_id, regex, resolved))


def _decode_texts(value: Cursor, name: str) -> tuple[str, ...]:
    items = value.count(flexible=True, item_bytes_min=1, name=name)
    return tuple(value.required_text(flexible=True, name=name) for _ in range(items))


DECODERS: dict[int, Callable[[Cursor, Value], ConsumerRecord]] = {
    3: _decode_group,
    4: _decode_partition_metadata,
    5: _decode_member,
    6: _decode_target_epoch,
    7: _decode_target,
    8: _decode_current,
    16: _decode_regex,
}
