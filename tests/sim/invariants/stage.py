"""What the tests of the invariants stand on: production partitions and voters in the shape of nodes, moved by hand."""

import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from immutables import Map

from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.node.node import Node
from quorumlog.partitions.partition import Partition
from quorumlog.raft.quorum import Quorum
from tests.partitions.stage import TOPIC_ID, TP, Host, batch_of, joined, state_of
from tests.partitions.trio import NODES, Trio
from tests.raft.cluster import Cluster

from .sight import Sight
from .watch import Watch

KEY = (TOPIC_ID, TP.partition)
NOWHERE = Endpoint("nowhere", 1)


def image_of(index: int, *states: PartitionState, unclean: bool = False, storage: dict[int, int] | None = None) -> Image:
    """The cluster with one topic."""
    topic = Topic(TP.topic, TOPIC_ID, Map({state.partition: state for state in states}))
    configs = Map({TP.topic: Map({"unclean.leader.election.enable": "true"})}) if unclean else Map()
    brokers = {
        node: Broker(node, node, UUID(int=node), UUID(int=storage_id), NOWHERE, NOWHERE, None, False, False)
        for node, storage_id in (storage or {}).items()
    }
    return Image(
        cluster_id="c",
        index=index,
        topics=Map({TP.topic: topic} if states else {}),
        topic_names=Map({TOPIC_ID: TP.topic} if states else {}),
        topic_configs=configs if states else Map(),
        brokers=Map(brokers),
    )


def node_of(image: Image, partition: Partition | None = None, *, quorum: Quorum | None = None) -> Any:
    """As much of a node as is looked at."""
    return SimpleNamespace(
        machine=SimpleNamespace(image=image),
        replicas=SimpleNamespace(by_id={KEY: partition} if partition is not None else {}),
        controller=SimpleNamespace(_term=None) if quorum is not None else None,
        quorum=SimpleNamespace(_quorum=quorum),
        config=SimpleNamespace(broker_defaults={}),
    )


@dataclass(slots=True)
class Shown:
    """A watch, and the nodes it is shown."""

    watch: Watch = field(default_factory=Watch)
    nodes: dict[int, Any] = field(default_factory=dict)
    disks: dict[int, Any] = field(default_factory=dict)

    def sight(self, *moved: int) -> Sight:
        return Sight(0.0, cast("dict[int, Node]", self.nodes), self.disks, moved or tuple(self.nodes))

    def look(self, *moved: int) -> None:
        self.watch.look(self.sight(*moved))

    def finish(self) -> None:
        self.watch.finish(self.sight())


