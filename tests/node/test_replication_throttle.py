"""Copies to replicas that are not in sync keep to the rate that brokers and topics are given; measured on virtual time."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.node.cluster import ClusterView
from quorumlog.node.replicas import Replicas
from quorumlog.node.replication_follower import SERVICE, FollowerSide
from quorumlog.node.replication_leader import LeaderSide
from quorumlog.node.replication_throttle import BURST_S, LOOK_S, TokenBucket
from quorumlog.node.suspects import Suspects
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.partition import PartitionSettings
from quorumlog.wire.records import Record, build_batch
from tests.sim.disk import SimDisk
from tests.sim.peers import SimNetwork
from tests.sim.store import SimStore

from .virtual import LoopClock, run

T = TypeVar("T")
TOPIC_ID = UUID(int=7)
PLACE = Endpoint("localhost", 9092)
LEADER, FOLLOWER = 1, 2
BATCH_BYTES, BATCHES = 10_000, 40
RATE = 100_000
EXPECTED_S = BATCH_BYTES * BATCHES / RATE


class InlineWorker:
    async def run(self, work: Callable[[], T]) -> T:
        return work()

    def close(self) -> None:
        """It holds nothing."""


class Node:
    """The part of a node that replicates."""

    def __init__(self, network: SimNetwork, node_id: int) -> None:
        rng, clock = random.Random(node_id), LoopClock()
        self.fatal: list[BaseException] = []
        self.tasks = Tasks(self.fatal.append)
        self.replicas = Replicas(
            node_id=node_id, disk=SimDisk(rng), store=SimStore(rng), clock=clock, flush_worker=InlineWorker(),
            settings=PartitionSettings(), broker_defaults={}, incarnation_id=UUID(int=node_id), tasks=self.tasks,
        )  # fmt: skip
        peers = network.peers(node_id)
        self.leader_side = LeaderSide(self.replicas, clock=clock, message_bytes=2 * BATCH_BYTES)
        self.follower_side = FollowerSide(
            self.replicas, peers, Suspects(ClusterView("c"), peers), clock, self.tasks, ping_s=0.5
        )  # fmt: skip
        self.replicas.followers, self.replicas.leaders = self.leader_side, self.follower_side
        peers.serve_stream(SERVICE, self.leader_side.serve)

    async def close(self) -> None:
        await self.follower_side.close()
        await self.replicas.close()
        await self.tasks.close()


class Stage:
    """Node 1 leads the partitions of one topic, node 2 has to copy them; both obey these settings."""

    def __init__(self, *, partitions: int = 1, in_sync: bool = False) -> None:
        network = SimNetwork()
        self.network = network
        self.leader, self.follower = Node(network, LEADER), Node(network, FOLLOWER)
        brokers = {node: Broker(node, node, UUID(int=node), UUID(int=20), PLACE, PLACE, None, False, False) for node in (1, 2)}
        isr = (1, 2) if in_sync else (1,)
        states = {index: PartitionState(TOPIC_ID, index, (1, 2), isr, (), LEADER, 0, 0) for index in range(partitions)}
        self.image = Image(
            "c",
            index=1,
            brokers=Map(brokers),
            topics=Map({"orders": Topic("orders", TOPIC_ID, Map(states))}),
            topic_names=Map({TOPIC_ID: "orders"}),
        )

    def show(self, *nodes: Node, rates: dict[str, int], listed: dict[str, str]) -> None:
        image = replace(
            self.image,
            broker_configs=Map({"": Map({f"{who}.replication.throttled.rate": str(rate) for who, rate in rates.items()})}),
            topic_configs=Map({"orders": Map({f"{who}.replication.throttled.replicas": text for who, text in listed.items()})}),
        )
        for node in nodes or (self.leader, self.follower):
            node.replicas.on_image(self.image, image, None)

    def fill(self) -> None:
        for partition in self.leader.replicas.partitions.values():
            for _ in range(BATCHES):
                batch = build_batch([Record(offset=0, value=bytes(BATCH_BYTES - 69))])
                partition.append(batch, acks=1, now=0.0, wall_ms=1_700_000_000_000)
            self.leader.replicas.on_appended(partition, [])  # to be read from the log

    async def copied(self) -> float:
        """How long it took, in virtual seconds, until the follower has everything."""
        begun = asyncio.get_running_loop().time()
        while not self.is_copied():  # noqa: ASYNC110 - looking takes no time here
            await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time() - begun

    def is_copied(self) -> bool:
        ends = [partition.log_end_offset for partition in self.follower.replicas.partitions.values()]
        return len(ends) > 0 and all(end == BATCHES for end in ends)

    async def close(self) -> None:
        for node in (self.follower, self.leader):
            await node.close()
        await self.network.stop()
        assert self.leader.fatal == self.follower.fatal == []


def time_to_copy(
    rates: dict[str, int], listed: dict[str, str], *, partitions: int = 1, in_sync: bool = False
) -> float:  # fmt: skip
    taken = []

    async def script() -> None:
        stage = Stage(partitions=partitions, in_sync=in_sync)
        stage.show(stage.leader, rates=rates, listed=listed)
        stage.fill()
        stage.show(stage.follower, rates=rates, listed=listed)
        taken.append(await stage.copied())
        await stage.close()

    run(script())
    return taken[0]


@pytest.mark.parametrize(("side", "listed"), [("leader", "*"), ("leader", "0:1,5:9"), ("follower", "*"), ("follower", "0:2")])
def test_a_copy_takes_as_long_as_its_rate_says(side: str, listed: str) -> None:
    """Within a tenth, whichever end is limited."""
    assert time_to_copy({side: RATE}, {side: listed}) == pytest.approx(EXPECTED_S, rel=0.1)


def test_the_lower_of_both_rates_counts() -> None:
    """As kafka-reassign-partitions sets both, and an operator changes one."""
    both = {"leader": "*", "follower": "*"}
    assert time_to_copy({"leader": 3 * RATE, "follower": RATE}, both) == pytest.approx(EXPECTED_S, rel=0.15)
    assert time_to_copy({"leader": RATE, "follower": 3 * RATE}, both) == pytest.approx(EXPECTED_S, rel=0.15)


@pytest.mark.parametrize("side", ["leader", "follower"])
def test_partitions_share_the_rate(side: str) -> None:
    """Three at once take three times as long; to the follower more is under way when it asks for a pause."""
    assert time_to_copy({side: RATE}, {side: "*"}, partitions=3) == pytest.approx(3 * EXPECTED_S, rel=0.15)


@pytest.mark.parametrize(
    ("rates", "listed"),
    [
        ({"leader": RATE}, {"leader": ""}),
        ({"leader": RATE}, {"leader": "0:2,1:1"}),
        ({"follower": RATE}, {"follower": "0:1"}),
        ({"leader": RATE}, {"follower": "*"}),
        ({}, {"leader": "*", "follower": "*"}),
    ],
)
def test_who_is_not_listed_is_not_held_back(rates: dict[str, int], listed: dict[str, str]) -> None:
    """The leader's list names leaders, the follower's list followers, and a list without a rate is none."""
    assert time_to_copy(rates, listed) < 0.1


def test_a_member_of_the_in_sync_set_is_never_held_back() -> None:
    """Commits wait for it."""
    assert time_to_copy({"leader": 1, "follower": 1}, {"leader": "*", "follower": "*"}, in_sync=True) < 0.1


@pytest.mark.parametrize("side", ["leader", "follower"])
def test_a_changed_rate_shows_soon(side: str) -> None:
    """Nothing goes at 0 bytes a second; when the limit is taken away the rest comes within a look."""

    async def script() -> None:
        stage = Stage()
        stage.show(stage.leader, rates={side: 0}, listed={side: "*"})
        stage.fill()
        stage.show(stage.follower, rates={side: 0}, listed={side: "*"})
        await asyncio.sleep(60)
        assert not stage.is_copied()
        stage.show(rates={}, listed={side: "*"})
        assert await stage.copied() <= LOOK_S + 0.01
        await stage.close()

    run(script())


def test_a_bucket_saves_little_and_pays_its_debts() -> None:
    """After an hour's rest only a short burst may go; a batch that was larger than that is paid for before the next."""
    bucket = TokenBucket(1000, now=0.0)
    assert bucket.room(0.0) == 0
    assert bucket.room(3600.0) == 1000 * BURST_S
    bucket.take(5000)
    assert bucket.room(3600.0) == -4800
    assert bucket.wait_s(3600.0) == LOOK_S
    assert bucket.room(3604.0) < 0 < bucket.room(3605.0)
