"""Tests of the group coordinator's shell: real partitions on a simulated disk, virtual time, and a follower moved by hand."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.coordinators.results import Body, LogRecord, Reply, Request, Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.node.cluster import ClusterView
from quorumlog.node.config import NodeConfig
from quorumlog.node.controller_link import ControllerClient
from quorumlog.node.group_coordinator import READ_PAUSE_S, READ_WAIT_MAX_S, GroupCoordinator, partition_of
from quorumlog.node.group_coordinator_log import batches_of, replay_batches
from quorumlog.node.group_coordinator_replies import Answer
from quorumlog.node.replicas import Replicas
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.partition import Partition, PartitionSettings, Position
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from tests.node.virtual import LoopClock, run, turns
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

T = TypeVar("T")
OFFSETS_ID, TOPIC_ID, INCARNATION = UUID(int=1), UUID(int=2), UUID(int=11)
PLACE = Endpoint("localhost", 9092)
GROUP, OTHER = "g", "h"  # in partitions 1 and 0 of 2
NODES = (1, 2)


class InlineWorker:
    """Syncs at once: when a record counts as stored is up to the follower here."""

    async def run(self, work: Callable[[], T]) -> T:
        return work()

    def close(self) -> None:
        pass


class Stage:
    """Node 1, which leads both partitions of the offsets topic; node 2 follows, and has what `follow` says."""

    def __init__(self) -> None:
        rng, clock = random.Random(1), LoopClock()
        config = NodeConfig(node_id=1, cluster_id="c", data_dir="d", voters="1@localhost:1", group_initial_rebalance_delay_ms=0)
        self.fatal: list[BaseException] = []
        self.tasks = Tasks(self.fatal.append)
        self.cluster = ClusterView("c")
        self.replicas = Replicas(
            node_id=1,
            disk=SimDisk(rng),
            store=SimStore(rng),
            clock=clock,
            flush_worker=cast(Any, InlineWorker()),
            settings=PartitionSettings(),
            broker_defaults={"min.insync.replicas": "2"},
            incarnation_id=INCARNATION,
            tasks=self.tasks,
        )
        self.cluster.subscribe(self.replicas.on_image)
        self.is_fresh = True
        self.coordinator = GroupCoordinator(
            config,
            self.cluster,
            self.replicas,
            cast(ControllerClient, None),
            clock,
            self.tasks,
            new_uuid=lambda: UUID(int=rng.getrandbits(128)),
            is_fresh=lambda: self.is_fresh,
        )
        self.clock = clock
        self.epoch = 0

    def show(
        self, *, leader: int = 1, isr: tuple[int, ...] = NODES, same_epoch: bool = False, topics: tuple[str, ...] = ("t",)
    ) -> None:
        """The next image."""
        self.epoch += not same_epoch
        old = self.cluster.image
        broker = Broker(1, 7, INCARNATION, UUID(int=20), PLACE, PLACE, None, fenced=False, in_shutdown=False)
        states = {
            index: PartitionState(OFFSETS_ID, index, NODES, isr, (), leader, self.epoch, partition_epoch=old.index + 1)
            for index in (0, 1)
        }
        read = PartitionState(TOPIC_ID, 0, (2,), (2,), (), 2, 1, partition_epoch=1)
        made = {OFFSETS_TOPIC: Topic(OFFSETS_TOPIC, OFFSETS_ID, Map(states))}
        made |= {name: Topic(name, TOPIC_ID, Map({0: read})) for name in topics}
        names = {topic.topic_id: name for name, topic in made.items()}
        image = Image("c", index=old.index + 1, brokers=Map({1: broker}), topics=Map(made), topic_names=Map(names))
        self.cluster.publish(image, None)

    def partition(self, group: str = GROUP) -> Partition:
        index = partition_of(group, self.cluster.image)
        assert index is not None
        return self.replicas.partitions[TopicPartition(OFFSETS_TOPIC, index)]

    async def follow(self, group: str = GROUP) -> None:
        """The follower has all that there is now."""
        partition = self.partition(group)
        await turns()
        end, epoch = partition.log_end_offset, partition.leader_epoch
        mark = partition.high_watermark
        assert partition.on_follower_position(2, Position(epoch, end, end, -1), self.clock.now()) is None
        partition.on_follower_ack(2, epoch, end, self.clock.now())
        if partition.high_watermark != mark:
            self.replicas.on_high_watermark(partition)
        await turns()

    def commit(self, offset: int, group: str = GROUP) -> Answer:
        one = SimpleNamespace(partition_index=0, committed_offset=offset, committed_leader_epoch=-1, committed_metadata="")
        message = SimpleNamespace(
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            group_instance_id=None,
            retention_time_ms=-1,
            topics=[SimpleNamespace(name="t", partitions=[one])],
        )
        return self.coordinator.ask(
            group, lambda shard, waiter: shard.commit(_request(waiter, 8, message), self.clock.now(), self.clock.wall_ms())
        )

    def fetch(self, group: str = GROUP) -> Answer:
        message = SimpleNamespace(group_id=group, member_id=None, member_epoch=-1, topics=None)
        return self.coordinator.read_offsets(
            group, lambda shard, waiter: shard.fetch_offsets(_request(waiter, 8, message), self.clock.now())
        )

    def join(self, member_id: str = "", group: str = GROUP) -> Answer:
        protocol = SimpleNamespace(name="range", metadata=b"")
        message = SimpleNamespace(
            group_id=group,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            member_id=member_id,
            group_instance_id=None,
            protocol_type="consumer",
            protocols=[protocol],
            reason=None,
        )
        return self.coordinator.ask(
            group, lambda shard, waiter: shard.join(_request(waiter, 3, message), self.clock.now(), self.clock.wall_ms())
        )

    async def close(self) -> None:
        assert self.fatal == []
        self.coordinator.close()
        await self.replicas.close()
        await self.tasks.close()


def _request(waiter: Waiter, version: int, message: Any) -> Request:
    return Request(waiter, version, message, "client", "/10.0.0.1")


def staged(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """The scene on a node that has loaded its shards."""

    async def play() -> None:
        stage = Stage()
        stage.show()
        await turns()
        await scene(stage)
        await stage.close()

    run(play())


async def told(answer: Answer) -> str | Body:
    """The name of the refusal, or the body; "waits" if there is none yet."""
    await turns()
    if not answer.done():
        return "waits"
    outcome = answer.result()
    return outcome.code.name if isinstance(outcome, ClusterError) else outcome


async def fetched(stage: Stage, group: str = GROUP) -> int | str:
    """The committed offset, or why there is none."""
    body = await told(stage.fetch(group))
    if isinstance(body, str):
        return body
    return int(body["topics"][0]["partitions"][0]["committed_offset"]) if body["topics"] else -1


COMMITTED = {"topics": [{"name": "t", "partitions": [{"partition_index": 0, "error_code": ErrorCode.none}]}]}


# --- a reply waits for what it saw


def test_a_commit_is_answered_once_the_follower_has_it() -> None:
    async def scene(stage: Stage) -> None:
        answer = stage.commit(5)
        assert await told(answer) == "waits"
        await stage.follow()
        assert await told(answer) == COMMITTED
        assert await fetched(stage) == 5

    staged(scene)


def test_who_reads_what_is_not_committed_yet_waits_for_it() -> None:
    async def scene(stage: Stage) -> None:
        assert await fetched(stage) == -1
        stage.commit(5)
        answer = stage.fetch()
        assert await told(answer) == "waits"
        await stage.follow()
        assert cast(Body, await told(answer))["topics"][0]["partitions"][0]["committed_offset"] == 5

    staged(scene)


def test_a_refusal_waits_for_what_it_saw() -> None:
    async def scene(stage: Stage) -> None:
        stage.commit(5)
        stage.coordinator.ask(GROUP, lambda shard, waiter: shard.delete_group(GROUP, waiter))
        refusal = stage.coordinator.ask(GROUP, lambda shard, waiter: shard.delete_group(GROUP, waiter))
        assert await told(refusal) == "waits"
        await stage.follow()
        assert await told(refusal) == "group_id_not_found"

    staged(scene)


def test_what_is_not_committed_in_time_is_in_doubt() -> None:
    async def scene(stage: Stage) -> None:
        answer = stage.commit(5)
        await asyncio.sleep(4.9)
        assert await told(answer) == "waits"
        await asyncio.sleep(0.2)
        assert await told(answer) == "coordinator_not_available"
        await stage.follow()
        assert await fetched(stage) == 5

    staged(scene)


# --- shards come and go


def test_a_group_is_refused_while_its_shard_is_loaded_and_has_all_after_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.commit(5)
        await stage.follow()
        stage.show(leader=2)
        assert await fetched(stage) == "not_coordinator"
        stage.show(leader=1)
        answer = stage.commit(6)
        assert await told(answer) == "coordinator_load_in_progress"
        assert await fetched(stage) == 5

    staged(scene)


def test_everybody_who_waits_is_told_when_the_leadership_is_lost() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.join()
        await stage.follow()
        member_id = cast(Body, await told(first))["member_id"]
        parked = stage.join()  # until the first one joins anew
        commit = stage.commit(5, OTHER)
        assert (await told(parked), await told(commit)) == ("waits", "waits")
        stage.show(leader=2)
        assert (await told(parked), await told(commit)) == ("not_coordinator", "not_coordinator")
        assert await told(stage.join(member_id)) == "not_coordinator"

    staged(scene)


def test_everybody_who_waits_is_told_when_the_node_stops() -> None:
    async def scene(stage: Stage) -> None:
        commit = stage.commit(5)
        stage.coordinator.close()
        assert await told(commit) == "not_coordinator"
        assert await fetched(stage) == "not_coordinator"

    staged(scene)


def test_a_leader_that_leads_on_in_another_epoch_forgets_nobody() -> None:
    async def scene(stage: Stage) -> None:
        answer = stage.commit(5)
        stage.show(leader=1)
        assert await told(answer) == "waits"
        await stage.follow()
        assert await told(answer) == COMMITTED

    staged(scene)


def test_a_decision_that_cannot_be_logged_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """In doubt, drop and reload: what was decided before the failed append is in the state, and may not stay."""

    async def scene(stage: Stage) -> None:
        stage.commit(5)
        await stage.follow()
        waiting = stage.commit(6)
        with monkeypatch.context() as patched:
            patched.setattr(Partition, "append", _refuse_append)
            assert await told(stage.commit(7)) == "not_coordinator"
        assert await told(waiting) == "not_coordinator"
        assert await told(stage.commit(8)) == "coordinator_load_in_progress"
        assert await fetched(stage) == "waits"  # for the load
        await asyncio.sleep(1)
        answer = stage.fetch()
        assert await told(answer) == "waits"  # the sixth is in the log: it may yet be committed
        await stage.follow()
        assert await fetched(stage) == 6

    staged(scene)


def _refuse_append(*_: Any, **__: Any) -> None:
    raise ClusterError(ErrorCode.kafka_storage_error, "damaged")


def test_a_shard_that_failed_by_a_bug_is_loaded_anew() -> None:
    async def scene(stage: Stage) -> None:
        stage.commit(5)
        await stage.follow()

        def half_done(shard: GroupShard, waiter: Waiter) -> Result:
            shard._offsets.delete_group(GROUP, waiter)
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            stage.coordinator.ask(GROUP, half_done)
        await asyncio.sleep(1)
        assert await fetched(stage) == 5

    staged(scene)


def test_a_log_that_cannot_be_replayed_is_refused_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        (batch,) = batches_of([LogRecord(b"\0\1\xff", b"")], wall_ms=0, bytes_max=1 << 20)
        stage.partition().append(batch, acks=-1, now=0.0, wall_ms=0)
        stage.show(leader=2)
        stage.show(leader=1)
        await turns()
        assert await fetched(stage) == "not_coordinator"
        assert await fetched(stage, OTHER) == -1
        assert "cannot be replayed" in caplog.text

    staged(scene)


def test_the_shard_that_is_asked_for_is_loaded_first() -> None:
    async def scene(stage: Stage) -> None:
        for group in (OTHER, GROUP):  # in partitions 0 and 1
            for offset in range(3):
                stage.commit(offset, group)
            await stage.follow(group)
        stage.show(leader=2)
        order: list[int] = []
        original = stage.coordinator._led
        stage.show(leader=1)
        stage.fetch(GROUP)
        for _ in range(20):
            await asyncio.sleep(0)
            order += [index for index, led in sorted(original.items()) if led.state.value == "serving" and index not in order]
        assert order == [1, 0]

    staged(scene)


# --- what a shard needs


def test_nothing_is_decided_while_too_few_replicas_are_in_sync() -> None:
    async def scene(stage: Stage) -> None:
        stage.commit(5)
        await stage.follow()
        stage.show(isr=(1,), same_epoch=True)
        assert await told(stage.commit(6)) == "coordinator_not_available"
        assert await fetched(stage) == 5
        stage.show(same_epoch=True)
        stage.commit(7)
        await stage.follow()
        assert await fetched(stage) == 7

    staged(scene)


def test_a_deposed_leader_that_does_not_know_it_tells_no_old_offsets() -> None:
    async def scene(stage: Stage) -> None:
        stage.is_fresh = False
        answer = stage.fetch()
        assert await told(answer) == "waits"
        await asyncio.sleep(READ_WAIT_MAX_S + READ_PAUSE_S)
        assert await told(answer) == "not_coordinator"

    staged(scene)


def test_who_asks_for_offsets_waits_until_the_leader_is_sure_of_itself() -> None:
    """librdkafka asks once, and reads nothing ever after a refusal (its issue 5586)."""

    async def scene(stage: Stage) -> None:
        stage.is_fresh = False
        waiting = stage.fetch()
        assert await told(waiting) == "waits"
        stage.is_fresh = True
        await asyncio.sleep(READ_PAUSE_S)
        assert await told(waiting) == {"group_id": GROUP, "topics": []}
        stage.is_fresh = False
        moved = stage.fetch()
        stage.show(leader=2)
        await asyncio.sleep(READ_PAUSE_S)
        assert await told(moved) == "not_coordinator"

    staged(scene)


def test_a_record_that_no_batch_may_hold_costs_the_shard_and_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        def too_large(shard: GroupShard, waiter: Waiter) -> Result:
            return Result((LogRecord(b"\0\2\0\1x", bytes(2 << 20)),))

        assert await told(stage.coordinator.ask(GROUP, too_large)) == "unknown_server_error"
        await asyncio.sleep(1)
        assert await fetched(stage) == -1

    staged(scene)


def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorumlog.node.group_coordinator_replies.WAITING_MAX", 2)

    async def scene(stage: Stage) -> None:
        answers = [stage.commit(offset) for offset in range(3)]
        assert [await told(answer) for answer in answers] == ["waits", "waits", "coordinator_not_available"]
        await stage.follow()
        assert [await told(answer) for answer in answers[:2]] == [COMMITTED, COMMITTED]
        assert await fetched(stage) == 1

    staged(scene)


# --- time and the cluster


def test_a_member_that_is_silent_leaves_by_time_alone() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.join()
        await stage.follow()
        assert cast(Body, await told(first))["generation_id"] == 1
        end = stage.partition().log_end_offset
        await asyncio.sleep(30)
        assert stage.partition().log_end_offset > end
        await stage.follow()
        (answer,) = [await told(one) for one in stage.coordinator.ask_all(_groups)[1:]]
        assert [(group["group_id"], group["group_state"]) for group in cast(Body, answer)["groups"]] == [(GROUP, "Empty")]

    staged(scene)


def _groups(shard: GroupShard, waiter: Waiter) -> Result:
    return Result((), (Reply(waiter, {"groups": shard.groups()}),))


def test_offsets_of_a_deleted_topic_go_also_when_nothing_could_be_logged_at_that_time() -> None:
    async def scene(stage: Stage) -> None:
        stage.commit(5)
        await stage.follow()
        stage.show(isr=(1,), same_epoch=True)
        stage.show(isr=(1,), same_epoch=True, topics=())
        assert await fetched(stage) == 5
        stage.show(same_epoch=True, topics=())
        await asyncio.sleep(1)
        await stage.follow()
        assert await fetched(stage) == -1

    staged(scene)


# --- where a group belongs


@pytest.mark.parametrize(
    ("group_id", "index"),
    [("", 0), ("Aa", 2112 % 50), ("BB", 2112 % 50), ("polygenelubricants", 0), ("\U0001f600", 49), ("test", 48)],
)
def test_a_group_belongs_where_kafka_puts_it(group_id: str, index: int) -> None:
    """Java's hash of "polygenelubricants" is the least number of 32 bits, which has no positive; of "test" it is 3556498."""
    states = {number: PartitionState(OFFSETS_ID, number, (1,), (1,), (), 1, 0, 0) for number in range(50)}
    image = Image("c", topics=Map({OFFSETS_TOPIC: Topic(OFFSETS_TOPIC, OFFSETS_ID, Map(states))}))
    assert partition_of(group_id, image) == index


def test_there_is_no_place_without_the_topic() -> None:
    assert partition_of("g", Image("c")) is None


# --- batches


def replayed(buffers: list[bytes]) -> list[LogRecord]:
    """What a shard that is loaded gets to see."""
    seen: list[LogRecord] = []
    shard = SimpleNamespace(replay=lambda key, value: seen.append(LogRecord(key, value)))
    replay_batches(buffers, cast(Any, shard))
    return seen


def test_records_come_back_from_as_many_batches_as_they_need() -> None:
    records = [LogRecord(b"k%d" % number, b"v" * number if number % 3 else None) for number in range(50)]
    batches = list(batches_of(records, wall_ms=7, bytes_max=400))
    assert len(batches) > 5
    assert max(map(len, batches)) <= 400
    assert replayed(batches) == records
    assert replayed([b"".join(batches)]) == records


def test_no_batch_is_made_of_nothing() -> None:
    assert list(batches_of([], wall_ms=7, bytes_max=400)) == []
