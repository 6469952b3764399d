"""Connections between clients and nodes in memory."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.sim.loop import LANE, Process, SimLoop
from tests.sim.pipe import WINDOW_BYTES
from tests.sim.wire import ClientStream, Delay, Direction, SimServer, SimTransport, SimWire

NODE = 1
TIMEOUT_S = 5.0
SLOWEST_S = 0.01


class Recorder(asyncio.Protocol):
    """A server that writes down what happens to it, and may echo what it receives."""

    def __init__(self) -> None:
        self.echoes = False
        self.received = bytearray()
        self.events: list[str] = []
        self.lanes: dict[str, None] = {}
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SimTransport)
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._note("data")
        if self.echoes:
            self.transport.write(data)

    def eof_received(self) -> None:
        self._note("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self._note("lost")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.lanes[LANE.get().process.name] = None


class Scene:
    """A wire, a node's process that listens, and what it accepted."""

    def __init__(self, loop: SimLoop, seed: int, split_probability: float) -> None:
        self.loop = loop
        self.wire = SimWire(random.Random(seed), delay_s=(0.001, SLOWEST_S), split_probability=split_probability)
        self.process = Process("node", node_id=NODE)
        self.accepted: list[Recorder] = []
        loop.listen = self.wire.listen
        self.client = Process("client")

    async def listen(self) -> SimServer:
        async def listen() -> SimServer:
            server: SimServer = await self.loop.create_server(self._make)
            return server

        return await self.loop.create_task(listen(), context=self.process.main.context.copy())

    async def connect(self) -> tuple[ClientStream, Recorder]:
        stream = await self.wire.connect("c", NODE, TIMEOUT_S)
        await asyncio.sleep(0)
        return stream, self.accepted[-1]

    def _make(self) -> Recorder:
        self.accepted.append(Recorder())
        return self.accepted[-1]


def run(main: Callable[[Scene], Awaitable[None]], *, seed: int = 1, split_probability: float = 0.2) -> float:
    """The test's clients run in a process of their own. Returns the time of the simulation at the end."""
    ends_at = 0.0

    async def whole() -> None:
        nonlocal ends_at
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        scene = Scene(loop, seed, split_probability)
        await loop.create_task(main(scene), context=scene.client.main.context.copy())  # type: ignore[arg-type]
        scene.wire.close()
        assert scene.wire.open_connections == 0
        ends_at = loop.now

    with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(seed))) as runner:
        runner.run(whole())
    return ends_at


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_in_order_however_they_are_cut_up(seed: int) -> None:
    """Both ways, and everything happens on the lane of the one whom it happens to."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        sent = [bytes([number]) * (number % 7 + 1) for number in range(100)]
        for piece in sent:
            stream.write(piece)
            server.transport.writelines([piece, b"", memoryview(piece)])
            await asyncio.sleep(0.001)
        whole = b"".join(sent)
        assert await stream.read_exactly(2 * len(whole)) == b"".join(piece * 2 for piece in sent)
        await asyncio.sleep(SLOWEST_S)
        assert server.received == whole
        assert list(server.lanes) == ["node"]
        assert LANE.get().process.name == "client"
        stream.close()

    run(main, seed=seed, split_probability=0.5)


def test_a_seed_repeats_itself() -> None:
    """The same seed takes the same time, another one another."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.echoes = True
        for _ in range(20):
            stream.write(b"x" * 10)
        await stream.read_exactly(200)
        stream.close()

    assert run(main, seed=1) == run(main, seed=1)
    assert run(main, seed=1) != run(main, seed=2)


