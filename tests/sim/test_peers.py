import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quorumlog.host.ports import PeerGone, Peers, PeerStream
from tests.sim.peers import MESSAGES_UNDER_WAY_MAX, SimNetwork

SHORT_S = 0.01


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def echo(stream: PeerStream) -> None:
    while True:
        await stream.send([await stream.receive()])


async def upper(source: int, request: bytes) -> bytes:
    return b"%d %s" % (source, request.upper())


@asynccontextmanager
async def two_nodes(delay_s: float = 0.0) -> AsyncIterator[tuple[SimNetwork, Peers]]:
    """Node 2 echoes; node 1 is yours. At the end no task is left."""
    network = SimNetwork(delay_s=delay_s)
    first, second = network.peers(1), network.peers(2)
    second.serve_stream("echo", echo)
    second.serve_call("upper", upper)
    yield network, first
    await network.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_streams_and_calls_carry_bytes() -> None:
    """Buffers arrive joined, and the handler knows who asks."""

    async def main() -> None:
        async with two_nodes() as (_network, first):
            stream = await first.connect(2, "echo", 1)
            buffer = bytearray(b"a")
            await stream.send([buffer, b"b"])
            buffer[0] = 0  # the sender's buffer is not shared
            assert await stream.receive() == b"ab"
            assert await first.call(2, "upper", b"x", 1) == b"1 X"
            await stream.close()

    run(main())


def test_closing_ends_both_sides_after_what_was_sent() -> None:
    """The other side still receives the last messages, then PeerGone."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            received: asyncio.Queue[bytes | None] = asyncio.Queue()

            async def collect(stream: PeerStream) -> None:
                try:
                    while True:
                        received.put_nowait(await stream.receive())
                except PeerGone:
                    received.put_nowait(None)

            second = network.find(2)
            assert second
            second.serve_stream("collect", collect)
            stream = await first.connect(2, "collect", 1)
            await stream.send([b"1"])
            await stream.send([b"2"])
            await stream.close()
            assert [await received.get() for _ in range(3)] == [b"1", b"2", None]
            with pytest.raises(PeerGone):
                await stream.send([b"3"])
            with pytest.raises(PeerGone):
                await stream.receive()

    run(main())


def test_a_sender_waits_for_a_slow_receiver() -> None:
    """No more than a few messages are under way."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            second = network.find(2)
            assert second
            second.serve_stream("stuck", lambda _stream: asyncio.sleep(60))
            stream = await first.connect(2, "stuck", 1)
            for _ in range(MESSAGES_UNDER_WAY_MAX):
                await stream.send([b"x"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.send([b"x"]), SHORT_S)

    run(main())


def test_a_cut_is_silent_and_healing_delivers_in_order() -> None:
    """Nothing arrives in the cut direction, the other one works, and nothing is lost in the end."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            stream = await first.connect(2, "echo", 1)
            network.cut(2, 1)
            await stream.send([b"1"])
            await stream.send([b"2"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.receive(), SHORT_S)
            for question in (first.connect(2, "echo", SHORT_S), first.call(2, "upper", b"x", SHORT_S)):
                with pytest.raises(PeerGone, match="in time"):
                    await question
            assert not await first.is_refused(2)
            network.heal()
            assert [await stream.receive(), await stream.receive()] == [b"1", b"2"]

    run(main())


def test_a_death_is_seen_at_once_unless_the_link_is_cut() -> None:
    """The port of a dead node refuses; behind a cut nobody knows until it is healed or the stream is given up."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            stream = await first.connect(2, "echo", 1)
            network.cut_both(1, 2)
            network.kill(2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.receive(), SHORT_S)
            assert not await first.is_refused(2)
            waiting = asyncio.create_task(stream.receive())
            await asyncio.sleep(0)
            network.heal()
            with pytest.raises(PeerGone, match="node 2 died"):
                await waiting
            assert await first.is_refused(2)
            with pytest.raises(PeerGone, match="refuses"):
                await first.connect(2, "echo", 1)
            network.peers(2).serve_call("upper", upper)
            assert await first.call(2, "upper", b"back", 1) == b"1 BACK"

    run(main())


def test_a_silent_link_can_be_given_up() -> None:
    """Both sides see PeerGone, cut or not."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            stream = await first.connect(2, "echo", 1)
            network.cut_both(1, 2)
            network.break_streams(1, 2)
            with pytest.raises(PeerGone, match="silent"):
                await stream.receive()

    run(main())


def test_delays_hold_messages_back_and_keep_their_order() -> None:
    """A round trip takes the delay of both directions."""

    async def main() -> None:
        async with two_nodes() as (network, first):
            stream = await first.connect(2, "echo", 1)
            network.delays_s[1, 2] = 0.02
            began = asyncio.get_running_loop().time()
            await stream.send([b"1"])
            network.delays_s[1, 2] = 0.0
            await stream.send([b"2"])
            assert [await stream.receive(), await stream.receive()] == [b"1", b"2"]
            assert asyncio.get_running_loop().time() - began >= 0.02

    run(main())


def test_a_failing_handler_ends_its_stream_or_call(caplog: pytest.LogCaptureFixture) -> None:
    """A bug on one node is PeerGone on the other."""

    async def main() -> None:
        async def broken(*_arguments: object) -> bytes:
            raise RuntimeError("a bug")

        async with two_nodes() as (network, first):
            second = network.find(2)
            assert second
            second.serve_call("broken", broken)
            with pytest.raises(PeerGone):
                await first.call(2, "broken", b"", 1)
            with pytest.raises(PeerGone, match="does not serve"):
                await first.call(2, "unknown", b"", 1)

    run(main())
    assert "RuntimeError: a bug" in caplog.text
