"""The cluster image: what every node knows of brokers, topics and partitions after a given entry of the metadata log.

An image never changes; `metadata/replay.py` makes the next one. The maps are persistent (hash array mapped tries), so that an
image costs nothing to keep, to share between threads, and to speculate on.
"""

from dataclasses import dataclass, field
from uuid import UUID

from immutables import Map

NO_LEADER = -1
CLUSTER_DEFAULT = ""  # the config resource name that stands for every broker


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Broker:
    """A registered broker. Each registration gets a greater `broker_epoch` than any before: so a dead process is told apart."""

    node_id: int
    broker_epoch: int
    incarnation_id: UUID  # drawn anew at each start of the process
    storage_id: UUID  # drawn when the data directory was formatted: another one means another disk
    kafka: Endpoint  # as clients reach it
    peer: Endpoint  # as nodes reach it
    rack: str | None
    fenced: bool  # leads nothing, is in no in-sync set, is not shown to clients
    in_shutdown: bool  # asked for a controlled shutdown: leads nothing any more


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Where one partition lives and who leads it. `replicas` is in order of preference."""

    topic_id: UUID
    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]  # sorted
    elr: tuple[
        int, ...
    ]  # eligible leader replicas (KIP-966): left the ISR when it was under min ISR, so they hold all that is committed
    leader: int  # NO_LEADER while none can be elected
    leader_epoch: int  # rises with each election
    partition_epoch: int  # rises with each change of this state
    adding: tuple[int, ...] = ()  # sorted; replicas that a reassignment brings (KIP-455)
    removing: tuple[int, ...] = ()  # sorted; replicas that go once all others are in sync

    @property
    def is_moving(self) -> bool:
        """A reassignment is under way: `replicas` is the union of where the partition was and where it is to be."""
        return bool(self.adding or self.removing)

    @property
    def original(self) -> tuple[int, ...]:
        """Where the partition was before its reassignment; all replicas if there is none."""
        return tuple(node for node in self.replicas if node not in self.adding)

    @property
    def target(self) -> tuple[int, ...]:
        """Where the partition is to be; all replicas if there is no reassignment."""
        return tuple(node for node in self.replicas if node not in self.removing)


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    topic_id: UUID
    partitions: Map[int, PartitionState] = field(default_factory=Map)


@dataclass(frozen=True, slots=True)
class Image:
    cluster_id: str
    index: int = 0  # of the last metadata log entry that is in it
    brokers: Map[int, Broker] = field(default_factory=Map)
    topics: Map[str, Topic] = field(default_factory=Map)
    topic_names: Map[UUID, str] = field(default_factory=Map)
    topic_configs: Map[str, Map[str, str]] = field(default_factory=Map)
    broker_configs: Map[str, Map[str, str]] = field(default_factory=Map)  # by node id in decimal, or CLUSTER_DEFAULT
    group_configs: Map[str, Map[str, str]] = field(default_factory=Map)  # by group id; the group need not exist
    next_producer_id: int = 0
    next_broker_epoch: int = 1

    def topic(self, name: str) -> Topic | None:
        return self.topics.get(name)

    def partition(self, name: str, partition: int) -> PartitionState | None:
        topic = self.topics.get(name)
        return topic.partitions.get(partition) if topic else None

    def broker(self, node_id: int) -> Broker | None:
        return self.brokers.get(node_id)

    def is_live(self, node_id: int) -> bool:
        broker = self.brokers.get(node_id)
        return broker is not None and not broker.fenced
