"""What this node's leaders want of the controller: other in-sync sets, and to be rid of damage."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from quorumlog.metadata.requests import AlterIsr, AlterIsrReply, IsrResult, ReportDamage, ReportDamageReply
from quorumlog.node import isr_updates
from quorumlog.node.cluster import ClusterView
from quorumlog.node.isr_updates import DAMAGE_RETRY_S, IsrUpdates
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.partition import Role
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from tests.metadata.given import broker_record, image_of, state
from tests.node.virtual import LoopClock, run

INTERVAL_S = 0.1
TOPIC_ID = UUID(int=0x70)


@dataclass(eq=False)
class FakePartition:
    """Wants what the test says, until it is proposed."""

    index: int
    role: Role = Role.LEADER
    isr: tuple[int, ...] = (1, 2)
    wanted: tuple[int, ...] | None = None
    proposed: list[tuple[int, ...]] = field(default_factory=list)
    refused: int = 0
    leader_epoch: int = 4
    partition_epoch: int = 8
    topic_id: UUID = TOPIC_ID

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition("events", self.index)

    def isr_wanted(self, _now: float) -> tuple[int, ...] | None:
        return self.wanted

    def isr_proposed(self, isr: tuple[int, ...], _now: float) -> None:
        self.proposed.append(isr)
        self.wanted = None

    def isr_refused(self) -> None:
        self.refused += 1


class FakeController:
    """Accepts every in-sync set, or answers with the error that it was given."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.unreachable = False
        self.code = ErrorCode.none
        self.excluded = True

    async def request(self, request: Any, *, timeout_s: float) -> Any:
        self.requests.append(request)
        await asyncio.sleep(0.01)
        if self.unreachable:
            raise ClusterError(ErrorCode.request_timed_out, f"nobody within {timeout_s}")
        if isinstance(request, ReportDamage):
            return ReportDamageReply(self.excluded, state((1, 2, 3)))
        assert isinstance(request, AlterIsr)
        return AlterIsrReply(tuple(self._result(one) for one in request.partitions))

    def _result(self, one: Any) -> IsrResult:
        accepted = self.code is ErrorCode.none
        return IsrResult(one.topic_id, one.partition, self.code, "so", state((1, 2, 3), isr=one.new_isr) if accepted else None)


class Stage:
    """Node 1, in broker epoch 7, leads some of three partitions."""

    def __init__(self) -> None:
        self.partitions = [FakePartition(index) for index in range(3)]
        self.controller = FakeController()
        self.cluster = ClusterView("test")
        self.cluster.publish(image_of(), None)
        self.session = SimpleNamespace(broker_epoch=7)
        self.fatal: list[BaseException] = []
        self.told_again: list[Any] = []
        by_id = {(TOPIC_ID, one.index): one for one in self.partitions}
        replicas: Any = SimpleNamespace(node_id=1, by_id=by_id, on_damage=None, damage_refused=self.told_again.append)
        leaders: Any = SimpleNamespace(broker_epoch_of=lambda _partition, node: 100 + node)
        controller: Any = self.controller
        session: Any = self.session
        self.replicas = replicas
        tasks = Tasks(self.fatal.append)
        self.updates = IsrUpdates(replicas, leaders, self.cluster, controller, session, LoopClock(), tasks, interval_s=INTERVAL_S)
        self.updates.start()

    @property
    def proposals(self) -> list[list[tuple[int, tuple[int, ...]]]]:
        """(partition, in-sync set), request by request."""
        asked = [one for one in self.controller.requests if isinstance(one, AlterIsr)]
        return [[(one.partition, one.new_isr) for one in request.partitions] for request in asked]


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        await script(stage)
        await stage.updates.close()
        assert not stage.fatal

    run(main())


def test_all_wishes_go_in_one_request() -> None:
    """With the epochs that the controller judges by; partitions that wish nothing, or follow, are left out."""

    async def script(stage: Stage) -> None:
        stage.partitions[0].wanted = (1, 2, 3)
        stage.partitions[1].wanted = (1, 3)
        stage.partitions[1].role = Role.FOLLOWER
        stage.partitions[2].wanted = (1,)
        await asyncio.sleep(1)
        assert stage.proposals == [[(0, (1, 2, 3)), (2, (1,))]]
        (request,) = stage.controller.requests
        assert (request.node_id, request.broker_epoch) == (1, 7)
        first = request.partitions[0]
        assert (first.leader_epoch, first.partition_epoch, first.broker_epochs) == (4, 8, (7, 102, 103))
        assert stage.partitions[0].proposed == [(1, 2, 3)]
        assert stage.partitions[1].proposed == []

    play(script)


