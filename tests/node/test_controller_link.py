"""How a node finds the active controller and talks to it, and how the controller hears that a process is gone."""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quorumlog.host.ports import PeerGone
from quorumlog.metadata.codec import decode_request, encode_reply, encode_request
from quorumlog.metadata.image import Image
from quorumlog.metadata.requests import AllocateProducerIds, AllocateProducerIdsReply, Done, Request
from quorumlog.node.active_controller import Answer
from quorumlog.node.cluster import ClusterView
from quorumlog.node.controller_link import (
    ANSWER,
    ANSWERED,
    METHOD,
    NOT_CONTROLLER,
    REFUSED,
    SESSION,
    ControllerClient,
    ControllerServer,
    NotController,
    read_answer,
)
from quorumlog.node.suspects import Suspects
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.metadata.given import broker_record, image_of
from tests.node.virtual import run, turns
from tests.sim.peers import SimNetwork

REQUEST = AllocateProducerIds(node_id=1, broker_epoch=7)
REPLY = AllocateProducerIdsReply(first=3000, count=1000)
VOTERS = [1, 2, 3]


# --- framing


def test_answers_are_read_as_they_were_meant() -> None:
    """A reply with its index, a refusal with its code and sentence, a pointer to another node."""
    assert read_answer(ANSWER.pack(ANSWERED, 12) + encode_reply(REPLY)) == Answer(REPLY, 12)
    with pytest.raises(ClusterError, match="too late") as refused:
        read_answer(ANSWER.pack(REFUSED, ErrorCode.stale_broker_epoch) + b"too late")
    assert refused.value.code is ErrorCode.stale_broker_epoch
    with pytest.raises(NotController) as elsewhere:
        read_answer(ANSWER.pack(NOT_CONTROLLER, 3))
    assert elsewhere.value.hint == 3


@given(st.binary(max_size=60))
@example(b"")
@example(ANSWER.pack(REFUSED, 30_000) + b"no such code")
@example(ANSWER.pack(ANSWERED, 1) + b"\xff" * 9)
@example(ANSWER.pack(ANSWERED, 1))
@example(ANSWER.pack(9, 1))
@example(struct.pack(">B", ANSWERED))
def test_what_is_no_answer_is_as_good_as_none(data: bytes) -> None:
    """Whatever a node says, the one that asked goes on, and asks elsewhere."""
    with contextlib.suppress(ClusterError, NotController, PeerGone):
        read_answer(data)


# --- asking


class Stage:
    """Nodes 1 to 3 are voters; node 1 asks. `controllers` answers for each node that serves."""

    def __init__(self) -> None:
        self.network = SimNetwork()
        self.cluster = ClusterView("test")
        self.asked: list[int] = []
        self.client = ControllerClient(1, VOTERS, self.cluster, self.network.peers(1), None)

    def serve(self, node_id: int, answer: Callable[[Request], bytes]) -> None:
        async def on_call(_source: int, data: bytes) -> bytes:
            self.asked.append(node_id)
            return answer(decode_request(data))

        self.network.peers(node_id).serve_call(METHOD, on_call)


