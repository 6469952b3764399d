"""How fast replicas that are not in sync may catch up, so that moved partitions leave room for the others (KIP-73).

    broker    leader.replication.throttled.rate        follower.replication.throttled.rate          bytes a second, all together
    topic     leader.replication.throttled.replicas    follower.replication.throttled.replicas      *, or partition:broker pairs

The leader holds back what it may not send; the follower asks for a pause when it has taken more than it may. Whoever is in the
in-sync set is never held back, for commits wait for it, and what it takes is not counted. A rate below that of the producers
never lets a copy catch up.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from quorumlog.metadata.broker_config import broker_value
from quorumlog.metadata.image import Image
from quorumlog.metadata.settings import LONG_MAX, split_list
from quorumlog.partitions.partition import Partition

from .replicas import Replicas

BURST_S = 0.2  # what was not used is saved for so long
PORTION_S = 0.05  # of sending at full rate: less is waited for, lest many tiny messages go
LOOK_S = 1.0  # longest wait before a changed setting shows


class TokenBucket:
    """Bytes that may go. A batch goes whole, so it may leave a debt, which is paid before the next."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate  # bytes a second
        self._level = 0.0
        self._filled_at = now

    def room(self, now: float) -> int:
        """What may go now; nothing or less while there is a debt."""
        self._level = min(self.rate * BURST_S, self._level + self.rate * (now - self._filled_at))
        self._filled_at = now
        return int(self._level)

    def take(self, size: int) -> None:
        self._level -= size

    def wait_s(self, now: float) -> float:
        """Until a portion may go."""
        missing = max(1.0, self.rate * PORTION_S) - self.room(now)
        return LOOK_S if missing > self.rate * LOOK_S else max(0.0, missing / self.rate)


class Throttle:
    """One side of replication on one node. Owned by that side, which asks before each portion."""

    def __init__(self, side: Literal["leader", "follower"], replicas: Replicas) -> None:
        self._rate_name = f"{side}.replication.throttled.rate"
        self._list_name = f"{side}.replication.throttled.replicas"
        self._replicas = replicas
        self._seen: object = None
        self._bucket: TokenBucket | None = None  # None while there is no limit

    def bucket_for(self, partition: Partition, follower: int, now: float) -> TokenBucket | None:
        """What the copying of this partition to this follower is counted in; None if nothing limits it."""
        image = self._replicas.image
        if image is None:
            return None
        self._learn(image, now)
        if self._bucket is None or follower in partition.isr or not self._is_listed(image, partition):
            return None
        return self._bucket

    def _learn(self, image: Image, now: float) -> None:
        if image.broker_configs is self._seen:
            return
        self._seen = image.broker_configs
        rate = int(broker_value(image, self._rate_name, self._replicas.broker_defaults, self._replicas.node_id))
        if rate == LONG_MAX:
            self._bucket = None
        elif self._bucket is None or self._bucket.rate != rate:
            self._bucket = TokenBucket(rate, now)  # a debt of the old rate is forgiven

    def _is_listed(self, image: Image, partition: Partition) -> bool:
        tp = partition.tp
        configs: Mapping[str, str] = image.topic_configs.get(tp.topic, {})
        listed = _pairs(configs.get(self._list_name, ""))
        return "*" in listed or f"{tp.partition}:{self._replicas.node_id}" in listed


@lru_cache(maxsize=64)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(split_list(text))
