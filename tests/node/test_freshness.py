"""Who may say yes alone: acks=1 rests on the controller's word that nobody else leads. It must be recent, and understood.

The scenario behind all of these: a leader stands still (SIGSTOP), others are elected, it wakes up. tests/cluster/test_pause.py
plays it with real processes.
"""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.metadata.controller import ControllerConfig
from quorumlog.metadata.image import Broker, Endpoint, Image
from quorumlog.metadata.requests import BrokerHeartbeat, BrokerHeartbeatReply, RegisterBroker, RegisterBrokerReply, Request
from quorumlog.node.active_controller import ActiveController, Answer
from quorumlog.node.cluster import ClusterView
from quorumlog.node.handlers import produce
from quorumlog.node.session import BrokerSession, registration_of
from quorumlog.node.tasks import Tasks
from quorumlog.node.waits import OffsetWaits
from quorumlog.raft.ports import ReadDone
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID, TopicPartition
from quorumlog.wire.produce import ProducedPartition
from tests.sim.clock import SimClock

PLACE = Endpoint("localhost", 9092)
TIMEOUT_S = 2.0


def image_with_broker(index: int = 5) -> Image:
    broker = Broker(1, 7, UUID(int=1), UUID(int=2), PLACE, PLACE, None, fenced=False, in_shutdown=False)
    return Image("c", index=index, brokers=Map({1: broker}))


async def turns(count: int = 20) -> None:
    """Let everything run that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeQuorum:
    """Holds read barriers back until the test answers them."""

    def __init__(self) -> None:
        self.barriers: list[ReadDone] = []

    def read_barrier(self, done: ReadDone) -> None:
        self.barriers.append(done)


def active_controller(quorum: FakeQuorum) -> ActiveController:
    cluster = ClusterView("c")
    cluster.publish(image_with_broker(), None)
    config = ControllerConfig(session_timeout_s=TIMEOUT_S, leader_rebalance_interval_s=0, broker_defaults={})
    made = ActiveController(cluster, quorum, SimClock(), config, new_uuid=lambda: UUID(int=3))  # type: ignore[arg-type]
    made.activate(1)
    return made


HEARTBEAT = BrokerHeartbeat(node_id=1, broker_epoch=7, caught_up=True, want_shutdown=False)


def test_a_controller_confirms_no_session_before_the_quorum_confirms_the_controller() -> None:
    """A heartbeat changes nothing, so no commit proves that we still lead: the quorum has to be asked."""

    async def run() -> None:
        quorum = FakeQuorum()
        controller = active_controller(quorum)
        answer = asyncio.create_task(controller.submit(HEARTBEAT))
        await turns()
        assert not answer.done()
        quorum.barriers.pop()(True)
        assert (await answer).reply == BrokerHeartbeatReply(fenced=False, may_shut_down=False)
        controller.deactivate()

    asyncio.run(run())


def test_a_controller_that_slept_through_an_election_says_so() -> None:
    """The quorum has another leader by now: the heartbeat is refused, not confirmed from memory."""

    async def run() -> None:
        quorum = FakeQuorum()
        controller = active_controller(quorum)
        answer = asyncio.create_task(controller.submit(HEARTBEAT))
        await turns()
        quorum.barriers.pop()(False)
        with pytest.raises(ClusterError) as refused:
            await answer
        assert refused.value.code is ErrorCode.not_controller
        controller.deactivate()

    asyncio.run(run())


class FakeControllerClient:
    """The controller is on this very node, and answers what the test put there."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def target(self) -> int:
        return 1

    def on_wrong_target(self, hint: int) -> None:
        """There is only one."""

    async def ask_local(self, request: Request) -> Answer:
        return Answer(RegisterBrokerReply(7), 5) if isinstance(request, RegisterBroker) else self.answer


def test_a_session_is_confirmed_only_once_the_image_shows_what_the_controller_knew() -> None:
    """A broker that was fenced and let in again may lead nothing any more: it must have applied that before it says yes alone."""

    async def run() -> None:
        cluster = ClusterView("c")
        cluster.publish(image_with_broker(index=5), None)
        registration = registration_of(
            node_id=1, incarnation_id=UUID(int=1), storage_id=UUID(int=2), kafka=PLACE, peer=PLACE, rack=None
        )
        client: Any = FakeControllerClient(Answer(BrokerHeartbeatReply(fenced=False, may_shut_down=False), index=9))
        peers: Any = None
        tasks = Tasks(lambda error: None)
        session = BrokerSession(
            registration, cluster, peers, client, SimClock(), tasks,
            heartbeat_interval_s=0.001, session_timeout_s=TIMEOUT_S, on_in_service=lambda: None,
        )  # fmt: skip
        session.start()
        await turns()
        assert not session.is_fresh
        cluster.publish(image_with_broker(index=9), None)
        await turns()
        assert session.is_fresh
        await session.close()

    asyncio.run(run())


def test_acks_1_is_not_said_by_a_node_that_slept_while_it_synced() -> None:
    """The append was taken by a leader, the sync ended after a long sleep: another may lead, and the record may be cut."""

    async def run() -> None:
        waits, tp = OffsetWaits(), TopicPartition("orders", 0)
        session = SimpleNamespace(is_fresh=True)
        services: Any = SimpleNamespace(session=session, config=SimpleNamespace(node_id=1), image=image_with_broker())
        produced = ProducedPartition(0, base_offset=3)
        outcome = produce.Outcome(0, tp, produced, stored=waits.reached(tp, 4))
        topics = [produce.TopicOutcomes("orders", NO_TOPIC_ID, [outcome])]
        answer = asyncio.create_task(produce._answer_when_stored(services, produce.LEADER, 1_000, topics))
        await turns()
        session.is_fresh = False
        waits.release(tp, 4)
        response = await answer
        assert response.topics[0].partitions[0].error_code == ErrorCode.not_leader_or_follower

    asyncio.run(run())
