"""The network between Kafka clients and the nodes' Kafka listeners, in memory: what TCP does, on virtual time.

    node:    loop.create_server -> SimWire.listen -> SimServer; each connection is a SimTransport for the production protocol
    client:  await SimWire.connect -> ClientStream

A connection is made by the node's kernel: a paused process is connected to, and hears of it later. A killed process's connections
are reset; what it had sent may still arrive. A cut node is silent: requests for connections, bytes and ends wait for the healing.
(Bytes that were acknowledged before a cut are not told apart; a connection never gives up by itself, its user does.)

What happens to a server happens in the context in which it began to listen, what happens to a client in that of `connect`.
"""

import asyncio
import errno
import os
import random
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, cast

from tests.sim.loop import SimLoop
from tests.sim.pipe import Delay, Direction, Link, Pipe, Sign

__all__ = ["ClientStream", "Delay", "Direction", "SimServer", "SimTransport", "SimWire"]

KAFKA_PORT = 9092
CONNECTIONS_MAX = 10_000
DEFAULT_DELAY = Delay(0.0001, 0.001)
HIGH_MARK_BYTES = 64 << 10  # of what a transport holds unsent; asyncio's default
KEPT_PROBABILITY = 0.5  # that what a killed node had sent still arrives

Factory = Callable[[], Any]


class SimWire:
    """All connections of one simulation. Chance comes from `rng` alone."""

    def __init__(
        self, rng: random.Random, *, delay_s: tuple[float, float] = DEFAULT_DELAY, split_probability: float = 0.05
    ) -> None:
        """`delay_s`: the least and the most that a chunk of bytes takes."""
        self.connections_made = 0
        self._rng = rng
        self._delay = Delay(*delay_s)
        self._node_delays: dict[int, Delay] = {}
        self._split_probability = split_probability
        self._servers: dict[int, SimServer] = {}
        self._links: dict[tuple[str, int], Link] = {}
        self._cut: dict[tuple[int, Direction], None] = {}
        self._connections: dict[int, _Connection] = {}  # in the order of their making

    # --- for nodes and clients

    def listen(self, node_id: int, protocol_factory: Factory) -> "SimServer":
        """Accept connections to a node, in the context of this call. Raises OSError if the node listens already."""
        if node_id in self._servers:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), f"node {node_id}")
        server = SimServer(self, node_id, protocol_factory, copy_context())
        self._servers[node_id] = server
        return server

    async def connect(self, client_id: str, node_id: int, timeout_s: float) -> "ClientStream":
        """Raises ConnectionRefusedError if nobody listens, TimeoutError if nobody answers."""
        assert len(self._connections) < CONNECTIONS_MAX, f"{len(self._connections)} connections are open"
        self.connections_made += 1
        connection = _Connection(self, self.connections_made, self._link(client_id, node_id))
        self._connections[connection.number] = connection
        connection.to_node.end(Sign.OPEN)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.stream.opened
        except BaseException:
            connection.stream.close()
            raise
        return connection.stream

    @property
    def open_connections(self) -> int:
        """Those of which one side at least has not heard the end yet."""
        return len(self._connections)

    # --- faults

    def set_delay(self, delay: Delay, *, node_id: int | None = None) -> None:
        """How long a chunk takes from now on, to and from one node, or all nodes that have no delay of their own."""
        if node_id is None:
            self._delay = delay
        else:
            self._node_delays[node_id] = delay
        self._refresh_links()

    def set_link_delay(self, client_id: str, node_id: int, delay: Delay) -> None:
        """The same for one link, until `set_delay` says otherwise."""
        self._link(client_id, node_id).delay = delay

    def cut(self, node_id: int, direction: Direction | None = None) -> None:
        """From now on nothing arrives, in one direction or (None) both."""
        for one in Direction if direction is None else (direction,):
            self._cut[node_id, one] = None
        self._refresh_cuts()

    def heal(self, node_id: int | None = None) -> None:
        """The links to one node, or (None) to all, work again; what waits arrives."""
        self._cut = {key: None for key in self._cut if node_id is not None and key[0] != node_id}
        self._refresh_cuts()
        for connection in list(self._connections.values()):
            connection.to_node.wake(healed=True)
            connection.from_node.wake(healed=True)

    def kill(self, node_id: int) -> None:
        """The node's process is dead: nobody listens, and its connections are reset."""
        self._servers.pop(node_id, None)
        for connection in self._connections_to(node_id):
            connection.die(keep=self._rng.random() < KEPT_PROBABILITY)

    def reset(self, node_id: int) -> None:
        """Break all connections to a node that lives: both sides lose them, a delay later, whether or not the link is cut."""
        for connection in self._connections_to(node_id):
            connection.break_off()

    def close(self) -> None:
        """The simulation is over: nothing arrives any more, and nobody is told."""
        self._servers.clear()
        for connection in list(self._connections.values()):
            connection.stop()

    # --- inside

    def find_server(self, node_id: int) -> "SimServer | None":
        return self._servers.get(node_id)

    def remove_server(self, server: "SimServer") -> None:
        if self._servers.get(server.node_id) is server:
            del self._servers[server.node_id]

    def forget(self, number: int) -> None:
        self._connections.pop(number, None)

    def _connections_to(self, node_id: int) -> "list[_Connection]":
        """Those that its kernel has accepted."""
        connections = self._connections.values()
        return [one for one in connections if one.link.node_id == node_id and one.transport is not None]

    def _link(self, client_id: str, node_id: int) -> Link:
        link = self._links.get((client_id, node_id))
        if link is None:
            link = Link(client_id, node_id, self._rng, self._delay, self._split_probability)
            link.delay = self._node_delays.get(node_id, self._delay)
            self._links[client_id, node_id] = link
            self._refresh_cuts()
        return link

    def _refresh_links(self) -> None:
        for link in self._links.values():
            link.delay = self._node_delays.get(link.node_id, self._delay)

    def _refresh_cuts(self) -> None:
        for link in self._links.values():
            for direction in Direction:
                link.cut[direction] = (link.node_id, direction) in self._cut