def test_nobody_is_proposed_whom_the_controller_would_refuse() -> None:
    """Who is fenced, unknown or about to stop; as soon as it is live it is proposed."""

    async def script(stage: Stage) -> None:
        stage.cluster.publish(image_of([1, 2, broker_record(3, 3, fenced=True)]), None)
        stage.partitions[0].wanted = (1, 2, 3)
        stage.partitions[1].wanted = (1, 2, 9)
        stage.partitions[2].wanted = (1,)
        await asyncio.sleep(0.5)
        assert stage.proposals == [[(2, (1,))]]
        stage.cluster.publish(image_of(), None)
        await asyncio.sleep(0.5)
        assert stage.proposals[1:] == [[(0, (1, 2, 3))]]

    play(script)


def test_nothing_is_asked_before_we_are_registered() -> None:
    """The controller would refuse it."""

    async def script(stage: Stage) -> None:
        stage.session.broker_epoch = -1
        stage.partitions[0].wanted = (1,)
        await asyncio.sleep(1)
        assert stage.controller.requests == []
        stage.session.broker_epoch = 8
        await asyncio.sleep(0.5)
        assert stage.controller.requests[0].broker_epoch == 8

    play(script)


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        (ErrorCode.ineligible_replica, 1),
        (ErrorCode.invalid_request, 1),
        (ErrorCode.fenced_leader_epoch, 0),
        (ErrorCode.invalid_update_version, 0),
    ],
)
def test_only_a_final_refusal_ends_the_counting_of_a_proposal(code: ErrorCode, refused: int) -> None:
    """One for a stale epoch may answer a repeat of a proposal that was committed."""

    async def script(stage: Stage) -> None:
        stage.controller.code = code
        stage.partitions[0].wanted = (1, 2, 3)
        await asyncio.sleep(0.5)
        assert stage.partitions[0].refused == refused

    play(script)


def test_no_answer_is_no_refusal() -> None:
    """The change may still be committed; the partition decides when to propose again, and then it is."""

    async def script(stage: Stage) -> None:
        stage.controller.unreachable = True
        stage.partitions[0].wanted = (1, 2, 3)
        await asyncio.sleep(0.5)
        assert (stage.partitions[0].refused, len(stage.proposals)) == (0, 1)
        stage.controller.unreachable = False
        stage.partitions[0].wanted = (1, 2, 3)
        await asyncio.sleep(0.5)
        assert len(stage.proposals) == 2

    play(script)


def test_a_request_has_so_many_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others come with the next one."""
    monkeypatch.setattr(isr_updates, "PROPOSALS_MAX", 2)

    async def script(stage: Stage) -> None:
        for partition in stage.partitions:
            partition.wanted = (1,)
        await asyncio.sleep(1)
        assert [len(request) for request in stage.proposals] == [2, 1]

    play(script)


def test_damage_is_reported_until_it_is_heard() -> None:
    """A lost report is sent again; where no other replica is complete it is told again later, since one may come back."""

    async def script(stage: Stage) -> None:
        stage.controller.unreachable = True
        stage.replicas.on_damage(stage.partitions[1])
        await asyncio.sleep(0.5)
        assert len(stage.controller.requests) > 1
        stage.controller.unreachable = False
        await asyncio.sleep(0.5)
        count = len(stage.controller.requests)
        await asyncio.sleep(0.5)
        assert len(stage.controller.requests) == count
        assert stage.controller.requests[-1] == ReportDamage(1, 7, TOPIC_ID, 1)
        assert stage.told_again == []
        stage.controller.excluded = False
        stage.replicas.on_damage(stage.partitions[2])
        await asyncio.sleep(DAMAGE_RETRY_S - 1)
        assert stage.told_again == []
        await asyncio.sleep(2)
        assert stage.told_again == [stage.partitions[2]]

    play(script)