def test_a_delay_is_as_it_was_set() -> None:
    """For all, for a node, for one client's link."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.echoes = True

        async def round_trip() -> float:
            start = scene.loop.now
            stream.write(b"x")
            await stream.read_exactly(1)
            return scene.loop.now - start

        scene.wire.set_delay(Delay(0.2, 0.2))
        assert 0.4 <= await round_trip() < 0.41
        scene.wire.set_delay(Delay(0.5, 0.5), node_id=NODE)
        assert 1.0 <= await round_trip() < 1.01
        scene.wire.set_link_delay("c", NODE, Delay(0.1, 0.1))
        assert 0.2 <= await round_trip() < 0.21
        stream.close()

    run(main, split_probability=0.0)


def test_a_connection_is_refused_where_nobody_listens() -> None:
    """Before the node listens, and after it has stopped listening; connections that it has go on."""

    async def main(scene: Scene) -> None:
        with pytest.raises(ConnectionRefusedError):
            await scene.wire.connect("c", NODE, TIMEOUT_S)
        listening = await scene.listen()
        assert listening.sockets[0].getsockname()[1] > 0
        with pytest.raises(OSError, match="in use"):
            await scene.listen()
        stream, server = await scene.connect()
        listening.close()
        with pytest.raises(ConnectionRefusedError):
            await scene.wire.connect("c", NODE, TIMEOUT_S)
        server.transport.write(b"y")
        assert await stream.read_exactly(1) == b"y"
        closed = asyncio.create_task(listening.wait_closed())
        await asyncio.sleep(1)
        assert not closed.done()
        stream.close()
        await closed
        assert server.events == ["made", "eof", "lost"]

    run(main)


def test_a_cut_node_is_silent_until_it_is_healed() -> None:
    """What was on the way waits as well, and nobody is refused; then everything arrives, in order."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        stream.write(b"1")
        scene.wire.cut(NODE)
        stream.write(b"2")
        server.transport.write(b"y")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await stream.read_exactly(1)
        with pytest.raises(TimeoutError):
            await scene.wire.connect("c", NODE, TIMEOUT_S)
        assert not server.received
        waiting = asyncio.create_task(scene.wire.connect("d", NODE, 2 * TIMEOUT_S))
        await asyncio.sleep(1)
        scene.wire.heal()
        assert await stream.read_exactly(1) == b"y"
        (await waiting).close()
        await asyncio.sleep(SLOWEST_S)
        assert server.received == b"12"
        stream.close()
        await asyncio.sleep(1)
        assert scene.wire.open_connections == 0

    run(main)


@pytest.mark.parametrize("direction", Direction)
def test_one_direction_can_be_cut_alone(direction: Direction) -> None:
    """The other still carries; healing another node changes nothing."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        scene.wire.cut(NODE, direction)
        scene.wire.heal(NODE + 1)
        stream.write(b"x")
        server.transport.write(b"y")
        answer = asyncio.create_task(stream.read_exactly(1))
        await asyncio.sleep(1)
        assert answer.done() is (direction is Direction.TO_NODE)
        assert bool(server.received) is (direction is Direction.FROM_NODE)
        scene.wire.heal(NODE)
        assert await answer == b"y"
        await asyncio.sleep(SLOWEST_S)
        assert server.received == b"x"
        stream.close()

    run(main)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_node_resets_its_connections_and_hears_nothing(seed: int) -> None:
    """Its last words may arrive. A new process of the node can listen at once."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.write(b"last words")
        scene.process.kill()
        scene.wire.kill(NODE)
        stream.write(b"are you there?")
        with pytest.raises(ConnectionRefusedError):
            await scene.wire.connect("c", NODE, TIMEOUT_S)
        with pytest.raises(ConnectionResetError):
            await stream.read_exactly(100)
        with pytest.raises(ConnectionError):
            stream.write(b"x")
        assert server.events == ["made"]
        assert scene.wire.open_connections == 0
        scene.process = Process("node again", node_id=NODE)
        await scene.listen()
        again, newer = await scene.connect()
        assert list(newer.lanes) == ["node again"]
        again.close()

    run(main, seed=seed)


def test_last_words_of_a_killed_node_arrive_or_do_not() -> None:
    """Both happen."""
    heard: list[bool] = []

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.write(b"last words")
        scene.wire.kill(NODE)
        try:
            await stream.read_exactly(10)
            heard.append(True)
        except ConnectionResetError:
            heard.append(False)

    for seed in range(12):
        run(main, seed=seed)
    assert 0 < sum(heard) < len(heard)


def test_a_kill_behind_a_cut_is_heard_of_after_the_healing() -> None:
    """As with a machine that lost its power: silence, until its successor resets what it does not know."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, _ = await scene.connect()
        scene.wire.cut(NODE)
        scene.wire.kill(NODE)
        reading = asyncio.create_task(stream.read_exactly(1))
        await asyncio.sleep(TIMEOUT_S)
        assert not reading.done()
        scene.wire.heal()
        with pytest.raises(ConnectionResetError):
            await reading

    run(main)


def test_a_reset_breaks_the_connections_of_a_node_that_lives() -> None:
    """Both sides lose them, a cut or not."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        scene.wire.cut(NODE)
        scene.wire.reset(NODE)
        with pytest.raises(ConnectionResetError):
            await stream.read_exactly(1)
        await asyncio.sleep(SLOWEST_S)
        assert server.events == ["made", "lost"]
        assert isinstance(server.error, ConnectionResetError)
        scene.wire.heal()
        again, _ = await scene.connect()
        again.close()

    run(main)


