"""Consumer groups of both protocols, each on a topic that producers write to."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from .group_members import Asker, GroupMember
from .group_watch import GroupWatch, Key

CLASSIC, CONSUMER = "classic", "consumer"
SESSION_MS = 6_000
LOOK_EVERY_S = 0.1
ENDS_S = 5.0


@dataclass(frozen=True, slots=True)
class GroupKind:
    """`protocol` as librdkafka has it; `reads` is one of `kinds.py`."""

    protocol: str
    reads: str
    members: int = 2


GROUPS = (GroupKind(CLASSIC, "unkeyed"), GroupKind(CONSUMER, "keyed"))


def settings_of(bootstrap: str, group: str, protocol: str) -> dict[str, object]:
    """In the protocol of KIP-848 the coordinator sets sessions and heartbeats."""
    settings: dict[str, object] = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 200,
        "fetch.error.backoff.ms": 100,
        "socket.timeout.ms": 2_000,
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 5_000,
        "log_level": 0,
    }
    if protocol == CLASSIC:
        settings |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 1_000,
        }
    return settings


class Group:
    """Owned by `Running`. The first member stays, the others come and go; somebody outside asks what is committed."""

    def __init__(
        self, kind: GroupKind, topic: str, *, bootstrap: str, partitions: int, rng: random.Random, now: Callable[[], float]
    ) -> None:
        name = f"{kind.protocol}-group-of-{topic}"
        self.protocol = kind.protocol
        self.watch = GroupWatch(name, topic, partitions, now)
        self._settings = settings_of(bootstrap, name, kind.protocol)
        members = (
            GroupMember(place, self.watch, topic, self._settings, stays=place == 0, rng=random.Random(rng.getrandbits(64)))
            for place in range(kind.members)
        )
        self.threads: list[GroupMember | Asker] = [*members, Asker(self.watch, settings_of(bootstrap, name, CLASSIC))]

    def read_to_the_end(self, deadline: float) -> list[str]:
        """Wait, up to a moment of `time.monotonic`, until all there is is processed and committed; what is missing."""
        missing: str | None = "the ends of its partitions are not known"
        ends: dict[Key, int] = {}
        while missing is not None and time.monotonic() < deadline:
            ends = ends or self._ends()
            missing = self.watch.missing(ends) if ends else missing
            time.sleep(LOOK_EVERY_S)
        return [] if missing is None else [f"group {self.watch.name}: {missing}"]

    def leave(self) -> None:
        for thread in self.threads:
            thread.finish()

    def _ends(self) -> dict[Key, int]:
        """Empty while nobody says it."""
        consumer = Consumer(self._settings)
        try:
            return {key: consumer.get_watermark_offsets(TopicPartition(*key), timeout=ENDS_S)[1] for key in self.watch.keys}
        except KafkaException:
            return {}
        finally:
            consumer.close()
