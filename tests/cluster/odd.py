"""Requests that are well formed and make no sense: every API and version, with values from the edges of what a field can hold."""

from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import UUID

from quorumlog.node.api_table import API_TABLE
from quorumlog.wire.batches import HEADER_SIZE
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.records import Compression, Record, build_batch
from quorumlog.wire.schema import STRUCT, Direction, FieldSchema, StructSchema, message_schema

BITS = {"int8": 8, "int16": 16, "uint16": 16, "int32": 32, "int64": 64, "error_code": 16}
TEXTS = (
    "",
    "x",
    "nowhere",
    ".",
    "..",
    "a/b",
    "ä€😀",
    "null",
    "\x00",
    "retention.ms",
    "cleanup.policy",
    "x" * 300,
    "-1",
    "99",
    "__x",
)
# A client that sets a default for all brokers, or waits for minutes, harms itself by Kafka's own rules: no finding here.
SPECIAL: dict[str, Sequence[Any]] = {
    "max_wait_ms": (-(2**31), -1, 0, 1, 20),
    "timeout_ms": (-(2**31), -1, 0, 1, 20, 2**31 - 1),
    "resource_name": ("nowhere", "99", "x", "-1", "odd"),
    "acks": (-1, 1, -1, 1, 2, -(2**15)),
    "broker_ids": (0, 1, 2, 3, 4, -1, 2**31 - 1),
    "count": (-1, 0, 1, 3, 2**31 - 1),
    "num_partitions": (-1, 0, 1, 3, 2**31 - 1),
    "timestamp": (-1, -2, -3, -4, -5, -6, -7, 0, 1, 2**63 - 1, -(2**63)),
    "fetch_offset": (-1, 0, 1, 2**63 - 1, -(2**63)),
}


def odd_requests(random: Random, count: int, topics: dict[str, UUID]) -> list[tuple[int, int, dict[str, Any]]]:
    """(API key, version, body), the APIs and versions in turn; `topics` are those that exist."""
    offered = [(key, version) for key, api in sorted(API_TABLE.items()) for version in api.versions]
    chosen = [offered[index % len(offered)] for index in range(count)]
    return [(key, version, odd_body(random, key, version, topics)) for key, version in chosen]


def odd_body(random: Random, key: int, version: int, topics: dict[str, UUID]) -> dict[str, Any]:
    return _struct(random, message_schema(key, version, Direction.REQUEST), topics)


def _struct(random: Random, schema: StructSchema, topics: dict[str, UUID]) -> dict[str, Any]:
    return {field.name: _field(random, field, topics) for field in schema.fields if field.tag is None or random.random() < 0.5}


def _field(random: Random, field: FieldSchema, topics: dict[str, UUID]) -> Any:
    if field.is_nullable and random.random() < 0.2:
        return None
    if not field.is_array:
        return _value(random, field, topics)
    items = [_value(random, field, topics) for _ in range(random.choice((0, 1, 1, 2, 4)))]
    return items * random.choice((1, 1, 1, 2))  # repeats


def _value(random: Random, field: FieldSchema, topics: dict[str, UUID]) -> Any:
    if field.name in SPECIAL:
        return random.choice(SPECIAL[field.name])
    match field.kind:
        case _ if field.kind == STRUCT:
            assert field.items is not None
            return _struct(random, field.items, topics)
        case "string":
            return random.choice((*TEXTS, *topics))
        case "records" | "bytes":
            return odd_records(random)
        case "uuid":
            return random.choice((NO_TOPIC_ID, UUID(int=random.getrandbits(128)), *topics.values()))
        case "bool":
            return random.random() < 0.5
        case _:
            bits = BITS.get(field.kind, 32 if field.kind.endswith("i32") else 64)
            low, high = (0, 2**bits - 1) if field.kind == "uint16" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            return random.choice((low, low + 1, -1 if low else 0, 0, 1, 2, 4, high, random.randint(low, high)))


def odd_records(random: Random) -> bytes:
    """A batch, whole or broken in one of many ways."""
    records = [Record(offset=index, timestamp=random.randrange(2**40), value=b"v" * 30) for index in range(random.choice((1, 3)))]
    batch = bytearray(build_batch(records, compression=random.choice(list(Compression))))
    match random.randrange(8):
        case 0:
            return b""
        case 1:
            return bytes(batch[: random.randrange(len(batch))])
        case 2:
            batch[16] = random.choice((0, 1, 3, 255))  # magic
        case 3:
            batch[random.randrange(HEADER_SIZE)] ^= 1 << random.randrange(8)
        case 4:
            batch[8:12] = random.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"))  # length
        case 5:
            return bytes(batch) * 2
        case _:
            pass
    return bytes(batch)
