"""What a node makes of the cluster image."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from immutables import Map

from quorumlog.host.ports import Worker
from quorumlog.host.worker import ThreadWorker
from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.node.replicas import Replicas
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.partition import Damage, Partition, PartitionSettings, Role
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from tests.partitions.stage import batch_of
from tests.sim.clock import SimClock
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

T = TypeVar("T")
TOPIC_ID, BEFORE, NOW = UUID(int=1), UUID(int=10), UUID(int=11)
TP = TopicPartition("orders", 0)


def image_of(
    incarnation_id: UUID, *, leader: int, leader_epoch: int, isr: tuple[int, ...] = (1,), elr: tuple[int, ...] = ()
) -> Image:
    """Node 1 is registered as this incarnation, and holds the one partition of `orders`, with node 2 if that is in the sets."""
    place = Endpoint("localhost", 9092)
    broker = Broker(1, 7, incarnation_id, UUID(int=20), place, place, None, fenced=False, in_shutdown=False)
    state = PartitionState(TOPIC_ID, 0, tuple({1, *isr}), isr, elr, leader, leader_epoch, partition_epoch=leader_epoch)
    return Image(
        "c",
        index=leader_epoch,
        brokers=Map({1: broker}),
        topics=Map({"orders": Topic("orders", TOPIC_ID, Map({0: state}))}),
        topic_names=Map({TOPIC_ID: "orders"}),
    )


def make_replicas(flush_worker: Worker | None = None, fatal: list[BaseException] | None = None) -> Replicas:
    rng, clock = random.Random(1), SimClock()
    return Replicas(
        node_id=1,
        disk=SimDisk(rng),
        store=SimStore(rng),
        clock=clock,
        flush_worker=flush_worker or ThreadWorker("flusher"),
        settings=PartitionSettings(),
        broker_defaults={},
        incarnation_id=NOW,
        tasks=Tasks(([] if fatal is None else fatal).append),
    )


def test_a_restarted_node_does_not_lead_by_what_was_true_of_the_process_before_it() -> None:
    """The log of metadata is replayed at the start, and says that this node leads: its old process did. Going on in the same
    epoch, without what that process had not synced, would give followers two different records at one offset."""

    async def run() -> None:
        replicas = make_replicas()
        replicas.on_image(Image("c"), image_of(BEFORE, leader=1, leader_epoch=5), None)
        assert TP not in replicas.partitions
        replicas.on_image(Image("c"), image_of(NOW, leader=1, leader_epoch=6), ())
        partition = replicas.partitions[TP]
        assert (partition.role, partition.leader_epoch) == (Role.LEADER, 6)
        await replicas.close()

    asyncio.run(run())


def test_a_damaged_replica_is_not_cut_while_it_may_still_be_elected() -> None:
    """An eligible replica counts as complete (simulator, seed 121): cut, then elected, it would lose what is committed."""

    async def run() -> None:
        replicas = make_replicas()
        reported: list[Partition] = []
        replicas.on_damage = reported.append
        replicas.on_image(Image("c"), image_of(NOW, leader=2, leader_epoch=6, isr=(2,), elr=(1,)), None)
        partition = replicas.partitions[TP]
        partition.damage = Damage(0, "rotten")
        replicas.on_image(Image("c"), image_of(NOW, leader=2, leader_epoch=7, isr=(2,), elr=(1,)), None)
        assert partition.damage is not None
        assert reported == [partition]
        replicas.on_image(Image("c"), image_of(NOW, leader=2, leader_epoch=8, isr=(2,)), None)
        assert partition.damage is None
        await replicas.close()

    asyncio.run(run())


def test_logs_of_partitions_that_are_not_ours_are_set_aside_and_kept() -> None:
    """A topic that was deleted while the node was down leaves its log behind; it is moved away, once the image is current."""

    async def run() -> None:
        replicas = make_replicas()
        replicas.on_image(Image("c"), image_of(NOW, leader=1, leader_epoch=6), None)
        disk = replicas._disk
        stray = f"gone-0-{UUID(int=99).hex}"
        disk.make_directory(f"logs/{stray}")
        disk.write_atomic(f"logs/{stray}/00000000000000000000.log", b"x")
        replicas.set_strays_aside()
        assert disk.list("logs") == [f"orders-0-{TOPIC_ID.hex}"]
        assert disk.list("stray") == [stray]
        await replicas.close()

    asyncio.run(run())


class HeldWorker:
    """Does its work when it is let go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Semaphore(0)

    async def run(self, work: Callable[[], T]) -> T:
        await self.may_go_on.acquire()
        return work()

    def close(self) -> None:
        """It holds nothing."""


