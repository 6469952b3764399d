"""The kinds of workload: which clients send what to a topic, and which ones read it.

- `unkeyed`: acks=all, one attempt a record, nothing idempotent. A batch goes to several keys.
- `idempotent`: acks=all, idempotent, as many attempts as it takes. One client has a process for each key, which nothing but the
  key's own troubles can hold up. So this kind is *timed*: when a key of it falls silent, it is the cluster that is silent.
- `keyed`: idempotent, the record's key picks the partition; real order lines where there are any.

Each topic has a reader that follows its tail and one that wanders.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .pieces import Piece, keyed, share_of, unkeyed

Sources = Callable[[int, random.Random], list[Iterator[Piece]]]
"""From the number of partitions: one endless source of records for each process."""


@dataclass(frozen=True, slots=True)
class Sending:
    library: str
    idempotent: bool
    sources: Sources


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    sending: tuple[Sending, ...]
    tail_reader: str
    wandering_reader: str
    is_timed: bool = False


def _mixed(count: int) -> Sources:
    """So many processes that send to every partition."""
    return lambda partitions, rng: [unkeyed(random.Random(rng.random()), range(partitions)) for _ in range(count)]


def _one_each(partitions: int, rng: random.Random) -> list[Iterator[Piece]]:
    return [unkeyed(random.Random(rng.random()), [partition]) for partition in range(partitions)]


def _share(first: int, count: int, of: int) -> Sources:
    """Processes `first` to `first + count` of `of`, who share the keys among them."""

    def sources(partitions: int, _rng: random.Random) -> list[Iterator[Piece]]:
        return [_keys_of(partitions, share, of) for share in range(first, first + count)]

    return sources


def _keys_of(partitions: int, share: int, share_count: int) -> Iterator[Piece]:
    return keyed(partitions, lambda key: share_of(key, share_count) == share)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "unkeyed",
            (Sending("confluent-kafka", False, _mixed(3)), Sending("kafka-python", False, _mixed(2))),
            tail_reader="confluent-kafka",
            wandering_reader="kafka-python",
        ),
        Kind(
            "idempotent",
            (
                Sending("confluent-kafka", True, _one_each),
                Sending("kafka-python", True, _mixed(1)),
                Sending("aiokafka", True, _mixed(1)),
            ),
            tail_reader="confluent-kafka",
            wandering_reader="aiokafka",
            is_timed=True,
        ),
        Kind(
            "keyed",
            (Sending("confluent-kafka", True, _share(0, 2, of=4)), Sending("aiokafka", True, _share(2, 2, of=4))),
            tail_reader="aiokafka",
            wandering_reader="confluent-kafka",
        ),
    )
}
