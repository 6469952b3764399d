"""What nodes tell each other about transactions, as bytes.

A leader asks the coordinator whether a partition takes part in a transaction, or to let it (KIP-890):

    question  is_adding uint8, producer id int64, epoch int16, transactional id text, partitions: count varint, then each
              topic text, partition int32
    answer    code int16 for all (then nothing follows unless it is 0), then a code int16 for each, in that order

The coordinator has the leaders append markers, each of the epoch in which it believes the leader to lead:

    markers   count varint, then for each: producer id int64, epoch int16, is_commit uint8, is_strict uint8, coordinator epoch
              int32, decision int64, partitions: count varint, then each topic id 16 bytes, partition int32, leader epoch int32
    codes     a code int16 for each partition, in that order

`text` and varints are those of Kafka's compact types.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.host.ports import PeerGone
from quorumlog.wire.cursor import RESPONSE_ITEMS_MAX, Cursor, DecodeError
from quorumlog.wire.encoding import count, text
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker

QUESTION = struct.Struct(">Bqh")
MARKER = struct.Struct(">qhBBiq")
PLACE = struct.Struct(">16sii")
INT32 = struct.Struct(">i")
CODE = struct.Struct(">h")


@dataclass(frozen=True, slots=True)
class Question:
    """By the leader of these partitions. `is_adding`: let them take part, do not only look (transactions of version 2)."""

    transactional_id: str
    producer: Producer
    is_adding: bool
    partitions: tuple[TopicPartition, ...]


class Target(NamedTuple):
    """A partition that gets a marker, and the epoch of the leader that is meant."""

    topic_id: UUID
    partition: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class MarkerOrder:
    """One transaction's markers for one node. `decision` counts those of the coordinator: see partitions/verification.py."""

    producer: Producer
    marker: Marker
    is_strict: bool
    decision: int
    targets: tuple[Target, ...]


def encode_question(question: Question) -> bytes:
    pieces = [
        QUESTION.pack(question.is_adding, *question.producer),
        text(question.transactional_id, flexible=True),
        count(len(question.partitions), flexible=True),
    ]
    for topic, partition in question.partitions:
        pieces += (text(topic, flexible=True), INT32.pack(partition))
    return b"".join(pieces)


def decode_question(data: bytes) -> Question:
    """Raises DecodeError."""
    cursor = Cursor(data, items_max=RESPONSE_ITEMS_MAX)
    is_adding, producer_id, epoch = cursor.unpack(QUESTION, "question")
    transactional_id = cursor.required_text(flexible=True, name="transactional id")
    partitions = tuple(
        TopicPartition(cursor.required_text(flexible=True, name="topic"), cursor.int32("partition"))
        for _ in range(cursor.count(flexible=True, item_bytes_min=5, name="partitions"))
    )
    cursor.finish()
    return Question(transactional_id, Producer(producer_id, epoch), bool(is_adding), partitions)


def encode_codes(codes: Sequence[int]) -> bytes:
    return struct.pack(f">{len(codes)}h", *codes)


def decode_codes(data: bytes, expected: int) -> list[ErrorCode]:
    """Raises PeerGone for bytes that are no answer: their sender is of no use to us."""
    try:
        return [ErrorCode(code) for code in struct.unpack(f">{expected}h", data)]
    except (struct.error, ValueError) as error:
        raise PeerGone(f"{len(data)} bytes that are no {expected} codes: {error}") from error


def encode_orders(orders: Sequence[MarkerOrder]) -> bytes:
    pieces = [count(len(orders), flexible=True)]
    for order in orders:
        marker = order.marker
        pieces.append(MARKER.pack(*order.producer, marker.is_commit, order.is_strict, marker.coordinator_epoch, order.decision))
        pieces.append(count(len(order.targets), flexible=True))
        pieces += (PLACE.pack(target.topic_id.bytes, target.partition, target.leader_epoch) for target in order.targets)
    return b"".join(pieces)


def decode_orders(data: bytes) -> list[MarkerOrder]:
    """Raises DecodeError."""
    cursor = Cursor(data, items_max=RESPONSE_ITEMS_MAX)
    orders = [_order(cursor) for _ in range(cursor.count(flexible=True, item_bytes_min=MARKER.size, name="markers"))]
    cursor.finish()
    return orders


def _order(cursor: Cursor) -> MarkerOrder:
    producer_id, epoch, is_commit, is_strict, coordinator_epoch, decision = cursor.unpack(MARKER, "marker")
    places = [
        cursor.unpack(PLACE, "place") for _ in range(cursor.count(flexible=True, item_bytes_min=PLACE.size, name="partitions"))
    ]
    targets = tuple(Target(UUID(bytes=topic_id), partition, leader_epoch) for topic_id, partition, leader_epoch in places)
    return MarkerOrder(
        Producer(producer_id, epoch), Marker(bool(is_commit), coordinator_epoch), bool(is_strict), decision, targets
    )


__all__ = [
    "DecodeError",
    "MarkerOrder",
    "Question",
    "Target",
    "decode_codes",
    "decode_orders",
    "decode_question",
    "encode_codes",
    "encode_orders",
    "encode_question",
]