class SimServer:
    """Stands for asyncio's Server. It lives until `close`, or until its process is killed; `wait_closed` waits for its
    connections too, as since Python 3.12."""

    def __init__(self, wire: SimWire, node_id: int, factory: Factory, context: Context) -> None:
        self.node_id = node_id
        self.factory = factory
        self.context = context
        self.sockets: tuple[_Socket, ...] = (_Socket(node_id),)
        self._wire = wire
        self._transports = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def is_serving(self) -> bool:
        return bool(self.sockets)

    def close(self) -> None:
        self.sockets = ()
        self._wire.remove_server(self)

    async def wait_closed(self) -> None:
        await self._idle.wait()

    def on_transport_made(self) -> None:
        self._transports += 1
        self._idle.clear()

    def on_transport_lost(self) -> None:
        self._transports -= 1
        if not self._transports:
            self._idle.set()


class _Socket:
    def __init__(self, node_id: int) -> None:
        self._name = (f"node-{node_id}", KAFKA_PORT)

    def getsockname(self) -> tuple[str, int]:
        return self._name


class _Connection:
    """From the request for it until both pipes are over. It receives for the node's kernel until a process has accepted."""

    takes_data = True

    def __init__(self, wire: SimWire, number: int, link: Link) -> None:
        self.number = number
        self.link = link
        self.transport: SimTransport | None = None
        self._wire = wire
        self._loop = cast(SimLoop, asyncio.get_running_loop())
        context = copy_context()
        # Until it is accepted, the kernel of the node works for it, which no pause stops: on the client's lane.
        self.to_node = Pipe(
            link, Direction.TO_NODE, sender_context=context, receiver_context=context, receiver=self, on_over=self._on_over
        )
        self.stream = ClientStream(self.to_node)
        self.from_node = Pipe(
            link,
            Direction.FROM_NODE,
            sender_context=context,
            receiver_context=context,
            receiver=self.stream,
            on_over=self._on_over,
        )
        self.stream.incoming = self.from_node

    def on_data(self, data: bytes) -> None:
        raise AssertionError(f"{len(data)} bytes came before the connection was accepted")

    def on_sign(self, sign: Sign) -> None:
        if sign is not Sign.OPEN:
            return  # the client went away before
        server = self._wire.find_server(self.link.node_id)
        if server is None:
            self.from_node.end(Sign.REFUSED)
            self.to_node.stop()
            return
        self.transport = SimTransport(server, self.to_node, self.from_node, (self.link.client_id, self.number))
        self.to_node.receiver_context = self.from_node.sender_context = server.context
        self.to_node.receiver = self.transport
        self._loop.call_soon(self.transport.open, context=server.context)
        self.from_node.end(Sign.ACCEPTED)

    def die(self, *, keep: bool) -> None:
        """The server's process is dead."""
        assert self.transport is not None
        self.transport.is_dead = True
        self.to_node.stop()
        self.from_node.reset(keep=keep)

    def break_off(self) -> None:
        assert self.transport is not None
        for pipe, lose in ((self.to_node, self.transport.lose), (self.from_node, self.stream.lose)):
            pipe.stop()
            self._loop.call_later(self.link.draw_delay(), lose, _reset_error(), context=pipe.receiver_context)

    def stop(self) -> None:
        self.to_node.stop()
        self.from_node.stop()

    def _on_over(self) -> None:
        if self.to_node.is_over and self.from_node.is_over:
            self._wire.forget(self.number)


