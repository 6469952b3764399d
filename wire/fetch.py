"""The Fetch messages, v4 to v18, by hand: record bytes are put into the answer as the buffers they were read in.

v4: isolation level    v5: log start offset    v7: sessions (KIP-227)    v9: leader epoch of the partition (KIP-320)
v11: rack, read from a follower (KIP-392)    v12: flexible, divergence by epoch (KIP-595)    v13: topic ids in place of names
v15: replica state in a tag (KIP-903)    v16: endpoints of new leaders (KIP-951)    v17: replica directory    v18: high watermark
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from quorumlog.wire.batches import Buffer
from quorumlog.wire.cursor import Cursor, DecodeError
from quorumlog.wire.encoding import count, text
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.leader_hints import CurrentLeader, NodeEndpoint, encoded_endpoints, tagged_fields

VERSIONS = range(4, 19)
SESSIONS_FROM = 7
FLEXIBLE_FROM = 12
TOPIC_IDS_FROM = 13
REPLICA_STATE_FROM = 15
ENDPOINTS_FROM = 16
DIRECTORY_IDS_FROM = 17
HIGH_WATERMARK_FROM = 18

INT32 = struct.Struct(">i")
LIMITS = struct.Struct(">iiib")
SESSION = struct.Struct(">ii")
REPLICA_STATE = struct.Struct(">iq")
PARTITION_V4 = struct.Struct(">iqi")
PARTITION_V5 = struct.Struct(">iqqi")
PARTITION_V9 = struct.Struct(">iiqqi")
PARTITION_V12 = struct.Struct(">iiqiqi")
START_V7 = struct.Struct(">ihi")
FETCHED_V4 = struct.Struct(">ihqq")
FETCHED_V5 = struct.Struct(">ihqqq")
ABORTED = struct.Struct(">qq")
EPOCH_END = struct.Struct(">iq")
SNAPSHOT_ID = struct.Struct(">qi")
NO_TAGS = b"\x00"
UNKNOWN_HIGH_WATERMARK = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FetchPartition:
    partition: int
    fetch_offset: int
    partition_max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1
    replica_directory_id: UUID = NO_TOPIC_ID
    high_watermark: int = UNKNOWN_HIGH_WATERMARK
    """What a follower holds for it (KIP-1166)."""


@dataclass(frozen=True, slots=True)
class FetchTopic:
    name: str | None
    """None from v13 on, where there is an id."""
    topic_id: UUID
    partitions: tuple[FetchPartition, ...]


@dataclass(frozen=True, slots=True)
class ForgottenTopic:
    name: str | None
    topic_id: UUID
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchRequest:
    replica_id: int
    """-1 for a consumer."""
    replica_epoch: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation_level: int
    """0 read_uncommitted, 1 read_committed."""
    session_id: int
    session_epoch: int
    topics: tuple[FetchTopic, ...]
    forgotten_topics: tuple[ForgottenTopic, ...]
    rack_id: str
    cluster_id: str | None


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    producer_id: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class EpochEndOffset:
    """Where the log at hand leaves the fetcher's."""

    epoch: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class SnapshotId:
    end_offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class FetchedPartition:
    """The answer for one partition. What a version cannot say is left out."""

    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Sequence[Buffer] = ()
    """Whole batches, in as many pieces as they were read in; written as they are."""
    aborted_transactions: tuple[AbortedTransaction, ...] | None = None
    preferred_read_replica: int = -1
    diverging_epoch: EpochEndOffset | None = None
    current_leader: CurrentLeader | None = None
    snapshot_id: SnapshotId | None = None


@dataclass(frozen=True, slots=True)
class FetchedTopic:
    name: str | None
    topic_id: UUID
    partitions: tuple[FetchedPartition, ...]


@dataclass(frozen=True, slots=True)
class FetchResponse:
    topics: tuple[FetchedTopic, ...]
    throttle_time_ms: int = 0
    error_code: int = 0
    session_id: int = 0
    node_endpoints: tuple[NodeEndpoint, ...] = ()
    """Where the leaders are that the partitions name."""


def decode_fetch(version: int, frame: Buffer, position: int = 0) -> FetchRequest:
    """The request whose body begins at `position`; what follows it is ignored, as Kafka does. Raises DecodeError."""
    assert version in VERSIONS, version
    cursor = Cursor(frame, position)
    try:
        request = _request(cursor, version)
    except DecodeError as error:
        raise DecodeError(f"fetch v{version} request: {error}") from None
    return request