def stage(play: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        made = Stage()
        await play(made)
        await made.network.stop()

    run(main())


def answered(index: int = 0) -> Callable[[Request], bytes]:
    return lambda _request: ANSWER.pack(ANSWERED, index) + encode_reply(REPLY)


def not_here(hint: int) -> Callable[[Request], bytes]:
    return lambda _request: ANSWER.pack(NOT_CONTROLLER, hint)


def test_the_quorums_leader_is_asked_first() -> None:
    """That is the active controller, nearly always."""

    async def play(made: Stage) -> None:
        made.serve(2, not_here(3))
        made.serve(3, answered())
        made.cluster.on_leader(3, 1)
        assert await made.client.request(REQUEST, timeout_s=5) == REPLY
        assert made.asked == [3]

    stage(play)


def test_a_hint_is_followed() -> None:
    """Where the quorum tells nothing, any voter points on; one that is gone or talks nonsense is left for another."""

    async def play(made: Stage) -> None:
        made.serve(2, not_here(3))
        made.serve(3, answered())
        assert await made.client.request(REQUEST, timeout_s=5) == REPLY
        assert made.asked[-1] == 3
        made.network.kill(3)
        made.serve(2, answered())
        assert await made.client.request(REQUEST, timeout_s=5) == REPLY
        assert made.asked[-1] == 2
        made.serve(2, lambda _request: b"nonsense")
        made.serve(3, answered())
        assert await made.client.request(REQUEST, timeout_s=5) == REPLY

    stage(play)


def test_a_refusal_is_no_reason_to_ask_again() -> None:
    """It comes from the controller, and is the answer."""

    async def play(made: Stage) -> None:
        made.serve(2, lambda _request: ANSWER.pack(REFUSED, ErrorCode.policy_violation) + b"no")
        made.cluster.on_leader(2, 1)
        with pytest.raises(ClusterError, match="no") as refused:
            await made.client.request(REQUEST, timeout_s=5)
        assert (refused.value.code, made.asked) == (ErrorCode.policy_violation, [2])

    stage(play)


def test_without_a_controller_the_time_runs_out() -> None:
    """No sooner and not much later; a change of leader is tried at once."""

    async def play(made: Stage) -> None:
        for node in (2, 3):
            made.serve(node, not_here(-1))
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(ClusterError) as late:
            await made.client.request(REQUEST, timeout_s=3)
        assert late.value.code is ErrorCode.request_timed_out
        assert loop.time() - started == pytest.approx(3, abs=0.01)
        assert len(made.asked) > 20

    stage(play)


def test_a_reply_waits_for_our_own_image() -> None:
    """Whoever was told of a new topic finds it here; where the image lags for long the reply comes all the same."""

    async def play(made: Stage) -> None:
        made.serve(2, answered(index=5))
        made.cluster.on_leader(2, 1)
        asking = asyncio.create_task(made.client.request(REQUEST, timeout_s=5))
        await asyncio.sleep(1)
        assert not asking.done()
        made.cluster.publish(Image("test", index=5), ())
        assert await asking == REPLY
        made.serve(2, answered(index=50))
        assert await made.client.request(REQUEST, timeout_s=5) == REPLY

    stage(play)


def test_the_controller_on_this_node_is_asked_directly() -> None:
    """No message crosses; where it is none, others are asked."""

    async def play(made: Stage) -> None:
        async def submit(_request: Request) -> Answer:
            return Answer(REPLY, 0)

        async def refuse(_request: Request) -> Answer:
            raise ClusterError(ErrorCode.not_controller, "not here")

        local: Any = SimpleNamespace(submit=submit)
        client = ControllerClient(1, VOTERS, made.cluster, made.network.peers(1), local)
        made.cluster.on_leader(1, 1)
        assert await client.request(REQUEST, timeout_s=5) == REPLY
        local.submit = refuse
        with pytest.raises(ClusterError):
            await client.request(REQUEST, timeout_s=1)
        assert made.asked == []

    stage(play)


# --- being asked


class FakeController:
    """Answers Done, or what it is told to raise."""

    def __init__(self) -> None:
        self.is_active = True
        self.gone: list[int] = []
        self.error: ClusterError | None = None

    async def submit(self, _request: Request) -> Answer:
        if self.error is not None:
            raise self.error
        return Answer(Done(), 4)

    async def on_process_gone(self, node_id: int) -> None:
        self.gone.append(node_id)


class Served:
    """Node 1 is the controller, node 2 a broker."""

    def __init__(self) -> None:
        self.network = SimNetwork()
        self.controller = FakeController()
        self.cluster = ClusterView("test")
        self.cluster.on_leader(3, 1)
        controller: Any = self.controller
        peers = self.network.peers(1)
        self.server = ControllerServer(controller, self.cluster, peers, Suspects(self.cluster, peers))
        self.server.start()
        self.broker = self.network.peers(2)


def served(play: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        made = Served()
        await play(made)
        await made.network.stop()

    run(main())


def test_every_question_gets_an_answer_of_its_kind() -> None:
    """A reply, a refusal, a pointer to the controller, and a refusal for what is no question."""

    async def play(made: Served) -> None:
        async def ask(data: bytes) -> Answer:
            return read_answer(await made.broker.call(1, METHOD, data, 1.0))

        assert await ask(encode_request(REQUEST)) == Answer(Done(), 4)
        with pytest.raises(ClusterError) as refused:
            await ask(b"\xff\xff nonsense")
        assert refused.value.code is ErrorCode.invalid_request
        made.controller.error = ClusterError(ErrorCode.policy_violation, "so not")
        with pytest.raises(ClusterError, match="so not"):
            await ask(encode_request(REQUEST))
        made.controller.error = ClusterError(ErrorCode.not_controller, "elsewhere")
        with pytest.raises(NotController) as elsewhere:
            await ask(encode_request(REQUEST))
        assert elsewhere.value.hint == 3

    served(play)


def test_a_session_whose_process_dies_is_fenced_at_once() -> None:
    """The stream ends and the port refuses: there is nothing to wait for."""

    async def play(made: Served) -> None:
        stream = await made.broker.connect(1, SESSION, 1.0)
        await stream.send([encode_request(REQUEST)])
        assert read_answer(await stream.receive()) == Answer(Done(), 4)
        made.network.kill(2)
        await asyncio.sleep(0.2)
        assert made.controller.gone == [2]

    served(play)


def test_a_session_that_ends_is_not_a_death() -> None:
    """The process answers still, or is back on another stream: the session timeout decides."""

    async def play(made: Served) -> None:
        first = await made.broker.connect(1, SESSION, 1.0)
        await first.close()
        await asyncio.sleep(0.3)
        second = await made.broker.connect(1, SESSION, 1.0)
        third = await made.broker.connect(1, SESSION, 1.0)
        await second.close()
        await asyncio.sleep(0.3)
        assert made.controller.gone == []
        await third.close()

    served(play)


def test_a_new_controller_looks_for_those_who_are_silent() -> None:
    """Brokers that the image counts as live, without a session here: those whose port refuses are fenced at once."""

    async def play(made: Served) -> None:
        made.cluster.publish(image_of([1, 2, 3, broker_record(4, 4, fenced=True)]), None)
        made.network.peers(3)
        stream = await made.broker.connect(1, SESSION, 1.0)
        await turns()
        made.network.kill(3)
        await made.server.probe_silent_brokers()
        assert made.controller.gone == [3]
        await stream.close()

    served(play)
