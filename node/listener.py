"""The Kafka listener: connections, their frames, and answers in the order of the requests.

A connection reads on while earlier requests are in work (pipelining), up to a bound. A fetch, whose answer may be large, is
answered and taken by the client before the next request is looked at. What a client does can close only its own connection:
everything that it can make us hold is bounded per connection and for all together, and past the bound whoever has stood still
for longest has to go (`Budget`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from quorumlog.host.ports import StorageError
from quorumlog.wire.catalogue import FETCH, PRODUCE
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.frames import FrameError, FrameReader, framed

from .budget import Budget
from .config import Address, NodeConfig
from .dispatch import BadRequest, Dispatcher, Response

logger = logging.getLogger(__name__)

OTHER_REQUEST_BYTES_MAX = 1 << 20  # of any request but a produce: its decoded form takes many times the bytes
WRITE_BUFFER_BYTES = 1 << 20
REQUESTS_PER_TURN = 8  # of one connection; then it is the others' turn, however many it has sent
REFRESH_S = 0.02  # least time between two looks at what all clients have taken
SWEEPS_PER_IDLE_TIME = 4
LOGGED_REFUSALS_MAX = 20  # per round of REFUSAL_ROUND_S: a hostile client must not fill the log's disk
REFUSAL_ROUND_S = 10.0


class KafkaListener:
    """Owned by the node: accepts connections, and closes them all at the end."""

    def __init__(self, config: NodeConfig, dispatcher: Dispatcher, *, on_fatal: Callable[[BaseException], None]) -> None:
        self.config = config
        self.on_fatal = on_fatal
        self.dispatcher = dispatcher
        self.connections: dict[KafkaConnection, None] = {}  # no set: its order would differ from run to run
        self.requests: Budget[KafkaConnection] = Budget(config.request_bytes_total_max)
        self.answers: Budget[KafkaConnection] = Budget(config.response_bytes_total_max)
        self.connections_refused = 0
        self._server: asyncio.Server | None = None
        self._refusals_logged = 0
        self._refusal_round_ends = 0.0
        self._refreshed_at = float("-inf")
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, address: Address) -> int:
        """Listen; returns the port, which the system has chosen where 0 was asked for."""
        loop = asyncio.get_running_loop()
        self._arm_sweep()
        self._server = await loop.create_server(lambda: KafkaConnection(self), address.host, address.port, backlog=1024)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()

    def answer_room(self) -> int:
        """Bytes that one more answer may have; less and less the more clients leave theirs where they are."""
        if self.answers.bytes > self.answers.bytes_max // 2:
            self._refresh_answers()
        return self.answers.room

    def check_bounds(self) -> None:
        """Close who has stood still for longest, until what is held is within its bounds."""
        while self.requests.is_exceeded:
            self.requests.owners[0].refuse(
                f"requests of {self.requests.bytes} bytes are held for all clients, and it stands still"
            )
        if self.answers.is_exceeded:
            self._refresh_answers()
        while self.answers.is_exceeded:
            self.answers.owners[0].refuse(f"answers of {self.answers.bytes} bytes are held for all clients, and it takes none")

    def _refresh_answers(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= REFRESH_S:
            self._refreshed_at = now
            for connection in self.answers.owners:
                connection.account_answers()

    def _arm_sweep(self) -> None:
        interval_s = self.config.connection_idle_max_ms / 1000 / SWEEPS_PER_IDLE_TIME
        self._sweep = asyncio.get_running_loop().call_later(interval_s, self._close_idle)

    def _close_idle(self) -> None:
        heard_before = asyncio.get_running_loop().time() - self.config.connection_idle_max_ms / 1000
        for connection in list(self.connections):
            if connection.heard_at < heard_before and not connection.is_waiting:
                connection.refuse(f"nothing heard for {self.config.connection_idle_max_ms} ms")
        self._arm_sweep()

    def log_refusal(self, client: str, reason: object) -> None:
        """Say why a connection was closed, but not without bound."""
        now = asyncio.get_running_loop().time()
        if now >= self._refusal_round_ends:
            self._refusals_logged, self._refusal_round_ends = 0, now + REFUSAL_ROUND_S
        self._refusals_logged += 1
        self.dispatcher.refused += 1
        if self._refusals_logged <= LOGGED_REFUSALS_MAX:
            logger.warning("closing the connection of %s: %s", client, reason)


class Slot:
    """One request's place in the order of answers."""

    __slots__ = ("response", "started")

    def __init__(self) -> None:
        self.response: Response | None = None
        self.started = False  # the task that waits for the response


