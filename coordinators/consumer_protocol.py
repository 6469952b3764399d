"""What members of the classic protocol say to each other when their protocol type is "consumer", in Apache Kafka's format: the
coordinator has to know it once such members share a group with those of KIP-848.

    subscription  int16 version | [] text topics | ?bytes user data | v1+ [] of (text topic | [] int32 partitions) owned
                  | v2+ int32 generation | v3+ ?text rack
    assignment    int16 version | [] of (text topic | [] int32 partitions) | ?bytes user data

`text` has an int16 length, `bytes` and arrays `[]` an int32, of which -1 is null (`?`). What newer versions append is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct

from quorumlog.wire.cursor import Cursor, DecodeError
from quorumlog.wire.encoding import text

PROTOCOL_TYPE = "consumer"
VERSION_MAX = 3

INT16 = Struct(">h")
INT32 = Struct(">i")
NULL_BYTES = INT32.pack(-1)

ByName = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ClassicSubscription:
    version: int
    topics: tuple[str, ...]
    owned: ByName = field(default_factory=dict)
    rack_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClassicAssignment:
    partitions: ByName
    user_data: bytes


def read_subscription(metadata: bytes) -> ClassicSubscription:
    """Raises DecodeError."""
    cursor = Cursor(metadata, items_max=len(metadata))
    version = _version(cursor)
    count = cursor.count(flexible=False, item_bytes_min=2, name="topics")
    topics = tuple(cursor.required_text(flexible=False, name="topic") for _ in range(count))
    _blob(cursor)
    owned = _partitions(cursor) if version >= 1 else {}
    if version >= 2:
        cursor.int32("generation")
    rack_id = cursor.nullable_text(flexible=False, name="rack") if version >= 3 else None
    return ClassicSubscription(version, topics, owned, rack_id)


def version_of(metadata: bytes) -> int:
    """The version in which this member reads assignments. One that tells nothing of the kind gets the oldest: of the protocols
    that a member names, only the one that counts has been looked at."""
    return max(int.from_bytes(metadata[:2], "big", signed=True), 0)


def read_assignment(assignment: bytes) -> ClassicAssignment:
    """Raises DecodeError. A member that was never assigned anything has no bytes."""
    if not assignment:
        return ClassicAssignment({}, b"")
    cursor = Cursor(assignment, items_max=len(assignment))
    _version(cursor)
    return ClassicAssignment(_partitions(cursor), _blob(cursor))


def write_assignment(partitions: Mapping[str, tuple[int, ...]], version: int) -> bytes:
    parts = [INT16.pack(min(version, VERSION_MAX)), INT32.pack(len(partitions))]
    for topic, indexes in partitions.items():
        parts += [text(topic, flexible=False), INT32.pack(len(indexes)), Struct(f">{len(indexes)}i").pack(*indexes)]
    return b"".join((*parts, NULL_BYTES))


def _version(cursor: Cursor) -> int:
    version = cursor.int16("version")
    if version < 0:
        raise DecodeError(f"version {version} of the consumer protocol")
    return version


def _partitions(cursor: Cursor) -> ByName:
    count = cursor.count(flexible=False, item_bytes_min=6, name="topics")
    partitions: ByName = {}
    for _ in range(count):
        topic = cursor.required_text(flexible=False, name="topic")
        partitions[topic] = cursor.int32s(flexible=False, name="partitions")
    return partitions


def _blob(cursor: Cursor) -> bytes:
    length = cursor.length(flexible=False, name="user data")
    return b"" if length < 0 else cursor.blob(length, "user data")
