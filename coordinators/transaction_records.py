"""The records of `__transaction_state`, in Apache Kafka's own format.

Everything is big-endian. In version 0 `text` is an int16 length and UTF-8, an array an int32 count and its items; in version 1
both have varints of their length plus one, and each struct ends with tags.

    key    int16 0 | text transactional id                                                    (version 0 only)
    value  int16 version | int64 producer id | int16 epoch | int32 timeout ms | int8 state | ?partitions of:
               text topic | int32 array partitions
           | int64 last update ms | int64 start ms
           | v1 tags: 0 int64 previous producer id, 1 int64 next producer id, 2 int16 client transaction version

A value of None is a tombstone: the id has expired. Version 1 is written, tags only where they are not the default.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.cursor import Cursor, DecodeError
from quorumlog.wire.encoding import count, text, unsigned_varint
from quorumlog.wire.ids import TopicPartition

from .results import LogRecord
from .transaction_state import NO_PRODUCER, Transaction, TransactionState

VALUE_VERSION, VALUE_VERSION_MAX = 1, 1
FLEXIBLE_VERSION = 1
KEY_VERSION = 0
NULL_ARRAY, NO_TAGS = b"\0", b"\0"
PREVIOUS_PRODUCER_TAG, NEXT_PRODUCER_TAG, CLIENT_VERSION_TAG = 0, 1, 2

INT16 = struct.Struct(">h")
INT32 = struct.Struct(">i")
INT64 = struct.Struct(">q")
HEAD = struct.Struct(">hqhib")
TIMES = struct.Struct(">qq")


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """`transaction` None is a tombstone."""

    transactional_id: str
    transaction: Transaction | None


def encode_transaction(record: TransactionRecord) -> LogRecord:
    key = INT16.pack(KEY_VERSION) + text(record.transactional_id, flexible=False)
    return LogRecord(key, None if record.transaction is None else _encode_value(record.transaction))


def decode_transaction(key: bytes, value: bytes | None) -> TransactionRecord | None:
    """None for a kind that this version does not know. Raises CorruptRecord."""
    try:
        cursor = Cursor(key)
        if cursor.int16("version") != KEY_VERSION:
            return None
        transactional_id = cursor.required_text(flexible=False, name="transactional id")
        cursor.finish()
        return TransactionRecord(transactional_id, None if value is None else _decode_value(value))
    except (struct.error, UnicodeDecodeError, DecodeError, ValueError) as error:
        raise CorruptRecord(f"transaction record with key {key[:100]!r}: {error}") from None


def _encode_value(transaction: Transaction) -> bytes:
    head = HEAD.pack(VALUE_VERSION, transaction.producer_id, transaction.epoch, transaction.timeout_ms, transaction.state)
    times = TIMES.pack(transaction.update_ms, transaction.start_ms)
    return b"".join((head, _encode_partitions(transaction), times, _encode_tags(transaction)))


def _encode_partitions(transaction: Transaction) -> bytes:
    if transaction.state is TransactionState.EMPTY:
        return NULL_ARRAY
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(partition)
    pieces = [count(len(topics), flexible=True)]
    for topic, partitions in topics.items():
        pieces += (text(topic, flexible=True), count(len(partitions), flexible=True))
        pieces += (INT32.pack(partition) for partition in partitions)
        pieces.append(NO_TAGS)
    return b"".join(pieces)


def _encode_tags(transaction: Transaction) -> bytes:
    tags = [
        (PREVIOUS_PRODUCER_TAG, INT64, transaction.previous_producer_id, NO_PRODUCER),
        (NEXT_PRODUCER_TAG, INT64, transaction.next_producer_id, NO_PRODUCER),
        (CLIENT_VERSION_TAG, INT16, transaction.client_version, 0),
    ]
    told = [(tag, layout.pack(value)) for tag, layout, value, default in tags if value != default]
    pieces = [unsigned_varint(tag) + unsigned_varint(len(data)) + data for tag, data in told]
    return unsigned_varint(len(told)) + b"".join(pieces)


def _decode_value(value: bytes) -> Transaction:
    cursor = Cursor(value, items_max=len(value))
    version = cursor.int16("version")
    if not 0 <= version <= VALUE_VERSION_MAX:
        raise CorruptRecord(f"transaction of version {version}: this node reads versions 0 to {VALUE_VERSION_MAX}")
    flexible = version >= FLEXIBLE_VERSION
    producer_id, epoch = cursor.int64("producer id"), cursor.int16("epoch")
    timeout_ms, state = cursor.int32("timeout"), TransactionState(cursor.int8("state"))
    partitions = frozenset(_decode_partitions(cursor, flexible))
    update_ms, start_ms = cursor.int64("last update"), cursor.int64("start")
    tags = _decode_tags(cursor) if flexible else {}
    cursor.finish()
    return Transaction(
        producer_id,
        epoch,
        timeout_ms,
        state,
        partitions,
        start_ms,
        update_ms,
        previous_producer_id=_tag(tags, PREVIOUS_PRODUCER_TAG, INT64, NO_PRODUCER),
        next_producer_id=_tag(tags, NEXT_PRODUCER_TAG, INT64, NO_PRODUCER),
        client_version=_tag(tags, CLIENT_VERSION_TAG, INT16, 0),
    )


def _decode_partitions(cursor: Cursor, flexible: bool) -> Iterator[TopicPartition]:
    topics = max(0, cursor.length(flexible=flexible, name="topics"))  # null of one that has not begun
    for _ in range(cursor.claim_items(topics, 2, "topics")):
        topic = cursor.required_text(flexible=flexible, name="topic")
        for _ in range(cursor.count(flexible=flexible, item_bytes_min=4, name="partitions")):
            yield TopicPartition(topic, cursor.int32("partition"))
        if flexible:
            cursor.skip_tags()


def _decode_tags(cursor: Cursor) -> dict[int, bytes]:
    return {tag: cursor.blob(cursor.end - cursor.position, "tag") for tag in cursor.tags()}


def _tag(tags: dict[int, bytes], tag: int, layout: struct.Struct, default: int) -> int:
    return int(layout.unpack(tags[tag])[0]) if tag in tags else default