def encode_fetch_response(version: int, response: FetchResponse) -> list[Buffer]:
    """The body as a scatter list: our bytes and the record buffers in turn. Nothing of the records is copied."""
    assert version in VERSIONS, version
    writer = _ResponseWriter(version)
    writer.response(response)
    return writer.finished()


def _request(cursor: Cursor, version: int) -> FetchRequest:
    flexible = version >= FLEXIBLE_FROM
    replica_id = -1 if version >= REPLICA_STATE_FROM else cursor.int32("replica_id")
    max_wait_ms, min_bytes, max_bytes, isolation_level = cursor.unpack(LIMITS, "max_wait_ms to isolation_level")
    session_id, session_epoch = cursor.unpack(SESSION, "session") if version >= SESSIONS_FROM else (0, -1)
    topics = _topics(cursor, version)
    forgotten_topics = _forgotten_topics(cursor, version) if version >= SESSIONS_FROM else ()
    rack_id = cursor.required_text(flexible=flexible, name="rack_id") if version >= 11 else ""
    tags = _request_tags(cursor, version) if flexible else {}
    tagged_replica_id, replica_epoch = tags.get("replica_state", (replica_id, -1))
    return FetchRequest(
        replica_id=tagged_replica_id,
        replica_epoch=replica_epoch,
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation_level=isolation_level,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=topics,
        forgotten_topics=forgotten_topics,
        rack_id=rack_id,
        cluster_id=tags.get("cluster_id"),
    )


