"""The active controller's shell: decisions are pipelined, answered once committed, and forgotten where that is in doubt."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from quorumlog.metadata.controller import ControllerConfig, Decision
from quorumlog.metadata.image import Image
from quorumlog.metadata.machine import MetadataMachine
from quorumlog.metadata.requests import AllocateProducerIds, CreateTopics, CreateTopicsReply, NewTopic
from quorumlog.node import active_controller
from quorumlog.node.active_controller import ActiveController, Answer
from quorumlog.node.cluster import ClusterView
from quorumlog.raft.ports import ProposeDone, ProposeOutcome, ReadDone
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.metadata.given import image_of
from tests.node.virtual import LoopClock, run, turns

SESSION_TIMEOUT_S = 2.0


class FakeQuorum:
    """Keeps what is proposed until the test says what becomes of it; confirms leadership at once."""

    def __init__(self, cluster: ClusterView) -> None:
        self.proposed: list[tuple[bytes, ProposeDone, int | None]] = []
        self.leads = True
        self._machine = MetadataMachine("test", cluster.publish)
        self._machine.image = cluster.image

    def propose(self, command: bytes, done: ProposeDone, *, term: int | None = None) -> None:
        self.proposed.append((command, done, term))

    def read_barrier(self, done: ReadDone) -> None:
        done(self.leads)

    def commit(self) -> int:
        """The oldest proposal is committed, applied and told, in this order."""
        command, done, term = self.proposed.pop(0)
        index = self._machine.image.index + 1
        self._machine.apply(index, term or 0, command)
        done(ProposeOutcome.COMMITTED, index)
        return index

    def fail(self, outcome: ProposeOutcome = ProposeOutcome.UNKNOWN) -> None:
        self.proposed.pop(0)[1](outcome, 0)


class Scene:
    """A controller of term 4 over three live brokers."""

    def __init__(self) -> None:
        self.cluster = ClusterView("test")
        self.cluster.publish(image_of(), None)
        self.quorum = FakeQuorum(self.cluster)
        ids = iter(range(1000, 2000))
        config = ControllerConfig(session_timeout_s=SESSION_TIMEOUT_S, leader_rebalance_interval_s=0)
        quorum: Any = self.quorum
        self.controller = ActiveController(self.cluster, quorum, LoopClock(), config, new_uuid=lambda: UUID(int=next(ids)))
        self.controller.activate(4)

    def submit(self, *names: str) -> asyncio.Task[Answer]:
        request = CreateTopics(tuple(NewTopic(name, 1, 1) for name in names))
        return asyncio.get_running_loop().create_task(self.controller.submit(request))


def codes(task: asyncio.Task[Answer]) -> list[ErrorCode]:
    reply = task.result().reply
    assert isinstance(reply, CreateTopicsReply)
    return [topic.error_code for topic in reply.topics]


def scene(play: Callable[[Scene], Any]) -> None:
    async def main() -> None:
        stage = Scene()
        await play(stage)
        stage.controller.deactivate()
        await turns()

    run(main())


def test_an_answer_waits_for_its_commit() -> None:
    """Then it says up to where the metadata log must be applied for its effects to show."""

    async def play(stage: Scene) -> None:
        task = stage.submit("a")
        await turns()
        assert not task.done()
        assert [term for _, _, term in stage.quorum.proposed] == [4]
        assert "a" not in stage.cluster.image.topics
        index = stage.quorum.commit()
        assert (await task).index == index
        assert codes(task) == [ErrorCode.none]
        assert "a" in stage.cluster.image.topics

    scene(play)


def test_decisions_do_not_wait_for_each_other() -> None:
    """All are proposed at once; the second sees what the first decided, and is answered no earlier than that is committed."""

    async def play(stage: Scene) -> None:
        first, second = stage.submit("a", "b"), stage.submit("b", "c")
        await turns()
        assert len(stage.quorum.proposed) == 2
        stage.quorum.commit()
        await turns()
        assert (first.done(), second.done()) == (True, False)
        stage.quorum.commit()
        await turns()
        assert codes(second) == [ErrorCode.topic_already_exists, ErrorCode.none]

    scene(play)


def test_a_refusal_waits_for_what_it_saw() -> None:
    """A topic exists only if the decision that creates it is committed: the second request is not told so before."""

    async def play(stage: Scene) -> None:
        first, second = stage.submit("a"), stage.submit("a")
        await turns()
        assert len(stage.quorum.proposed) == 1
        assert not second.done()
        stage.quorum.commit()
        await turns()
        assert codes(first) == [ErrorCode.none]
        assert codes(second) == [ErrorCode.topic_already_exists]

    scene(play)


def test_a_request_that_is_refused_as_a_whole_changes_nothing() -> None:
    """It is told so at once."""

    async def play(stage: Scene) -> None:
        with pytest.raises(ClusterError) as refused:
            await stage.controller.submit(AllocateProducerIds(node_id=1, broker_epoch=99))
        assert refused.value.code is ErrorCode.stale_broker_epoch
        assert stage.quorum.proposed == []

    scene(play)


@pytest.mark.parametrize("outcome", [one for one in ProposeOutcome if one is not ProposeOutcome.COMMITTED])
def test_in_doubt_everything_is_dropped(outcome: ProposeOutcome) -> None:
    """One proposal that fails makes all others doubtful: everybody is told to ask again, and the next decision starts from
    what is committed."""

    async def play(stage: Scene) -> None:
        tasks = [stage.submit("a"), stage.submit("b"), stage.submit("a")]
        await turns()
        stage.quorum.fail(outcome)
        await turns()
        for task in tasks:
            with pytest.raises(ClusterError) as refused:
                task.result()
            assert refused.value.code is ErrorCode.not_controller
        assert not stage.controller.is_active
        with pytest.raises(ClusterError):
            await stage.controller.submit(CreateTopics(()))
        stage.quorum.fail(outcome)
        await turns()
        assert stage.controller.is_active
        again = stage.submit("a", "b")
        await turns()
        stage.quorum.commit()
        await turns()
        assert codes(again) == [ErrorCode.none, ErrorCode.none]

    scene(play)


def test_what_was_committed_after_all_is_seen_after_the_drop() -> None:
    """The first proposal fails, the second gets through: the controller is rebuilt with it."""

    async def play(stage: Scene) -> None:
        tasks = [stage.submit("a"), stage.submit("b")]
        await turns()
        stage.quorum.fail()
        stage.quorum.commit()
        await turns()
        assert all(task.exception() is not None for task in tasks)
        again = stage.submit("a", "b")
        await turns()
        stage.quorum.commit()
        await turns()
        assert codes(again) == [ErrorCode.none, ErrorCode.topic_already_exists]

    scene(play)


def test_whoever_is_deposed_says_so() -> None:
    """Waiting requests end, and what the quorum tells later of old proposals changes nothing."""

    async def play(stage: Scene) -> None:
        task = stage.submit("a")
        await turns()
        stage.controller.deactivate()
        await turns()
        with pytest.raises(ClusterError) as refused:
            task.result()
        assert refused.value.code is ErrorCode.not_controller
        stage.quorum.fail()
        assert not stage.controller.is_active
        with pytest.raises(ClusterError):
            await stage.controller.submit(CreateTopics(()))
        stage.controller.activate(9)
        stage.submit("b")
        await turns()
        assert [term for _, _, term in stage.quorum.proposed] == [9]

    scene(play)


def test_so_many_decisions_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back later; when one is committed there is room again."""
    monkeypatch.setattr(active_controller, "IN_FLIGHT_MAX", 3)

    async def play(stage: Scene) -> None:
        tasks = [stage.submit(name) for name in "abcd"]
        await turns()
        with pytest.raises(ClusterError) as refused:
            tasks[3].result()
        assert refused.value.code is ErrorCode.throttling_quota_exceeded
        stage.quorum.commit()
        await turns()
        again = stage.submit("d")
        await turns()
        assert len(stage.quorum.proposed) == 3
        for _ in range(3):
            stage.quorum.commit()
        await turns()
        assert codes(again) == [ErrorCode.none]

    scene(play)


