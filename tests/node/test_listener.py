"""One client's connection: the order of its answers, its bounds, and who has to go when all clients hold too much."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quorumlog.host.ports import StorageError
from quorumlog.node.config import NodeConfig
from quorumlog.node.dispatch import BadRequest, Dispatcher, Response
from quorumlog.node.listener import OTHER_REQUEST_BYTES_MAX, REQUESTS_PER_TURN, KafkaConnection, KafkaListener
from quorumlog.wire.catalogue import FETCH, PRODUCE

METADATA = 3
Dispatch = Callable[[memoryview], Response | Awaitable[Response]]


class FakeTransport:
    """Takes what is written, unless it is told that the client does not."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.stuck = False
        self.buffered = 0
        self.closed = False
        self.reading = True
        self.protocol: KafkaConnection | None = None

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 4) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def writelines(self, parts: list[bytes]) -> None:
        assert not self.closed, "written after the end"
        data = b"".join(parts)
        self.written += data
        if self.stuck:
            self.buffered += len(data)
            if self.buffered > self.high and self.protocol is not None:
                self.protocol.pause_writing()

    def take(self, size: int | None = None) -> None:
        """The client reads on."""
        self.buffered = 0 if size is None else max(0, self.buffered - size)
        if self.buffered == 0 and self.protocol is not None:
            self.stuck = False
            self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True
        if self.protocol is not None:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    close = abort

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def answers(self) -> list[bytes]:
        """The frames written so far."""
        frames, rest = [], bytes(self.written)
        while rest:
            size = struct.unpack_from(">i", rest)[0]
            frames.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        return frames