def test_a_paused_node_is_connected_to_and_hears_of_it_later() -> None:
    """Its kernel accepts. What was sent meanwhile is there when it goes on."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        scene.process.is_paused = True
        stream = await scene.wire.connect("c", NODE, TIMEOUT_S)
        stream.write(b"x" * 3)
        await asyncio.sleep(1)
        assert not scene.accepted
        scene.process.resume(scene.loop)
        await asyncio.sleep(SLOWEST_S)
        assert scene.accepted[0].received == b"xxx"
        stream.close()

    run(main)


def test_a_client_that_does_not_read_pauses_the_writer_at_the_marks() -> None:
    """Past the window bytes are unsent: over the high mark the protocol is paused, at the low one it goes on."""
    high, chunk = 100_000, b"z" * 10_000

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        transport = server.transport
        transport.set_write_buffer_limits(high)
        written = 0
        while "pause" not in server.events:
            assert transport.get_write_buffer_size() <= high
            transport.write(chunk)
            written += len(chunk)
        assert WINDOW_BYTES + high < written <= WINDOW_BYTES + high + len(chunk)
        await asyncio.sleep(1)
        unsent = transport.get_write_buffer_size()
        assert unsent == written - WINDOW_BYTES
        low = high // 4
        await stream.read_exactly(unsent - low - 1)
        await asyncio.sleep(1)
        assert "resume" not in server.events
        await stream.read_exactly(1)
        await asyncio.sleep(1)
        assert server.events[-1] == "resume"
        assert transport.get_write_buffer_size() == low
        transport.close()
        rest = written - (unsent - low)
        assert await stream.read_exactly(rest) == b"z" * rest
        with pytest.raises(ConnectionError, match="closed"):
            await stream.read_exactly(1)
        assert server.events[-1] == "lost"
        assert server.error is None
        stream.close()

    run(main)


def test_who_waits_for_more_than_a_window_gets_it() -> None:
    """A reader who waits takes what comes, so that a large answer does not stick."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.write(b"w" * (3 * WINDOW_BYTES))
        assert len(await stream.read_exactly(3 * WINDOW_BYTES)) == 3 * WINDOW_BYTES
        stream.close()

    run(main)


def test_a_server_that_does_not_read_holds_the_client_up() -> None:
    """Nothing is handed over while reading is paused, then everything."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.pause_reading()
        stream.write(b"q" * (2 * WINDOW_BYTES))
        await asyncio.sleep(1)
        assert not server.received
        server.transport.resume_reading()
        await asyncio.sleep(1)
        assert len(server.received) == 2 * WINDOW_BYTES
        stream.close()

    run(main)


def test_aborting_loses_what_was_not_sent_and_resets_the_client() -> None:
    """The protocol hears of it as of an end without an error; what the client sends afterwards goes nowhere."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.write(b"z")
        server.transport.abort()
        assert server.transport.is_closing()
        server.transport.write(b"never")
        stream.write(b"x")
        with pytest.raises(ConnectionResetError):
            await stream.read_exactly(10)
        assert server.events == ["made", "lost"]
        assert not server.received

    run(main)


def test_a_client_that_leaves_something_unread_resets_the_server() -> None:
    """As Linux does. One that has read all just ends."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        server.transport.write(b"unread")
        await asyncio.sleep(1)
        stream.close()
        stream.close()
        await asyncio.sleep(1)
        assert server.events == ["made", "lost"]
        assert isinstance(server.error, ConnectionResetError)
        assert scene.wire.open_connections == 0

    run(main)


def test_what_a_client_wrote_before_it_left_still_arrives() -> None:
    """Even after its user has given up: a request may be carried out that nobody waits for."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        scene.wire.cut(NODE)
        stream.write(b"late")
        stream.close()
        await asyncio.sleep(TIMEOUT_S)
        scene.wire.heal()
        await asyncio.sleep(1)
        assert server.received == b"late"
        assert server.events == ["made", "data", "eof", "lost"]

    run(main, split_probability=0.0)


def test_a_protocol_that_fails_loses_its_connection() -> None:
    """The error goes to the loop, the client is reset."""

    async def main(scene: Scene) -> None:
        await scene.listen()
        stream, server = await scene.connect()
        reported: list[str] = []
        scene.loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
        nothing: dict[bytes, None] = {}
        server.data_received = nothing.__getitem__  # type: ignore[method-assign, assignment]
        stream.write(b"x")
        with pytest.raises(ConnectionResetError):
            await stream.read_exactly(1)
        assert reported == ["b'x'"]
        assert isinstance(server.error, KeyError)

    run(main)