class ClientStream:
    """A client's side of a connection; `close` it. One reader at a time."""

    takes_data = True  # the window bounds what it holds

    def __init__(self, outgoing: Pipe) -> None:
        self.incoming: Pipe
        self._outgoing = outgoing
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._buffer = bytearray()
        self._held = 0  # bytes of the buffer that still take room in the window
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: ConnectionError | None = None

    @property
    def is_over(self) -> bool:
        """Closed here, or lost."""
        return self._error is not None

    def write(self, data: bytes) -> None:
        """Send it, in order. Raises ConnectionError if the connection is known to be over."""
        if self._error is not None:
            raise ConnectionError(f"cannot write: {self._error}")
        self._outgoing.write(data)

    async def read_exactly(self, size: int) -> bytes:
        """Raises ConnectionError if the connection ends before so many bytes have come."""
        assert self._waiter is None, "one reader at a time"
        buffer = self._buffer
        while len(buffer) < size:
            if self._error is not None:
                raise self._error.with_traceback(None)
            self._wanted = size
            self._release(len(buffer))
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(buffer[:size])
        del buffer[:size]
        self._release(size)
        return data

    def close(self) -> None:
        """Say so to the other side, after everything that was written; who reads here gets ConnectionError. May be repeated."""
        was_over = self.is_over
        self._fail(ConnectionAbortedError("the client has closed the connection"))
        if was_over and self.incoming.is_over:
            self._outgoing.end(Sign.END)
            return
        if not self.opened.done() or self.opened.cancelled() or self.opened.exception() is not None:
            self._outgoing.stop()
        elif self._buffer or not self.incoming.is_empty:
            self._outgoing.reset()  # as Linux does when something is left unread
        else:
            self._outgoing.end(Sign.END)
        self.incoming.stop()

    def lose(self, error: ConnectionError) -> None:
        self._outgoing.stop()
        self._fail(error)

    # --- Receiver

    def on_data(self, data: bytes) -> None:
        self._buffer += data
        self._held += len(data)
        if self._waiter is not None:
            self._release(len(self._buffer))
            if len(self._buffer) >= self._wanted and not self._waiter.done():
                self._waiter.set_result(None)

    def on_sign(self, sign: Sign) -> None:
        match sign:
            case Sign.ACCEPTED:
                if not self.opened.done():
                    self.opened.set_result(None)
            case Sign.REFUSED:
                self.lose(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
            case Sign.RESET:
                self.lose(_reset_error())
            case Sign.END:
                self._fail(ConnectionError("the node has closed the connection"))
            case Sign.OPEN:
                raise AssertionError("a client does not listen")

    def _fail(self, error: ConnectionError) -> None:
        if self._error is None:
            self._error = error
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # taken note of, also where nobody waits any more
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _release(self, size: int) -> None:
        """Give back the room of the first `size` bytes of the buffer, as far as it was not given back before."""
        size = min(size, self._held)
        if size:
            self._held -= size
            self.incoming.consumed(size)


class SimTransport(asyncio.Transport):
    """A node's side of a connection, for a protocol as asyncio knows them."""

    def __init__(self, server: SimServer, incoming: Pipe, outgoing: Pipe, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer, "sockname": _Socket(server.node_id).getsockname()})
        self.is_dead = False  # its process is
        self._server = server
        self._incoming = incoming
        self._outgoing = outgoing
        self._protocol: Any = None
        self._loop = asyncio.get_running_loop()
        self.takes_data = True
        self._is_writing_paused = False
        self._is_closing = False
        self._is_lost = False
        self._high_mark, self._low_mark = HIGH_MARK_BYTES, HIGH_MARK_BYTES // 4
        outgoing.on_room = self._on_room

    def open(self) -> None:
        """The process accepts: a protocol is made."""
        if self.is_dead:
            return
        self._server.on_transport_made()
        self._protocol = self._server.factory()
        self._protocol.connection_made(self)

    # --- asyncio.Transport

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self.takes_data

    def pause_reading(self) -> None:
        self.takes_data = False

    def resume_reading(self) -> None:
        if not self._is_closing:
            self.takes_data = True
            self._incoming.wake()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_MARK_BYTES if low is None else 4 * low
        self._high_mark = high
        self._low_mark = high // 4 if low is None else low
        self._check_high_mark()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_mark, self._high_mark

    def get_write_buffer_size(self) -> int:
        return self._outgoing.unsent_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self._outgoing.write(bytes(data))
            self._check_high_mark()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """After what was written has left; it may be on the way then."""
        if not self._is_closing:
            self._is_closing, self.takes_data = True, False
            self._outgoing.end(Sign.END)
            if not self._outgoing.unsent_bytes:
                self._loop.call_soon(self._finish, None)

    def abort(self) -> None:
        self._end_at_once(None)

    # --- Receiver

    def on_data(self, data: bytes) -> None:
        self._incoming.consumed(len(data))
        if not self._is_closing:
            try:
                self._protocol.data_received(data)
            except Exception as error:  # as asyncio does: a protocol that fails loses its connection
                self._end_at_once(error)
                raise

    def on_sign(self, sign: Sign) -> None:
        if sign is Sign.RESET:
            self.lose(_reset_error())
        elif sign is Sign.END and not self._is_closing and not self._protocol.eof_received():
            self.close()

    def lose(self, error: Exception) -> None:
        """The connection is gone."""
        self._outgoing.stop()
        self._is_closing = True
        self._finish(error)

    # --- inside

    def _on_room(self) -> None:
        if self._is_lost or self.is_dead:
            return
        if self._is_writing_paused and self._outgoing.unsent_bytes <= self._low_mark:
            self._is_writing_paused = False
            self._protocol.resume_writing()
        if self._is_closing and not self._outgoing.unsent_bytes:
            self._finish(None)

    def _check_high_mark(self) -> None:
        if not self._is_writing_paused and self._outgoing.unsent_bytes > self._high_mark:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def _end_at_once(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_closing, self.takes_data = True, False
            self._outgoing.reset()
            self._loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        if not self._is_lost and not self.is_dead:
            self._is_lost = True
            self._incoming.stop()
            self._protocol.connection_lost(error)
            self._server.on_transport_lost()


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
