"""The Kafka listener: connections, their frames, and answers in the order of the requests.

A connection reads on while earlier requests are in work (pipelining), up to a bound. A fetch, whose answer may be large, is
answered and taken by the client before the next request is looked at. What a client does can close only its own connection:
everything that it can make us hold is bounded per connection and for all together.
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

from .config import Address, NodeConfig
from .dispatch import BadRequest, Dispatcher, Response

logger = logging.getLogger(__name__)

OTHER_REQUEST_BYTES_MAX = 1 << 20  # of any request but a produce: its decoded form takes many times the bytes
WRITE_BUFFER_BYTES = 1 << 20
LOGGED_REFUSALS_MAX = 20  # per round of REFUSAL_ROUND_S: a hostile client must not fill the log's disk
REFUSAL_ROUND_S = 10.0


class KafkaListener:
    """Owned by the node: accepts connections, and closes them all at the end."""

    def __init__(self, config: NodeConfig, dispatcher: Dispatcher, *, on_fatal: Callable[[BaseException], None]) -> None:
        self.config = config
        self.on_fatal = on_fatal
        self.dispatcher = dispatcher
        self.connections: set[KafkaConnection] = set()
        self.held_bytes = 0
        self.connections_refused = 0
        self._server: asyncio.Server | None = None
        self._refusals_logged = 0
        self._refusal_round_ends = 0.0

    async def start(self, address: Address) -> int:
        """Listen; returns the port, which the system has chosen where 0 was asked for."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: KafkaConnection(self), address.host, address.port, backlog=1024)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()

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

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: Response | None = None


class KafkaConnection(asyncio.Protocol):
    """One client's connection. It owns its tasks and cancels them when the client goes."""

    def __init__(self, listener: KafkaListener) -> None:
        self._listener = listener
        self._reader = FrameReader(listener.config.request_bytes_max)
        self._pipelined_max = listener.config.pipelined_requests_max
        self._dispatcher = listener.dispatcher
        self._frames: deque[memoryview] = deque()
        self._slots: deque[Slot] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching = False
        self._writable = True
        self._reading = True
        self._held_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._connected_at = asyncio.get_running_loop().time()
        self.client = "?"

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        peer = self._transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else "?"
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._listener.connections.add(self)
        if len(self._listener.connections) > self._listener.config.connections_max:
            self._listener.connections_refused += 1
            self._refuse(f"{self._listener.config.connections_max} connections are open already")

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._transport = None
        self._frames.clear()
        self._slots.clear()
        self._hold(-self._held_bytes)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            frames = self._reader.receive(data)
        except FrameError as error:
            self._refuse(error)
            return
        for frame in frames:
            self._frames.append(frame)
        self._account()
        if frames:
            self._pump()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_ready()
        self._pump()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- the way in

    def _account(self) -> None:
        """Count what this connection makes us hold; past the node's bound the one who asks for more has to go."""
        self._hold(self._reader.unfinished_bytes + sum(map(len, self._frames)) - self._held_bytes)
        listener = self._listener
        if listener.held_bytes > listener.config.request_bytes_total_max:
            self._refuse(
                f"{listener.held_bytes} bytes of requests are held, allowed are {listener.config.request_bytes_total_max}"
            )

    def _hold(self, more: int) -> None:
        self._held_bytes += more
        self._listener.held_bytes += more

    def _pump(self) -> None:
        """Hand requests to the dispatcher as long as this connection may have more in work."""
        while self._frames and self._may_start() and self._transport is not None:
            frame = self._frames.popleft()
            try:
                self._start(frame)
            except (BadRequest, DecodeError) as error:
                self._refuse(error)
            except StorageError as error:
                self._listener.on_fatal(error)
            except Exception:
                logger.exception("a request of %s could not be handled: a bug", self.client)
                self._refuse("internal error")
        self._account()
        self._keep_reading(len(self._frames) < self._pipelined_max)

    def _may_start(self) -> bool:
        return self._writable and not self._fetching and len(self._slots) < self._pipelined_max

    def _start(self, frame: memoryview) -> None:
        api_key = int.from_bytes(frame[:2], "big")
        if api_key != PRODUCE and len(frame) > OTHER_REQUEST_BYTES_MAX:
            raise BadRequest(f"request of {len(frame)} bytes, allowed are {OTHER_REQUEST_BYTES_MAX} for all but produce")
        result = self._dispatcher.dispatch(frame, self.client, asyncio.get_running_loop().time() - self._connected_at)
        slot = Slot()
        self._slots.append(slot)
        if isinstance(result, Response):
            slot.response = result
            self._send_ready()
            return
        self._fetching = api_key == FETCH
        task = asyncio.get_running_loop().create_task(self._finish(slot, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, slot: Slot, result: Awaitable[Response]) -> None:
        try:
            slot.response = await result
        except BadRequest as error:
            self._refuse(error)
            return
        except StorageError as error:
            self._listener.on_fatal(error)
            return
        except Exception:
            logger.exception("a request of %s could not be handled: a bug", self.client)
            self._refuse("internal error")
            return
        self._send_ready()
        self._pump()

    # --- the way out

    def _send_ready(self) -> None:
        """Write the answers that are next in order, while the client takes them."""
        while self._slots and self._slots[0].response is not None and self._writable and self._transport is not None:
            response = self._slots.popleft().response
            assert response is not None
            if response.parts:
                self._transport.writelines(framed(response.parts))
        if not self._slots:
            self._fetching = False

    def _keep_reading(self, wanted: bool) -> None:
        if self._transport is None or wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _refuse(self, reason: object) -> None:
        self._frames.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._listener.log_refusal(self.client, reason)
            self._transport.abort()