def _request_tags(cursor: Cursor, version: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag in cursor.tags():
        if tag == 0:
            found["cluster_id"] = cursor.nullable_text(flexible=True, name="cluster_id")
        elif tag == 1 and version >= REPLICA_STATE_FROM:
            found["replica_state"] = cursor.unpack(REPLICA_STATE, "replica_state")
            cursor.skip_tags()
        else:
            cursor.position = cursor.end
    return found


def _topics(cursor: Cursor, version: int) -> tuple[FetchTopic, ...]:
    flexible = version >= FLEXIBLE_FROM
    topics_count = cursor.count(flexible=flexible, item_bytes_min=3 if flexible else 6, name="topics")
    return tuple([_topic(cursor, version) for _ in range(topics_count)])


def _topic(cursor: Cursor, version: int) -> FetchTopic:
    flexible = version >= FLEXIBLE_FROM
    name, topic_id = _topic_key(cursor, version)
    partitions_count = cursor.count(flexible=flexible, item_bytes_min=16, name="partitions")
    partitions = tuple([_partition(cursor, version) for _ in range(partitions_count)])
    if flexible:
        cursor.skip_tags()
    return FetchTopic(name, topic_id, partitions)


def _topic_key(cursor: Cursor, version: int) -> tuple[str | None, UUID]:
    if version >= TOPIC_IDS_FROM:
        return None, cursor.uuid("topic_id")
    return cursor.required_text(flexible=version >= FLEXIBLE_FROM, name="topic name"), NO_TOPIC_ID


def _partition(cursor: Cursor, version: int) -> FetchPartition:
    name = "partition to partition_max_bytes"
    if version >= FLEXIBLE_FROM:
        partition, epoch, offset, last_epoch, start, max_bytes = cursor.unpack(PARTITION_V12, name)
        return FetchPartition(partition, offset, max_bytes, epoch, last_epoch, start, *_partition_tags(cursor, version))
    if version >= 9:
        partition, epoch, offset, start, max_bytes = cursor.unpack(PARTITION_V9, name)
        return FetchPartition(partition, offset, max_bytes, current_leader_epoch=epoch, log_start_offset=start)
    if version >= 5:
        partition, offset, start, max_bytes = cursor.unpack(PARTITION_V5, name)
        return FetchPartition(partition, offset, max_bytes, log_start_offset=start)
    return FetchPartition(*cursor.unpack(PARTITION_V4, name))


def _partition_tags(cursor: Cursor, version: int) -> tuple[UUID, int]:
    directory_id, high_watermark = NO_TOPIC_ID, UNKNOWN_HIGH_WATERMARK
    for tag in cursor.tags():
        if tag == 0 and version >= DIRECTORY_IDS_FROM:
            directory_id = cursor.uuid("replica_directory_id")
        elif tag == 1 and version >= HIGH_WATERMARK_FROM:
            high_watermark = cursor.int64("high_watermark")
        else:
            cursor.position = cursor.end
    return directory_id, high_watermark


def _forgotten_topics(cursor: Cursor, version: int) -> tuple[ForgottenTopic, ...]:
    flexible = version >= FLEXIBLE_FROM
    topics_count = cursor.count(flexible=flexible, item_bytes_min=3 if flexible else 6, name="forgotten topics")
    return tuple([_forgotten_topic(cursor, version) for _ in range(topics_count)])


def _forgotten_topic(cursor: Cursor, version: int) -> ForgottenTopic:
    flexible = version >= FLEXIBLE_FROM
    name, topic_id = _topic_key(cursor, version)
    partitions = cursor.int32s(flexible=flexible, name="forgotten partitions")
    if flexible:
        cursor.skip_tags()
    return ForgottenTopic(name, topic_id, partitions)


class _ResponseWriter:
    """Lives while one answer is encoded: collects our own bytes and sets record buffers between them."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._flexible = version >= FLEXIBLE_FROM
        self._pieces: list[bytes] = []
        self._buffers: list[Buffer] = []

    def finished(self) -> list[Buffer]:
        self._flush()
        return self._buffers

    def response(self, response: FetchResponse) -> None:
        if self._version >= SESSIONS_FROM:
            self._pieces.append(START_V7.pack(response.throttle_time_ms, response.error_code, response.session_id))
        else:
            self._pieces.append(INT32.pack(response.throttle_time_ms))
        self._pieces.append(count(len(response.topics), flexible=self._flexible))
        for topic in response.topics:
            self._topic(topic)
        if self._flexible:
            has_endpoints = self._version >= ENDPOINTS_FROM and response.node_endpoints
            endpoints = [(0, encoded_endpoints(response.node_endpoints))] if has_endpoints else []
            self._pieces.append(tagged_fields(endpoints))

    def _topic(self, topic: FetchedTopic) -> None:
        if self._version >= TOPIC_IDS_FROM:
            self._pieces.append(topic.topic_id.bytes)
        else:
            assert topic.name is not None, topic
            self._pieces.append(text(topic.name, flexible=self._flexible))
        self._pieces.append(count(len(topic.partitions), flexible=self._flexible))
        for partition in topic.partitions:
            self._partition(partition)
        if self._flexible:
            self._pieces.append(NO_TAGS)

    def _partition(self, fetched: FetchedPartition) -> None:
        start = (fetched.partition, fetched.error_code, fetched.high_watermark, fetched.last_stable_offset)
        if self._version >= 5:
            self._pieces.append(FETCHED_V5.pack(*start, fetched.log_start_offset))
        else:
            self._pieces.append(FETCHED_V4.pack(*start))
        self._aborted(fetched.aborted_transactions)
        if self._version >= 11:
            self._pieces.append(INT32.pack(fetched.preferred_read_replica))
        self._records(fetched.records)
        if self._flexible:
            self._pieces.append(_partition_tail(fetched))

    def _aborted(self, transactions: tuple[AbortedTransaction, ...] | None) -> None:
        if transactions is None:
            self._pieces.append(count(-1, flexible=self._flexible))
            return
        self._pieces.append(count(len(transactions), flexible=self._flexible))
        for aborted in transactions:
            self._pieces.append(ABORTED.pack(aborted.producer_id, aborted.first_offset))
            if self._flexible:
                self._pieces.append(NO_TAGS)

    def _records(self, records: Sequence[Buffer]) -> None:
        self._pieces.append(count(sum(len(buffer) for buffer in records), flexible=self._flexible))
        if records:
            self._flush()
            self._buffers += records

    def _flush(self) -> None:
        if self._pieces:
            self._buffers.append(b"".join(self._pieces))
            self._pieces = []


def _partition_tail(fetched: FetchedPartition) -> bytes:
    fields: list[tuple[int, bytes]] = []
    if (diverging := fetched.diverging_epoch) is not None:
        fields.append((0, EPOCH_END.pack(diverging.epoch, diverging.end_offset) + NO_TAGS))
    if fetched.current_leader is not None:
        fields.append((1, fetched.current_leader.encoded()))
    if (snapshot_id := fetched.snapshot_id) is not None:
        fields.append((2, SNAPSHOT_ID.pack(snapshot_id.end_offset, snapshot_id.epoch) + NO_TAGS))
    return tagged_fields(fields) if fields else NO_TAGS