def test_what_is_deleted_during_its_sync_is_not_synced_again() -> None:
    """Records came during the sync, then the topic was deleted: another round for them would be in the middle of its work when
    the files go (simulator, seed 56: the node stopped itself)."""

    async def run() -> None:
        worker, fatal = HeldWorker(), list[BaseException]()
        replicas = make_replicas(worker, fatal)
        image = image_of(NOW, leader=1, leader_epoch=6)
        replicas.on_image(Image("c"), image, ())
        partition = replicas.partitions[TP]
        for _ in range(2):
            appended = partition.append(batch_of([b"a"]), acks=1, now=0.0, wall_ms=0)
            replicas.on_appended(partition, [appended])
            await asyncio.sleep(0)
        replicas.on_image(image, replace(image, index=7, topics=Map(), topic_names=Map()), None)
        worker.may_go_on.release()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (fatal, replicas._disk.list("logs"), worker.may_go_on.locked()) == ([], [], True)
        assert replicas.flusher.rounds == 1
        await replicas.close()

    asyncio.run(run())


def moved_away(image: Image) -> Image:
    """Node 2 has it now."""
    state = replace(image.topics["orders"].partitions[0], replicas=(2,), isr=(2,), leader=2, leader_epoch=7, partition_epoch=7)
    return replace(image, index=7, topics=Map({"orders": Topic("orders", TOPIC_ID, Map({0: state}))}))


def moved_back(image: Image) -> Image:
    """Node 1 follows node 2."""
    state = replace(image.topics["orders"].partitions[0], replicas=(2, 1), partition_epoch=8)
    return replace(image, index=8, topics=Map({"orders": Topic("orders", TOPIC_ID, Map({0: state}))}))


def test_what_is_moved_away_and_back_begins_anew() -> None:
    """Files go when no sync holds them any more. Until then the partition is not opened again, or it would lose what it has just
    begun with; afterwards it is there, empty, though no further image came.
    """

    async def run() -> None:
        worker, fatal = HeldWorker(), list[BaseException]()
        replicas = make_replicas(worker, fatal)
        image = image_of(NOW, leader=1, leader_epoch=6)
        replicas.on_image(Image("c"), image, ())
        partition = replicas.partitions[TP]
        appended = partition.append(batch_of([b"a"]), acks=1, now=0.0, wall_ms=0)
        replicas.on_appended(partition, [appended])
        await asyncio.sleep(0)
        waiting = replicas.committed.reached(TP, 1)
        away = moved_away(image)
        replicas.on_image(image, away, None)
        replicas.on_image(away, moved_back(away), None)
        assert replicas.partitions == {}
        error = waiting.exception()
        assert isinstance(error, ClusterError) and error.code is ErrorCode.not_leader_or_follower
        worker.may_go_on.release()
        for _ in range(10):
            await asyncio.sleep(0)
        anew = replicas.partitions[TP]
        assert (anew.role, anew.leader_id, anew.log_end_offset, fatal) == (Role.FOLLOWER, 2, 0, [])
        assert len(replicas._disk.list("logs")) == 1
        worker.may_go_on.release()  # the new, empty files are synced as well
        await replicas.close()

    asyncio.run(run())


def test_a_leader_that_leads_on_in_a_new_epoch_keeps_its_waiters() -> None:
    """A replica was moved away: the records are where they were, and go on to be committed."""

    async def run() -> None:
        replicas = make_replicas()
        image = image_of(NOW, leader=1, leader_epoch=6, isr=(1, 2))
        replicas.on_image(Image("c"), image, ())
        appended = replicas.partitions[TP].append(batch_of([b"a"]), acks=-1, now=0.0, wall_ms=0)
        replicas.on_appended(replicas.partitions[TP], [appended])
        waiting = replicas.committed.reached(TP, 1)
        replicas.on_image(image, image_of(NOW, leader=1, leader_epoch=7), None)
        await waiting
        await replicas.close()

    asyncio.run(run())