class Scene(Shown):
    """Three replicas of one partition, led by node 1 in epoch 1 and all in sync; nothing happens unless told."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.hosts = {n: Host(n, node_id=n, **settings) for n in NODES}
        self.partitions: dict[int, Partition] = {}
        self.index = 0
        self.unclean = False
        self.storage = {n: n for n in NODES}
        self.state = state_of(leader=1, leader_epoch=1, partition_epoch=0, isr=NODES, replicas=NODES)
        for n in NODES:
            self.disks[n] = self.hosts[n].disk
            self.start(n)
        self.decide()
        self.learn()
        self.look()

    def start(self, n: int) -> None:
        self.partitions[n] = self.hosts[n].open()
        self.nodes[n] = node_of(self.image(), self.partitions[n])

    def crash(self, n: int, *, power: bool = True) -> None:
        self.watch.on_crash(n, power=power)
        self.hosts[n].crash(power=power)
        del self.nodes[n], self.partitions[n]

    def wipe(self, n: int) -> None:
        self.crash(n)
        self.watch.on_wipe(n)
        self.hosts[n] = Host(n + 10, node_id=n)
        self.disks[n] = self.hosts[n].disk

    def image(self) -> Image:
        return image_of(self.index, self.state, unclean=self.unclean, storage=self.storage)

    def decide(self, **changes: Any) -> None:
        """The controller logs a change, and every node has applied it; no partition was told yet."""
        self.index += 1
        self.state = replace(self.state, **{"partition_epoch": self.state.partition_epoch + 1, **changes})
        self.show(self.image())

    def show(self, image: Image, *nodes: int) -> None:
        for n in nodes or self.nodes:
            self.nodes[n].machine.image = image

    def learn(self, *nodes: int) -> None:
        for n in nodes or self.partitions:
            self.partitions[n].apply_state(self.state, 0.0)

    def produce(self, n: int = 1, text: str = "a", *, followers: tuple[int, ...] = (), **producer: int) -> None:
        """One batch at a leader, synced there and at some of its followers, which acknowledge it."""
        self.partitions[n].append(batch_of([text.encode()], **producer), acks=1, now=0.0, wall_ms=1000)
        self.hosts[n].flush(self.partitions[n])
        for follower in followers:
            self.fetch(follower, n)
            self.hosts[follower].flush(self.partitions[follower])
            self.acknowledge(follower, n)

    def fetch(self, follower: int, leader: int = 1) -> None:
        source, copy = self.partitions[leader], self.partitions[follower]
        source.on_follower_position(follower, copy.position(), 0.0)
        data = joined(source.read(copy.log_end_offset, max_bytes=1 << 20, up_to_end=True).buffers)
        copy.apply_fetched(
            source.leader_epoch,
            data,
            high_watermark=source.high_watermark,
            log_start_offset=source.log_start_offset,
            wall_ms=1000,
        )

    def acknowledge(self, follower: int, leader: int = 1) -> None:
        copy = self.partitions[follower]
        self.partitions[leader].on_follower_ack(follower, copy.leader_epoch, copy.flushed_offset, 0.0)

    def commit(self, text: str = "a", **producer: int) -> None:
        """One batch on all three."""
        self.produce(1, text, followers=(2, 3), **producer)


class WatchedTrio(Trio):
    """The fuzzed trio of the partitions' tests, watched after each step."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.shown = Shown()
        self._nodes: dict[int, tuple[Partition, Any]] = {}
        super().__init__(seed, **options)

    def crash(self, n: int) -> None:
        self.shown.watch.on_crash(n, power=self.power)
        super().crash(n)

    def check(self) -> None:
        image = image_of(self.state.partition_epoch, self.state)
        self.shown.nodes.clear()
        for n, held in self.nodes.items():
            self.shown.disks[n] = held.host.disk
            if held.partition is not None:
                self.shown.nodes[n] = self._node(n, held.partition, image)
        self.shown.look()

    def check_readers(self) -> None:
        """It compares with what the trio's own check has seen committed, and that is not asked here."""

    def _node(self, n: int, partition: Partition, image: Image) -> Any:
        known = self._nodes.get(n)
        if known is None or known[0] is not partition:
            known = self._nodes[n] = (partition, node_of(image, partition))
        if known[1].machine.image.index != image.index:
            known[1].machine.image = image
        return known[1]


class WatchedVoters(Cluster):
    """Raft voters, watched after each step."""

    def __init__(self, **options: Any) -> None:
        self.shown = Shown()
        self.rng = random.Random(options.get("seed", 1))
        super().__init__(**options)
        self.shown.disks.update(self.disks)

    def start(self, voter: int) -> Quorum:
        quorum = super().start(voter)
        self.shown.nodes[voter] = node_of(image_of(0), quorum=quorum)
        self.shown.look()
        return quorum

    def kill(self, voter: int, *, power: bool = False, process_gone: bool = False) -> None:
        self.shown.watch.on_crash(voter, power=power)
        super().kill(voter, power=power, process_gone=process_gone)
        del self.shown.nodes[voter]

    def tick(self, *voters: int, seconds: float = 0.11) -> None:
        super().tick(*voters, seconds=seconds)
        self.shown.look()

    def deliver_all(self) -> None:
        super().deliver_all()
        self.shown.look()
