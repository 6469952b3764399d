"""What producers send: keys, bodies and the partitions they go to, drawn from a seed or taken from real order lines."""

import os
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kafka.partitioner.default import murmur2

from tests.events import made_up, order_lines

REAL_EVENTS = "QUORUMLOG_REAL_EVENTS"
BODY_BYTES_MAX = 300
LARGE_BODY_BYTES = 8_000
LARGE_ONE_IN = 200
NO_KEY_GIVEN = b"nobody"  # clients differ in whether an empty key picks a partition


@dataclass(frozen=True, slots=True)
class Piece:
    """A record before it has its name. `is_placed`: the client is told the partition; otherwise the key picks it."""

    partition: int
    key: bytes | None
    body: bytes
    is_placed: bool


def unkeyed(rng: random.Random, partitions: Sequence[int]) -> Iterator[Piece]:
    """Without keys, spread over some partitions."""
    while True:
        size = LARGE_BODY_BYTES if rng.randrange(LARGE_ONE_IN) == 0 else rng.randint(0, BODY_BYTES_MAX)
        yield Piece(rng.choice(partitions), None, rng.randbytes(size // 2).hex().encode(), is_placed=True)


def keyed(partition_count: int, is_mine: Callable[[bytes], bool]) -> Iterator[Piece]:
    """Those order lines over and over whose key is this process's, so that the order within a key is its own order."""
    while True:
        path = os.environ.get(REAL_EVENTS, "")
        for given, body in order_lines(path) if os.path.isfile(path) else made_up(1_000_000):
            key = given or NO_KEY_GIVEN
            if is_mine(key):
                yield Piece(partition_of(key, partition_count), key, body, is_placed=False)


def share_of(key: bytes, share_count: int) -> int:
    """Which of several processes sends a key."""
    return zlib.crc32(key) % share_count


def partition_of(key: bytes, partition_count: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partition_count