class FakeDispatcher(Dispatcher):
    """Hands each frame to a function of the test."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.refused = 0
        self._dispatch = dispatch

    def dispatch(self, frame: memoryview, client_host: str) -> Any:
        return self._dispatch(frame)


class Scene:
    """A listener and its clients."""

    def __init__(self, dispatch: Dispatch, **settings: Any) -> None:
        config = NodeConfig(node_id=1, cluster_id="c", data_dir="d", voters="1@h:1", **settings)
        self.fatal: list[BaseException] = []
        self.listener = KafkaListener(config, FakeDispatcher(dispatch), on_fatal=self.fatal.append)

    def connect(self) -> tuple[KafkaConnection, FakeTransport]:
        connection, transport = KafkaConnection(self.listener), FakeTransport()
        transport.protocol = connection
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport


def echo(frame: memoryview) -> Response:
    return Response((bytes(frame),))


def request(key: int = METADATA, body: bytes = b"") -> bytes:
    frame = struct.pack(">hhi", key, 0, 0) + body
    return struct.pack(">i", len(frame)) + frame


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_answers_leave_in_the_order_of_the_requests() -> None:
    """However late the first is ready, the second waits for it."""

    async def run() -> None:
        first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        scene = Scene(lambda frame: first if bytes(frame[8:]) == b"first" else echo(frame))
        connection, transport = scene.connect()
        connection.data_received(request(body=b"first") + request(body=b"second"))
        await turns()
        assert transport.answers == []
        first.set_result(Response((b"answer",)))
        await turns()
        assert transport.answers == [b"answer", request(body=b"second")[4:]]

    asyncio.run(run())


def test_an_empty_answer_is_no_answer() -> None:
    """A produce with acks=0 takes its turn and says nothing."""

    async def run() -> None:
        scene = Scene(lambda frame: Response(()) if frame[1] == PRODUCE else echo(frame))
        connection, transport = scene.connect()
        connection.data_received(request(PRODUCE) + request(body=b"next"))
        assert transport.answers == [request(body=b"next")[4:]]

    asyncio.run(run())


def test_so_many_requests_are_in_work_at_once() -> None:
    """The next one is started when an answer has left; meanwhile no more is read."""

    async def run() -> None:
        waiting: list[asyncio.Future[Response]] = []

        def dispatch(_frame: memoryview) -> Awaitable[Response]:
            waiting.append(asyncio.get_running_loop().create_future())
            return waiting[-1]

        scene = Scene(dispatch, pipelined_requests_max=3)
        connection, transport = scene.connect()
        connection.data_received(request() * 10)
        await turns()
        assert (len(waiting), transport.reading) == (3, False)
        waiting[1].set_result(Response((b"1",)))
        await turns()
        assert len(waiting) == 3  # the first has not left, so nothing has
        waiting[0].set_result(Response((b"0",)))
        await turns()
        assert (len(waiting), transport.answers) == (5, [b"0", b"1"])

    asyncio.run(run())


def test_after_a_fetch_nothing_is_started_until_it_has_been_taken() -> None:
    """Also when it waits behind another answer: fetches cannot pile up in memory."""

    async def run() -> None:
        first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        started: list[int] = []

        def dispatch(frame: memoryview) -> Response | Awaitable[Response]:
            started.append(frame[1])
            return first if frame[1] == PRODUCE else echo(frame)

        connection, transport = Scene(dispatch).connect()
        connection.data_received(request(PRODUCE) + request(FETCH) * 5)
        await turns()
        assert started == [PRODUCE, FETCH]
        transport.stuck = True
        transport.high = 1
        first.set_result(Response((b"x" * 10,)))
        await turns()
        assert started == [PRODUCE, FETCH]
        transport.take()
        await turns()
        assert started == [PRODUCE] + [FETCH] * 5

    asyncio.run(run())


def test_a_client_that_does_not_read_gets_no_more_work() -> None:
    """Its requests wait, reading stops, and both go on when it reads again."""

    async def run() -> None:
        scene = Scene(lambda _frame: Response((b"y" * 100,)), pipelined_requests_max=4)
        connection, transport = scene.connect()
        transport.stuck, transport.high = True, 150
        connection.data_received(request() * 20)
        await turns()
        assert len(transport.answers) == 2
        assert not transport.reading
        transport.take()
        await turns()
        assert len(transport.answers) == 20
        assert transport.reading

    asyncio.run(run())


def test_a_flood_of_one_client_lets_the_others_in_between() -> None:
    """At each turn of the loop only so many requests of one connection are handled."""

    async def run() -> None:
        served: list[bytes] = []

        def dispatch(frame: memoryview) -> Response:
            served.append(bytes(frame[8:]))
            return Response(())

        scene = Scene(dispatch)
        flood, quiet = scene.connect()[0], scene.connect()[0]
        flood.data_received(request(body=b"flood") * 50)
        quiet.data_received(request(body=b"quiet"))
        assert served.index(b"quiet") == REQUESTS_PER_TURN
        await turns()
        assert len(served) == 51

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 2**31 - 1),
        struct.pack(">i", 1025),
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_an_impossible_size_ends_the_connection(data: bytes) -> None:
    """What follows cannot be told apart, so nothing of it is read."""

    async def run() -> None:
        scene = Scene(echo, request_bytes_max=1024)
        connection, transport = scene.connect()
        connection.data_received(data)
        assert transport.closed
        connection.data_received(request())
        await turns()
        assert transport.answers == []
        assert not scene.listener.connections
        assert scene.listener.requests.bytes == 0

    asyncio.run(run())


def test_what_cannot_be_answered_ends_only_its_connection() -> None:
    """A refusal is no bug and no failure of the node, at once or later; what was answered before has left."""

    async def refuse_later() -> Response:
        raise BadRequest("later")

    def refuse(frame: memoryview) -> Response | Awaitable[Response]:
        if bytes(frame[8:]) == b"at once":
            raise BadRequest("at once")
        return refuse_later() if bytes(frame[8:]) == b"later" else echo(frame)

    async def run(body: bytes) -> None:
        scene = Scene(refuse)
        connection, transport = scene.connect()
        _, other = scene.connect()
        connection.data_received(request() + request(body=body) + request())
        await turns()
        assert transport.answers == [request()[4:]]
        assert (transport.closed, other.closed, scene.listener.dispatcher.refused) == (True, False, 1)
        assert not scene.fatal

    asyncio.run(run(b"at once"))
    asyncio.run(run(b"later"))


def test_a_failed_disk_ends_the_node() -> None:
    """A StorageError in a handler is told to the owner, whether it comes at once or later."""

    async def fail_later() -> Response:
        raise StorageError("disk gone")

    def fail(frame: memoryview) -> Response | Awaitable[Response]:
        if bytes(frame[8:]) == b"at once":
            raise StorageError("disk gone")
        return fail_later()

    async def run(body: bytes) -> None:
        scene = Scene(fail)
        scene.connect()[0].data_received(request(body=body))
        await turns()
        assert [str(error) for error in scene.fatal] == ["disk gone"]

    asyncio.run(run(b"at once"))
    asyncio.run(run(b"later"))


def test_only_produce_may_be_large() -> None:
    """What other requests are decoded to takes many times their bytes."""

    async def run() -> None:
        scene = Scene(lambda _frame: Response(()))
        large = b"x" * OTHER_REQUEST_BYTES_MAX
        (producer, producing), (other, refused) = scene.connect(), scene.connect()
        producer.data_received(request(PRODUCE, large))
        other.data_received(request(METADATA, large))
        assert (producing.closed, refused.closed) == (False, True)

    asyncio.run(run())


def test_so_many_connections_are_open_at_once() -> None:
    """One more is closed at once, and there is room again when one goes."""

    async def run() -> None:
        scene = Scene(echo, connections_max=2)
        first, _ = scene.connect()
        scene.connect()
        _, third = scene.connect()
        assert third.closed
        await turns()
        first.close()
        await turns()
        assert not scene.connect()[1].closed
        assert scene.listener.connections_refused == 1

    asyncio.run(run())


def test_half_frames_beyond_the_bound_go_oldest_first() -> None:
    """Many clients with unfinished frames fill the memory for requests: they go, and one that works stays."""

    async def run() -> None:
        scene = Scene(echo, request_bytes_total_max=1 << 20)
        half = struct.pack(">i", 900_000) + bytes(100_000)
        stuck = [scene.connect() for _ in range(20)]
        busy, busy_transport = scene.connect()
        for connection, _ in stuck:
            connection.data_received(half)
            busy.data_received(request(PRODUCE, bytes(50_000)))
        assert scene.listener.requests.bytes <= 1 << 20
        gone = [transport.closed for _, transport in stuck]
        assert gone == sorted(gone, reverse=True)
        assert 0 < sum(gone) < 20
        assert not busy_transport.closed
        assert len(busy_transport.answers) == 20

    asyncio.run(run())


def test_answers_that_nobody_takes_go_oldest_first() -> None:
    """Clients that do not read fill the memory for answers: they go, one that reads stays, and answers become smaller before."""

    async def run() -> None:
        scene = Scene(lambda _frame: Response((bytes(100_000),)), response_bytes_total_max=1 << 20)
        listener = scene.listener
        rooms = [listener.answer_room()]
        reader, reading = scene.connect()
        stuck = [scene.connect() for _ in range(20)]
        for connection, transport in stuck:
            transport.stuck = True
            connection.data_received(request())
            reader.data_received(request())
            rooms.append(listener.answer_room())
            listener._refreshed_at = float("-inf")  # as if REFRESH_S had passed
        assert listener.answers.bytes <= 1 << 20
        assert rooms[0] == 1 << 19
        assert rooms[8] < rooms[4] < rooms[1]
        gone = [transport.closed for _, transport in stuck]
        assert gone == sorted(gone, reverse=True)
        assert 0 < sum(gone) < 20
        assert not reading.closed

    asyncio.run(run())


def test_a_slow_reader_counts_as_working() -> None:
    """Who takes a little of its answer at a time is behind one who takes nothing."""

    async def run() -> None:
        scene = Scene(lambda _frame: Response((bytes(300_000),)), response_bytes_total_max=1 << 20)
        (slow, slow_transport), (dead, dead_transport) = scene.connect(), scene.connect()
        for connection, transport in ((slow, slow_transport), (dead, dead_transport)):
            transport.stuck = True
            connection.data_received(request())
        slow_transport.take(1000)
        slow.account_answers()
        third, third_transport = scene.connect()
        third_transport.stuck = True
        third.data_received(request() * 2)
        assert (slow_transport.closed, dead_transport.closed) == (False, True)

    asyncio.run(run())


def test_a_silent_connection_is_closed() -> None:
    """One that is heard stays, and so does one that waits for an answer of ours."""

    async def run() -> None:
        never: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        scene = Scene(lambda frame: never if frame[1] == PRODUCE else Response(()), connection_idle_max_ms=1000)
        loop = asyncio.get_running_loop()
        (silent, gone), (waiting, waits), (heard, stays) = scene.connect(), scene.connect(), scene.connect()
        waiting.data_received(request(PRODUCE))
        for connection in (silent, waiting, heard):
            connection.heard_at = loop.time() - 1.001
        heard.data_received(request())
        scene.listener._close_idle()
        assert (gone.closed, waits.closed, stays.closed) == (True, False, False)
        await scene.listener.close()

    asyncio.run(run())


def test_a_client_that_goes_before_its_work_has_begun() -> None:
    """What a handler left to wait for is put in order all the same, not dropped unheard."""

    async def run() -> None:
        in_order = asyncio.Event()

        async def wait() -> Response:
            try:
                await asyncio.sleep(60)
            finally:
                in_order.set()
            return Response(())

        scene = Scene(lambda _frame: wait())
        connection, transport = scene.connect()
        connection.data_received(request())
        connection.connection_lost(None)
        await turns()
        assert in_order.is_set()
        assert transport.answers == []
        assert not connection.is_waiting

    asyncio.run(run())


def test_a_client_that_goes_takes_its_work_along() -> None:
    """Its waiting requests are cancelled, and nothing of it is held any more."""

    async def run() -> None:
        cancelled = asyncio.Event()

        async def wait() -> Response:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return Response(())

        scene = Scene(lambda _frame: wait(), pipelined_requests_max=1)
        connection, _ = scene.connect()
        connection.data_received(request() * 3 + b"\x00")
        await turns()
        assert scene.listener.requests.bytes > 0
        connection.connection_lost(None)
        await turns()
        assert cancelled.is_set()
        assert (scene.listener.requests.bytes, scene.listener.connections) == (0, {})

    asyncio.run(run())
