"""The Produce messages, v3 to v13, by hand: records are never copied, they are views of the frame.

v3: record batches, transactions    v5: log start offset in the answer    v8: errors of single records
v9: flexible    v10: the new leader in the answer (KIP-951)    v13: topic ids in place of names

request   transactional id, acks int16, timeout ms int32, [topic: name or id, [index int32, records]]
response  [topic: name or id, [index int32, error int16, base offset int64, log append time int64, log start offset int64 (v5),
          [batch index int32, message] (v8), error message (v8), tag 0: leader (v10)]], throttle ms int32,
          tag 0: endpoints (v10)
"""

import struct
from dataclasses import dataclass
from uuid import UUID

from quorumlog.wire.batches import Buffer
from quorumlog.wire.cursor import Cursor, DecodeError
from quorumlog.wire.encoding import count, nullable_text, text
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.leader_hints import CurrentLeader, NodeEndpoint, encoded_endpoints, tagged_fields

VERSIONS = range(3, 14)
FLEXIBLE_FROM = 9
LEADER_HINTS_FROM = 10
TOPIC_IDS_FROM = 13

ACKS_AND_TIMEOUT = struct.Struct(">hi")
INT32 = struct.Struct(">i")
PRODUCED_V3 = struct.Struct(">ihqq")
PRODUCED_V5 = struct.Struct(">ihqqq")
NO_TAGS = b"\x00"


@dataclass(frozen=True, slots=True)
class ProducePartition:
    index: int
    records: memoryview | None
    """The batches as they came: a view of the frame, which it keeps alive."""


@dataclass(frozen=True, slots=True)
class ProduceTopic:
    name: str | None
    """None from v13 on, where there is an id."""
    topic_id: UUID
    partitions: tuple[ProducePartition, ...]


@dataclass(frozen=True, slots=True)
class ProduceRequest:
    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: tuple[ProduceTopic, ...]


@dataclass(frozen=True, slots=True)
class RecordError:
    batch_index: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ProducedPartition:
    """The answer for one partition. What a version cannot say is left out."""

    index: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time_ms: int = -1
    """-1 unless the topic's timestamps are those of the append."""
    log_start_offset: int = -1
    record_errors: tuple[RecordError, ...] = ()
    error_message: str | None = None
    current_leader: CurrentLeader | None = None


@dataclass(frozen=True, slots=True)
class ProducedTopic:
    name: str | None
    topic_id: UUID
    partitions: tuple[ProducedPartition, ...]


@dataclass(frozen=True, slots=True)
class ProduceResponse:
    topics: tuple[ProducedTopic, ...]
    throttle_time_ms: int = 0
    node_endpoints: tuple[NodeEndpoint, ...] = ()
    """Where the leaders are that the partitions name."""


def decode_produce(version: int, frame: Buffer, position: int = 0) -> ProduceRequest:
    """The request whose body begins at `position`; what follows it is ignored, as Kafka does. Raises DecodeError."""
    assert version in VERSIONS, version
    cursor = Cursor(frame, position)
    try:
        request = _request(cursor, version)
    except DecodeError as error:
        raise DecodeError(f"produce v{version} request: {error}") from None
    return request


def encode_produce_response(version: int, response: ProduceResponse) -> bytes:
    assert version in VERSIONS, version
    flexible = version >= FLEXIBLE_FROM
    pieces = [count(len(response.topics), flexible=flexible)]
    for topic in response.topics:
        pieces += (_topic_key(topic, version), count(len(topic.partitions), flexible=flexible))
        for partition in topic.partitions:
            _add_partition(pieces, partition, version)
        if flexible:
            pieces.append(NO_TAGS)
    pieces.append(INT32.pack(response.throttle_time_ms))
    if flexible:
        has_endpoints = version >= LEADER_HINTS_FROM and response.node_endpoints
        pieces.append(tagged_fields([(0, encoded_endpoints(response.node_endpoints))]) if has_endpoints else NO_TAGS)
    return b"".join(pieces)


def _request(cursor: Cursor, version: int) -> ProduceRequest:
    flexible = version >= FLEXIBLE_FROM
    transactional_id = cursor.nullable_text(flexible=flexible, name="transactional_id")
    acks, timeout_ms = cursor.unpack(ACKS_AND_TIMEOUT, "acks and timeout")
    topics_count = cursor.count(flexible=flexible, item_bytes_min=3 if flexible else 6, name="topics")
    topics = tuple([_topic(cursor, version) for _ in range(topics_count)])
    if flexible:
        cursor.skip_tags()
    return ProduceRequest(transactional_id, acks, timeout_ms, topics)


def _topic(cursor: Cursor, version: int) -> ProduceTopic:
    flexible = version >= FLEXIBLE_FROM
    if version >= TOPIC_IDS_FROM:
        name, topic_id = None, cursor.uuid("topic_id")
    else:
        name, topic_id = cursor.required_text(flexible=flexible, name="topic name"), NO_TOPIC_ID
    partitions_count = cursor.count(flexible=flexible, item_bytes_min=6 if flexible else 8, name="partitions")
    partitions = tuple([_partition(cursor, flexible) for _ in range(partitions_count)])
    if flexible:
        cursor.skip_tags()
    return ProduceTopic(name, topic_id, partitions)


def _partition(cursor: Cursor, flexible: bool) -> ProducePartition:
    index = cursor.int32("partition index")
    length = cursor.length(flexible=flexible, name="records")
    records = None if length < 0 else cursor.view(length, "records")
    if flexible:
        cursor.skip_tags()
    return ProducePartition(index, records)


def _topic_key(topic: ProducedTopic, version: int) -> bytes:
    if version >= TOPIC_IDS_FROM:
        return topic.topic_id.bytes
    assert topic.name is not None, topic
    return text(topic.name, flexible=version >= FLEXIBLE_FROM)


def _add_partition(pieces: list[bytes], produced: ProducedPartition, version: int) -> None:
    start = (produced.index, produced.error_code, produced.base_offset, produced.log_append_time_ms)
    if version < 5:
        pieces.append(PRODUCED_V3.pack(*start))
        return
    pieces.append(PRODUCED_V5.pack(*start, produced.log_start_offset))
    if version >= 8:
        _add_errors(pieces, produced, flexible=version >= FLEXIBLE_FROM)
    if version >= FLEXIBLE_FROM:
        leader = produced.current_leader if version >= LEADER_HINTS_FROM else None
        pieces.append(NO_TAGS if leader is None else tagged_fields([(0, leader.encoded())]))


def _add_errors(pieces: list[bytes], produced: ProducedPartition, *, flexible: bool) -> None:
    pieces.append(count(len(produced.record_errors), flexible=flexible))
    for error in produced.record_errors:
        pieces += (INT32.pack(error.batch_index), nullable_text(error.message, flexible=flexible))
        if flexible:
            pieces.append(NO_TAGS)
    pieces.append(nullable_text(produced.error_message, flexible=flexible))
