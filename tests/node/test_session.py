"""A broker's session with the controller: in, alive, and out again. (What rests on it: test_freshness.py.)"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from quorumlog.host.ports import PeerStream
from quorumlog.metadata.codec import decode_request, encode_reply
from quorumlog.metadata.image import Endpoint, Image
from quorumlog.metadata.requests import BrokerHeartbeat, BrokerHeartbeatReply, RegisterBroker, RegisterBrokerReply, Request
from quorumlog.node.cluster import ClusterView
from quorumlog.node.controller_link import ANSWER, ANSWERED, NOT_CONTROLLER, REFUSED, SESSION, ControllerClient
from quorumlog.node.session import BrokerSession, registration_of
from quorumlog.node.tasks import Tasks
from quorumlog.wire.errors import ErrorCode
from tests.metadata.given import image_of
from tests.node.virtual import LoopClock, run
from tests.sim.peers import SimNetwork

INTERVAL_S, TIMEOUT_S = 0.3, 2.0
PLACE = Endpoint("localhost", 9092)


class FakeController:
    """What one voter answers on session streams; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.epoch = 1
        self.fenced = False
        self.leave = False
        self.refusal: tuple[ErrorCode, str] | None = None
        self.elsewhere: int | None = None
        self.garbage: bytes | None = None
        self.silent = False

    @property
    def heartbeats(self) -> list[BrokerHeartbeat]:
        return [one for one in self.asked if isinstance(one, BrokerHeartbeat)]

    async def serve(self, stream: PeerStream) -> None:
        while True:
            self.asked.append(decode_request(await stream.receive()))
            if not self.silent:
                await stream.send([self._answer(self.asked[-1])])

    def _answer(self, request: Request) -> bytes:
        if self.garbage is not None:
            return self.garbage
        if self.elsewhere is not None:
            return ANSWER.pack(NOT_CONTROLLER, self.elsewhere)
        if self.refusal is not None:
            return ANSWER.pack(REFUSED, self.refusal[0]) + self.refusal[1].encode()
        if isinstance(request, RegisterBroker):
            return ANSWER.pack(ANSWERED, 1) + encode_reply(RegisterBrokerReply(self.epoch))
        assert isinstance(request, BrokerHeartbeat)
        if request.broker_epoch != self.epoch:
            return ANSWER.pack(REFUSED, ErrorCode.stale_broker_epoch) + b"registered anew"
        leave = self.leave and request.want_shutdown
        return ANSWER.pack(ANSWERED, 1) + encode_reply(BrokerHeartbeatReply(fenced=self.fenced, may_shut_down=leave))


class Stage:
    """Node 1 is the broker; nodes 2 and 3 are the voters, 2 the controller."""

    def __init__(self) -> None:
        self.network = SimNetwork()
        self.cluster = ClusterView("test")
        self.cluster.publish(image_of(), None)
        self.controllers = {2: FakeController(), 3: FakeController()}
        self.fatal: list[BaseException] = []
        self.in_service = 0
        peers = self.network.peers(1)
        for node_id in self.controllers:
            self.revive(node_id)
        client = ControllerClient(1, [2, 3], self.cluster, peers, None)
        registration = registration_of(
            node_id=1, incarnation_id=UUID(int=5), storage_id=UUID(int=6), kafka=PLACE, peer=PLACE, rack=None
        )
        self.session = BrokerSession(
            registration, self.cluster, peers, client, LoopClock(), Tasks(self.fatal.append),
            heartbeat_interval_s=INTERVAL_S, session_timeout_s=TIMEOUT_S, on_in_service=self._on_in_service,
        )  # fmt: skip
        self.cluster.on_leader(2, 1)
        self.session.start()

    def revive(self, node_id: int) -> None:
        self.network.peers(node_id).serve_stream(SESSION, self.controllers[node_id].serve)

    def _on_in_service(self) -> None:
        self.in_service += 1


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        await script(stage)
        await stage.session.close()
        await stage.network.stop()
        assert not stage.fatal

    run(main())


