"""Whole workloads against the fake cluster, and the plans that they follow."""

import asyncio
import json
import random
from dataclasses import replace

import pytest

from quorumlog.checker.analysis import check
from quorumlog.checker.history import Outcome
from quorumlog.wire.errors import ErrorCode

from .admin import Admin
from .broker import NOBODY, Scene, run
from .plan import ClientPlan, Op, TopicPlan, WorkloadPlan, draw_workload, plan_from_dict
from .workload import Hang, Workload

LASTS_S = 4.0
TOPIC = TopicPlan("t", partitions=2, replication_factor=3)
CLIENTS = (ClientPlan("idempotent"), ClientPlan("reader", topics=("t",)), ClientPlan("admin"))


def draw(seed: int) -> WorkloadPlan:
    return draw_workload(random.Random(seed), nodes=3, lasts_s=LASTS_S, operations_per_s=30)


def plan_of(*ops: Op, clients: tuple[ClientPlan, ...] = CLIENTS, topic: TopicPlan = TOPIC) -> WorkloadPlan:
    return WorkloadPlan((topic,), clients, ops, later=(TopicPlan("later", 1, 3),))


def work(scene: Scene, plan: WorkloadPlan) -> Workload:
    return Workload(plan, scene.wire, sorted(scene.cluster.nodes), scene.rng, scene.history.append)