class KafkaConnection(asyncio.Protocol):
    """One client's connection. It owns its tasks and cancels them when the client goes."""

    def __init__(self, listener: KafkaListener) -> None:
        self._listener = listener
        self._reader = FrameReader(listener.config.request_bytes_max)
        self._pipelined_max = listener.config.pipelined_requests_max
        self._dispatcher = listener.dispatcher
        self._frames: deque[memoryview] = deque()
        self._queued_bytes = 0  # of _frames
        self._slots: deque[Slot] = deque()
        self._ready_bytes = 0  # of answers in _slots
        self._unsent_bytes = 0  # of answers, when last looked at
        self._tasks: dict[asyncio.Task[None], Slot] = {}
        self._fetching = False
        self._writable = True
        self._reading = True
        self._pump_is_due = False
        self._gone = False
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self.client = "?"

    @property
    def is_waiting(self) -> bool:
        """For an answer of ours, which is no idleness of the client."""
        return bool(self._tasks)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        peer = self._transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else "?"
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._listener.connections[self] = None
        if len(self._listener.connections) > self._listener.config.connections_max:
            self._listener.connections_refused += 1
            self.refuse(f"{self._listener.config.connections_max} connections are open already")

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.connections.pop(self, None)
        self._transport, self._gone = None, True
        self._drop_all()
        for task, slot in self._tasks.items():
            if slot.started:
                task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._gone:
            return
        self.heard_at = self._loop.time()
        try:
            frames = self._reader.receive(data)
        except FrameError as error:
            self.refuse(error)
            return
        self._frames.extend(frames)
        self._queued_bytes += sum(map(len, frames))
        self._account_requests(progress=bool(frames))
        if frames:
            self._pump()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.account_answers()
        self._send_ready()
        self._pump()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- the way in

    def _account_requests(self, *, progress: bool) -> None:
        self._listener.requests.hold(self, self._reader.unfinished_bytes + self._queued_bytes, progress=progress)
        self._listener.check_bounds()

    def _pump(self) -> None:
        """Hand requests to the dispatcher as long as this connection may have more in work, some at each turn of the loop."""
        if self._pump_is_due:
            return
        started = 0
        while self._frames and self._may_start() and started < REQUESTS_PER_TURN:
            self._start_next()
            started += 1
        if self._frames and self._may_start():
            self._pump_is_due = True
            self._loop.call_soon(self._pump_on)
        if not self._gone:
            self._account_requests(progress=started > 0)
            self._keep_reading(len(self._frames) < self._pipelined_max)

    def _pump_on(self) -> None:
        self._pump_is_due = False
        self._pump()

    def _start_next(self) -> None:
        frame = self._frames.popleft()
        self._queued_bytes -= len(frame)
        try:
            self._start(frame)
        except (BadRequest, DecodeError) as error:
            self.refuse(error)
        except StorageError as error:
            self._listener.on_fatal(error)
        except Exception:
            logger.exception("a request of %s could not be handled: a bug", self.client)
            self.refuse("internal error")

    def _may_start(self) -> bool:
        return self._writable and not self._fetching and len(self._slots) < self._pipelined_max

    def _start(self, frame: memoryview) -> None:
        api_key = int.from_bytes(frame[:2], "big")
        if api_key != PRODUCE and len(frame) > OTHER_REQUEST_BYTES_MAX:
            raise BadRequest(f"request of {len(frame)} bytes, allowed are {OTHER_REQUEST_BYTES_MAX} for all but produce")
        result = self._dispatcher.dispatch(frame, self.client)
        slot = Slot()
        self._slots.append(slot)
        self._fetching = api_key == FETCH
        if isinstance(result, Response):
            self._answer(slot, result)
            return
        task = self._loop.create_task(self._finish(slot, result))
        self._tasks[task] = slot
        task.add_done_callback(self._tasks.pop)

    async def _finish(self, slot: Slot, result: Awaitable[Response]) -> None:
        # A task that is cancelled before it has begun would drop what it was to wait for without putting it in order.
        slot.started = True
        if self._gone:
            cast("asyncio.Task[None]", asyncio.current_task()).cancel()
        try:
            response = await result
        except BadRequest as error:
            self.refuse(error)
            return
        except StorageError as error:
            self._listener.on_fatal(error)
            return
        except Exception:
            logger.exception("a request of %s could not be handled: a bug", self.client)
            self.refuse("internal error")
            return
        self._answer(slot, response)
        self._pump()

    # --- the way out

    def _answer(self, slot: Slot, response: Response) -> None:
        if self._gone:
            return
        self.account_answers()  # what was there before, so that its progress is not taken for none
        slot.response = response
        self._ready_bytes += response.size
        self.account_answers()
        self._send_ready()

    def _send_ready(self) -> None:
        """Write the answers that are next in order, while the client takes them."""
        while self._slots and self._slots[0].response is not None and self._writable and self._transport is not None:
            response = self._slots.popleft().response
            assert response is not None
            self._ready_bytes -= response.size
            if response.parts:
                self._transport.writelines(framed(response.parts))
        if not self._slots:
            self._fetching = False
        self._listener.check_bounds()

    def account_answers(self) -> None:
        """Look at what the client has taken since the last look."""
        if self._gone or self._transport is None:
            return
        unsent = self._ready_bytes + self._transport.get_write_buffer_size()
        self._listener.answers.hold(self, unsent, progress=unsent < self._unsent_bytes)
        self._unsent_bytes = unsent

    def _keep_reading(self, wanted: bool) -> None:
        if self._transport is None or wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def refuse(self, reason: object) -> None:
        """Close the connection at once, and let go of all that it holds."""
        if self._gone:
            return
        self._gone = True
        self._drop_all()
        if self._transport is not None and not self._transport.is_closing():
            self._listener.log_refusal(self.client, reason)
            self._transport.abort()

    def _drop_all(self) -> None:
        self._frames.clear()
        self._slots.clear()
        self._queued_bytes = self._ready_bytes = 0
        self._listener.requests.hold(self, 0)
        self._listener.answers.hold(self, 0)
