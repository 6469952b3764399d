"""Where faults are made: the target, what its clients are told of leaders and replicas, and who is meant by "the leader"."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.chaos.targets import Target, TargetError

METADATA_TIMEOUT_S = 3.0  # of one try, which may have met a node that is cut off
METADATA_TRIES_S = 20.0
EXIT_TIMEOUT_S = 10.0
POLL_S = 0.1
TRANSACTIONS_TOPIC = "__transaction_state"


class Disorder(Exception):
    """The cluster did not do what it must; the round has failed."""


class Role(StrEnum):
    """Whom a fault strikes, as drawn beforehand; which node that is turns out when it strikes."""

    LEADER = "leader"
    """The node that leads most partitions."""
    CONTROLLER = "controller"
    COORDINATOR = "coordinator"
    """The node that coordinates some of the transactions."""
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Victim:
    """A role; `number` picks the node where the role is nobody's, and other things that a fault has to choose."""

    role: Role
    number: int

    @classmethod
    def draw(cls, rng: random.Random) -> "Victim":
        return cls(rng.choice(list(Role)), rng.randrange(1 << 16))

    def __str__(self) -> str:
        return str(self.role)


@dataclass(frozen=True, slots=True)
class Place:
    """One partition as metadata has it; `leader` is -1 for none."""

    topic: str
    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]

    @property
    def key(self) -> str:
        """As histories name it."""
        return f"{self.topic}-{self.partition}"


class Stage:
    """One for a round. `lost` holds the nodes that must not come back, since their quorum's state is damaged."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.lost: set[int] = set()

    @property
    def living(self) -> tuple[int, ...]:
        return tuple(node for node in self.target.nodes if node not in self.lost)

    def places(self) -> list[Place]:
        """Every partition of every topic. Raises Disorder if no node answers for long."""
        deadline = time.monotonic() + METADATA_TRIES_S
        while True:
            try:
                return _places(self.target.bootstrap)
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise Disorder(f"no metadata within {METADATA_TRIES_S:g} s: {error}") from error

    def leader(self) -> int:
        """The node that leads most partitions, the lowest id of several."""
        counts = Counter(place.leader for place in self.places() if place.leader >= 0)
        return min(counts, key=lambda node: (-counts[node], node), default=self.target.nodes[0])

    def node_of(self, victim: Victim) -> int:
        match victim.role:
            case Role.LEADER:
                return self.leader()
            case Role.CONTROLLER:
                return self.target.active_controller()
            case Role.COORDINATOR:
                return self.coordinator(victim.number)
            case Role.RANDOM:
                return self.living[victim.number % len(self.living)]

    def coordinator(self, number: int) -> int:
        """The leader of one of the partitions that hold the states of transactions; the busiest leader while there are none."""
        leaders = [place.leader for place in self.places() if place.topic == TRANSACTIONS_TOPIC and place.leader >= 0]
        return leaders[number % len(leaders)] if leaders else self.leader()

    def others(self, node: int) -> tuple[int, ...]:
        return tuple(other for other in self.target.nodes if other != node)

    def wait_in_sync(self, timeout_s: float) -> float:
        """Wait until every replica that is not lost is in sync; the seconds it took. Raises Disorder."""
        started = time.monotonic()
        while True:
            behind = [place for place in self.places() if set(place.in_sync) != {*place.replicas} - self.lost]
            took = time.monotonic() - started
            if not behind:
                return took
            if took > timeout_s:
                shown = "; ".join(f"{place.key} led by {place.leader}, in sync {place.in_sync}" for place in behind[:6])
                raise Disorder(f"{len(behind)} partitions are not in sync {timeout_s:g} s after healing: {shown}")
            time.sleep(POLL_S)

    def wait_for(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Raises Disorder if it is not so in time."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise Disorder(f"{what}: not within {timeout_s:g} s")
            time.sleep(POLL_S)

    def has_exited(self, node: int, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Whether the node's process ends by itself in time."""
        deadline = time.monotonic() + timeout_s
        while self.target.is_running(node) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return not self.target.is_running(node)

    def starts(self, node: int) -> bool:
        """Start a node on data that may be damaged; whether it became ready. It does not run if it did not."""
        try:
            self.target.start_node(node)
        except TargetError:
            self.target.kill(node)
            return False
        return True


def _places(bootstrap: str) -> list[Place]:
    # A client of its own for each question: one that has met a silent node would ask it again.
    metadata = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=METADATA_TIMEOUT_S)
    return [
        Place(name, index, partition.leader, tuple(partition.replicas), tuple(partition.isrs))
        for name, topic in sorted(metadata.topics.items())
        for index, partition in sorted(topic.partitions.items())
    ]