def test_time_alone_decides_too() -> None:
    """Brokers that are not heard are fenced after the session timeout, by proposals that nobody asked for."""

    async def play(stage: Scene) -> None:
        await asyncio.sleep(SESSION_TIMEOUT_S - 0.1)
        while stage.quorum.proposed:
            stage.quorum.commit()
        assert fenced(stage.cluster.image) == []
        await asyncio.sleep(1.2)
        while stage.quorum.proposed:
            stage.quorum.commit()
        assert fenced(stage.cluster.image) == [1, 2, 3]

    scene(play)


def test_what_time_decided_is_proposed_before_leadership_can_be_lost() -> None:
    """The news of another leader waits right behind the timer: the decision has left by then, for the term it was made in."""

    async def play(stage: Scene) -> None:
        controller: Any = stage.controller._controller
        decide = controller.tick

        def decide_and_be_deposed(now: float) -> Decision:
            decision: Decision = decide(now)
            if decision.records:
                asyncio.get_running_loop().call_soon(stage.controller.deactivate)
            return decision

        controller.tick = decide_and_be_deposed
        await asyncio.sleep(SESSION_TIMEOUT_S + 1.2)
        assert [term for _, _, term in stage.quorum.proposed] == [4]
        assert not stage.controller.is_active

    scene(play)


def test_a_process_that_is_gone_is_fenced_without_waiting() -> None:
    """Only that broker, and only while we are the controller."""

    async def play(stage: Scene) -> None:
        gone = asyncio.create_task(stage.controller.on_process_gone(2))
        await turns()
        stage.quorum.commit()
        await gone
        assert fenced(stage.cluster.image) == [2]
        stage.controller.deactivate()
        await stage.controller.on_process_gone(1)
        assert stage.quorum.proposed == []

    scene(play)


def fenced(image: Image) -> list[int]:
    return sorted(node for node, broker in image.brokers.items() if broker.fenced)