def run_drawn(seed: int) -> Scene:
    """Leaders move, a node is cut off for a while, another dies."""

    async def main(scene: Scene) -> None:
        workload = work(scene, draw(seed))
        running = asyncio.create_task(workload.run())
        await asyncio.sleep(1.0)
        for topic in scene.cluster.topics.values():
            scene.cluster.move(topic.partitions[0], 2)
        await asyncio.sleep(0.5)
        scene.wire.cut(3)
        await asyncio.sleep(0.5)
        scene.cluster.kill(1, successor=2)
        await asyncio.sleep(1.0)
        scene.wire.heal()
        await scene.cluster.start(1)
        await running
        await workload.finish(60)
        await asyncio.sleep(1.0)
        assert scene.wire.open_connections == 0

    return run(main, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_workload_finds_nothing_wrong_with_a_cluster_that_is_sound(seed: int) -> None:
    """Though its leaders move, its nodes die and are cut off; and everything is judged."""
    scene = run_drawn(seed)
    verdict = check(scene.history)
    assert verdict.anomalies == ()
    assert scene.errors == []
    outcomes = [operation.outcome for operation in scene.history if operation.kind == "send"]
    assert outcomes.count(Outcome.OK) > len(outcomes) / 3


def test_a_seed_repeats_itself() -> None:
    """The same history, to the last digit of every time."""
    assert run_drawn(1).history == run_drawn(1).history


def test_a_process_of_a_history_does_one_thing_at_a_time() -> None:
    """Also of clients that have several things under way."""
    ends: dict[int, float] = {}
    for operation in sorted(run_drawn(2).history, key=lambda operation: operation.invoked):
        assert operation.completed is not None
        assert operation.invoked >= ends.get(operation.process, 0.0)
        ends[operation.process] = operation.completed


def test_a_plan_is_plain_data() -> None:
    """It goes through JSON, and loses single operations."""
    plan = draw(1)
    assert plan_from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert plan.without({0, len(plan.ops) - 1}).ops == plan.ops[1:-1]
    assert [op.at for op in plan.ops] == sorted(op.at for op in plan.ops)
    values = [op.value for op in plan.ops if op.action == "send"]
    assert len(set(values)) == len(values)


def test_drawn_plans_use_everything() -> None:
    """All kinds of clients and operations, over some seeds, at about the rate that was asked for."""
    plans = [draw(seed) for seed in range(40)]
    assert {client.kind for plan in plans for client in plan.clients} == {"idempotent", "plain", "leader", "reader", "admin"}
    actions = {"send", "poll", "restart-reader", "create-topic", "delete-topic", "create-partitions"}
    assert {op.action for plan in plans for op in plan.ops} == actions
    assert all(30 * (LASTS_S - 1) <= len(plan.ops) <= 30 * LASTS_S + 120 for plan in plans)


def test_what_is_sent_to_a_topic_that_is_deleted_is_no_promise() -> None:
    """Unless the deletion is left out of the plan."""
    send = Op(0.5, 0, "send", "t", 0, value="v0")
    delete = Op(1.0, 2, "delete-topic", "t")

    def outcome(plan: WorkloadPlan) -> Outcome:
        async def main(scene: Scene) -> None:
            workload = work(scene, plan)
            await workload.run()
            await workload.finish(10)

        (sent,) = [operation for operation in run(main).history if operation.kind == "send"]
        return sent.outcome

    assert outcome(plan_of(send, delete)) is Outcome.UNKNOWN
    assert outcome(plan_of(send, delete).without({1})) is Outcome.OK
    forgetful = replace(TOPIC, configs={"retention.bytes": "1000"})
    assert not plan_of(send, topic=forgetful).keeps("t")


def test_an_acknowledged_record_that_is_gone_is_found() -> None:
    """The last reading goes to the end and has not seen it."""

    async def main(scene: Scene) -> None:
        clients = (ClientPlan("plain"), *CLIENTS[1:])
        workload = work(scene, plan_of(*(Op(0.5, 0, "send", "t", 0, value=f"v{n}") for n in range(3)), clients=clients))
        await workload.run()
        await asyncio.sleep(1)
        del scene.cluster.topics["t"].partitions[0].batches[2:]
        await workload.finish(10)

    verdict = check(run(main).history)
    assert [(anomaly.kind, anomaly.values) for anomaly in verdict.anomalies] == [("unseen", ("v2",))]


def test_a_hang_names_the_reader_that_does_not_come_to_the_end() -> None:
    """A partition stays without a leader."""

    async def main(scene: Scene) -> None:
        workload = work(scene, plan_of(Op(0.5, 1, "poll")))
        await workload.run()
        scene.cluster.move(scene.cluster.topics["t"].partitions[0], NOBODY)
        with pytest.raises(Hang, match="reader-1, process 0, asks for the ends of t-0:"):
            await workload.finish(10)

    run(main)


def test_a_hang_names_the_topic_that_nobody_creates() -> None:
    """With the last answer."""

    async def main(scene: Scene) -> None:
        scene.cluster.admin_errors = [(ErrorCode.request_timed_out, False)] * 10_000
        workload = work(scene, plan_of())
        await workload.run()
        with pytest.raises(Hang, match=r"t \(error 7"):
            await workload.finish(10)

    run(main)


def test_pending_operations_are_named() -> None:
    """A send that waits for a leader, a poll, a creation."""

    async def main(scene: Scene) -> None:
        scene.cluster.admin_errors = [(ErrorCode.none, True)] + [(ErrorCode.not_controller, False)] * 1000
        ops = (Op(0.5, 2, "create-topic", "later"), Op(0.5, 0, "send", "later", 0, value="v0"), Op(0.5, 1, "poll"))
        workload = work(scene, plan_of(*ops))
        running = asyncio.create_task(workload.run())
        await asyncio.sleep(0.6)
        pending = workload.pending()
        assert "create-topic later of 0.5 s" in pending
        assert "'v0' to later-0" in pending
        assert "the poll of 0.5 s of client 1" in pending
        running.cancel()
        await asyncio.wait({running})
        await workload.close()

    run(main)


def test_an_admin_asks_again_until_the_answer_is_clear() -> None:
    """Done, though the answer was lost, counts as done; what it cannot get done it gives up, with the reason."""

    async def main(scene: Scene) -> None:
        admin = Admin(scene.client())
        scene.cluster.admin_errors = [(ErrorCode.request_timed_out, True), (ErrorCode.none, True)] * 3
        assert (await admin.create_topic(TOPIC)).is_done
        assert (await admin.create_partitions("t", 5)).is_done
        assert len(scene.cluster.topics["t"].partitions) == 5
        assert (await admin.delete_topic("t")).is_done
        assert not scene.cluster.topics
        scene.cluster.admin_errors = [(ErrorCode.invalid_replication_factor, False)] * 1000
        answer = await admin.create_topic(TOPIC)
        assert (answer.is_done, answer.last) == (False, f"error {ErrorCode.invalid_replication_factor.value}: None")
        await admin.close()

    run(main)


def test_a_late_poll_is_left_out() -> None:
    """A reader that was held up for long does not poll for all that time afterwards."""

    async def main(scene: Scene) -> None:
        ops = [Op(0.5 + number / 1000, 1, "poll") for number in range(100)]
        workload = work(scene, plan_of(*ops))
        await workload.run()
        assert scene.loop.now < 3
        await workload.finish(10)

    run(main)