def test_it_registers_and_then_shows_that_it_lives() -> None:
    """Once, and then at its interval; the heartbeat says whether we see ourselves in our image."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(3.01)
        asked = stage.controllers[2].asked
        assert isinstance(asked[0], RegisterBroker)
        assert len(stage.controllers[2].heartbeats) == len(asked) - 1 == pytest.approx(3 / INTERVAL_S, abs=2)
        assert {(one.broker_epoch, one.caught_up, one.want_shutdown) for one in asked[1:]} == {(1, True, False)}  # type: ignore[union-attr]
        assert (stage.session.broker_epoch, stage.session.fenced, stage.session.is_fresh) == (1, False, True)
        assert stage.in_service == 1

    play(script)


def test_it_is_in_a_hurry_while_it_is_kept_out() -> None:
    """Heartbeats come quicker until the controller lets us in, and service begins then."""

    async def script(stage: Stage) -> None:
        stage.controllers[2].fenced = True
        await asyncio.sleep(1.0)
        assert len(stage.controllers[2].heartbeats) > 10
        assert (stage.session.fenced, stage.in_service, stage.session.is_fresh) == (True, 0, False)
        stage.controllers[2].fenced = False
        await asyncio.sleep(0.1)
        assert (stage.session.fenced, stage.in_service) == (False, 1)

    play(script)


def test_it_is_not_caught_up_before_it_sees_itself() -> None:
    """The image lacks our registration: what was decided before it, and concerns us, is not applied yet."""

    async def script(stage: Stage) -> None:
        stage.controllers[2].epoch = 9
        await asyncio.sleep(0.5)
        assert {one.caught_up for one in stage.controllers[2].heartbeats} == {False}

    play(script)


def test_it_follows_the_controller() -> None:
    """To where a former controller points; registered it is already."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(1)
        stage.controllers[2].elsewhere = 3
        stage.cluster.on_leader(3, 2)
        await asyncio.sleep(1)
        assert len(stage.controllers[3].heartbeats) == len(stage.controllers[3].asked) >= 2
        assert stage.session.is_fresh

    play(script)


@pytest.mark.parametrize("fault", ["dies", "silent", "garbage"])
def test_it_comes_back_after_a_controller_that_fails(fault: str) -> None:
    """Dead, mute or mad: within the session timeout it asks elsewhere, and goes on when somebody answers."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(1)
        controller = stage.controllers[2]
        if fault == "dies":
            stage.network.kill(2)
        controller.silent = fault == "silent"
        controller.garbage = b"\x00" if fault == "garbage" else None
        await asyncio.sleep(0.2)
        stage.cluster.on_leader(3, 2)
        await asyncio.sleep(TIMEOUT_S + 1)
        assert stage.controllers[3].heartbeats
        assert stage.session.is_fresh

    play(script)


def test_without_a_controller_it_is_not_fresh() -> None:
    """After the session timeout another may lead what we led; nothing is said alone any more."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(1)
        for node_id in stage.controllers:
            stage.network.kill(node_id)
        await asyncio.sleep(TIMEOUT_S + 0.1)
        assert not stage.session.is_fresh
        stage.revive(2)
        await asyncio.sleep(1.5)
        assert stage.session.is_fresh

    play(script)


def test_it_registers_again_where_its_epoch_is_stale() -> None:
    """Somebody registered our id since, or the registration was lost."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(1)
        stage.controllers[2].epoch = 5
        await asyncio.sleep(1)
        assert stage.session.broker_epoch == 5
        assert sum(isinstance(one, RegisterBroker) for one in stage.controllers[2].asked) == 2

    play(script)


def test_a_refused_registration_is_tried_again() -> None:
    """At the pace of heartbeats, not in a circle."""

    async def script(stage: Stage) -> None:
        stage.controllers[2].refusal = (ErrorCode.duplicate_broker_registration, "node 1 lives")
        await asyncio.sleep(3)
        assert 5 < len(stage.controllers[2].asked) < 15
        stage.controllers[2].refusal = None
        await asyncio.sleep(1)
        assert stage.session.broker_epoch == 1

    play(script)


def test_it_asks_for_leave_before_it_stops() -> None:
    """It says so at once, and waits until its leadership is handed over; no longer than it may."""

    async def script(stage: Stage) -> None:
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, setattr, stage.controllers[2], "leave", True)
        started = loop.time()
        assert await stage.session.ask_to_stop(5.0)
        assert 0.4 < loop.time() - started < 0.7
        stage.session.may_shut_down.clear()
        stage.controllers[2].leave = False
        assert not await stage.session.ask_to_stop(1.0)

    play(script)


def test_nothing_is_confirmed_before_the_image_shows_what_the_controller_knew() -> None:
    """It may have fenced us and let us in again: until our image is as new as its answer, we may believe in an old leader."""

    async def script(stage: Stage) -> None:
        stage.cluster.publish(Image("test", index=0), ())
        await asyncio.sleep(1)
        assert not stage.session.is_fresh
        stage.cluster.publish(image_of(), ())
        await asyncio.sleep(0.1)
        assert stage.session.is_fresh

    play(script)
