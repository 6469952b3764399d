"""Nodes that speak over links in memory, which can be slow, silent in one direction, or gone.

Messages cross as bytes, so that no object is shared and every codec is exercised. A cut link is silent, as a pulled cable is:
what was sent waits, and arrives in order once the link is healed, unless the stream was given up meanwhile (`break_streams`,
which a real one does by itself after some seconds of silence). A killed node's streams end and its port refuses, at once.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Sequence

from quorumlog.host.ports import Buffer, CallHandler, PeerGone, PeerStream, StreamHandler

logger = logging.getLogger(__name__)

MESSAGES_UNDER_WAY_MAX = 4  # a sender waits while so many have not been received


class SimNetwork:
    """All nodes and the links between them. A test makes one and ends it with `stop`."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s  # of every message
        self.delays_s: dict[tuple[int, int], float] = {}  # from one node to another, where it differs
        self._nodes: dict[int, SimPeers] = {}
        self._cut: set[tuple[int, int]] = set()
        self._pipes: dict[_Pipe, None] = {}  # in order of their making, so that a seed decides every order

    def peers(self, node_id: int) -> "SimPeers":
        """The `Peers` of a process that starts now; the node's earlier process, if any, dies."""
        self.kill(node_id)
        self._nodes[node_id] = SimPeers(self, node_id)
        return self._nodes[node_id]

    def find(self, node_id: int) -> "SimPeers | None":
        """The process that runs as this node now."""
        return self._nodes.get(node_id)

    def kill(self, node_id: int) -> None:
        """End a node's process: its port refuses, its handlers stop, and whoever had a stream with it sees PeerGone."""
        if peers := self._nodes.pop(node_id, None):
            peers.die()
            for pipe in [pipe for pipe in self._pipes if node_id in pipe.node_ids]:
                pipe.end(f"node {node_id} died", by=node_id)

    def cut(self, source: int, destination: int) -> None:
        """From now on nothing that `source` sends reaches `destination`."""
        self._cut.add((source, destination))

    def cut_both(self, one: int, other: int) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def heal(self) -> None:
        """All links work again; what still waits on them arrives."""
        self._cut.clear()
        for pipe in self._pipes:
            pipe.notify()
        self._pipes = {pipe: None for pipe in self._pipes if pipe.end_reason is None}

    def break_streams(self, one: int, other: int) -> None:
        """End all streams between two nodes, and the connections under way."""
        for pipe in [pipe for pipe in self._pipes if pipe.node_ids == {one, other}]:
            pipe.end(f"the link between node {one} and node {other} is silent", by=None)

    async def stop(self) -> None:
        """Kill all nodes and leave no task behind."""
        tasks = [task for node_id in sorted(self._nodes) for task in self._nodes[node_id].handling]
        for node_id in sorted(self._nodes):
            self.kill(node_id)
        if tasks:
            await asyncio.wait(tasks)

    def is_cut(self, source: int, destination: int) -> bool:
        return (source, destination) in self._cut

    def delay(self, source: int, destination: int) -> float:
        return self.delays_s.get((source, destination), self.delay_s)

    def lay(self, client: int, server: int) -> "_Pipe":
        """A new connection between two nodes."""
        pipe = _Pipe(self, client, server)
        self._pipes[pipe] = None
        return pipe

    def on_end(self, pipe: "_Pipe") -> None:
        # While a link is cut, somebody may yet have to hear of the end when it is healed.
        if not self._cut:
            self._pipes.pop(pipe, None)


class SimPeers:
    """Implements `Peers` for one life of a node."""

    def __init__(self, network: SimNetwork, node_id: int) -> None:
        self.node_id = node_id
        self.handling: dict[asyncio.Task[None], None] = {}
        self._network = network
        self._alive = True
        self._services: dict[str, StreamHandler] = {}

    def serve_stream(self, service: str, handler: StreamHandler) -> None:
        self._services[service] = handler

    def serve_call(self, method: str, handler: CallHandler) -> None:
        self._services[_call_service(method)] = functools.partial(_answer_one, handler)

    def set_address(self, node_id: int, host: str, port: int) -> None:
        """Nodes find each other by their ids here."""

    async def connect(self, node_id: int, service: str, timeout_s: float) -> PeerStream:
        pipe = self._network.lay(self.node_id, node_id)
        try:
            async with asyncio.timeout(timeout_s):
                # A connection is made by one word each way.
                pipe.client.push(b"")
                await pipe.server.receive()
                self._accept(pipe, node_id, service)
                await pipe.client.receive()
        except TimeoutError as error:
            pipe.end("it was not answered", by=self.node_id)
            raise PeerGone(f"node {node_id} did not answer in time") from error
        except BaseException:
            pipe.end("the connection failed", by=None)
            raise
        return pipe.client

    async def call(self, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self.connect(node_id, _call_service(method), timeout_s)
                try:
                    await stream.send([request])
                    return await stream.receive()
                finally:
                    await stream.close()
        except TimeoutError as error:
            raise PeerGone(f"node {node_id} did not answer in time") from error

    async def is_refused(self, node_id: int) -> bool:
        silent = self._network.is_cut(self.node_id, node_id) or self._network.is_cut(node_id, self.node_id)
        return not silent and self._network.find(node_id) is None

    def die(self) -> None:
        self._alive = False
        for task in list(self.handling):
            task.cancel()

    def _accept(self, pipe: "_Pipe", node_id: int, service: str) -> None:
        target = self._network.find(node_id)
        if target is None or not self._alive:
            raise PeerGone(f"node {node_id} refuses, or node {self.node_id} is dead")
        if service not in target._services:
            raise PeerGone(f"node {node_id} does not serve {service}")
        pipe.server.push(b"")
        target._handle(pipe.server, service)

    def _handle(self, stream: "_End", service: str) -> None:
        task = asyncio.create_task(_run_handler(self._services[service], stream), name=f"{service} on node {self.node_id}")
        self.handling[task] = None
        task.add_done_callback(self.handling.pop)


class _Pipe:
    """One connection. It ends once, for a reason, by one of its nodes or (None) for both at the same time."""

    def __init__(self, network: SimNetwork, client: int, server: int) -> None:
        self.network = network
        self.node_ids = {client, server}
        self.end_reason: str | None = None
        self.ended_by: int | None = None
        self.client = _End(self, here=client, there=server)
        self.server = _End(self, here=server, there=client)
        self.client.other, self.server.other = self.server, self.client

    def end(self, reason: str, by: int | None) -> None:
        if self.end_reason is None:
            self.end_reason, self.ended_by = reason, by
            self.network.on_end(self)
            self.notify()

    def notify(self) -> None:
        self.client.changed.set()
        self.server.changed.set()


class _End:
    """Implements `PeerStream` for one side of a pipe."""

    other: "_End"

    def __init__(self, pipe: _Pipe, *, here: int, there: int) -> None:
        self.node_id = there
        self.changed = asyncio.Event()
        self._pipe = pipe
        self._here = here
        self._arriving: deque[tuple[float, bytes]] = deque()  # when it arrives, and what

    async def send(self, buffers: Sequence[Buffer]) -> None:
        message = b"".join(buffers)
        while len(self.other._arriving) >= MESSAGES_UNDER_WAY_MAX:
            self._check_going_on()
            await self._wait(None)
        self._check_going_on()
        self.push(message)

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        while not (self._arriving and self._arriving[0][0] <= loop.time() and not self._is_silent()):
            if not self._arriving or self._is_silent():
                self._check_going_on()
            await self._wait(self._arriving[0][0] - loop.time() if self._arriving else None)
        self.other.changed.set()
        return self._arriving.popleft()[1]

    async def close(self) -> None:
        self._arriving.clear()
        self._pipe.end(f"node {self._here} closed it", by=self._here)

    def push(self, message: bytes) -> None:
        """Put a message on the link, however many are there."""
        arrival = asyncio.get_running_loop().time() + self._pipe.network.delay(self._here, self.node_id)
        self.other._arriving.append((arrival, message))
        self.other.changed.set()

    def _is_silent(self) -> bool:
        return self._pipe.network.is_cut(self.node_id, self._here)

    def _check_going_on(self) -> None:
        # That the other side ended the stream is news which must cross the link like everything else.
        pipe = self._pipe
        if pipe.end_reason is not None and not (pipe.ended_by == self.node_id and self._is_silent()):
            raise PeerGone(f"the stream with node {self.node_id} ended: {pipe.end_reason}")

    async def _wait(self, timeout_s: float | None) -> None:
        """Until something may have changed, or a message that is under way arrives."""
        self.changed.clear()
        try:
            async with asyncio.timeout(timeout_s if timeout_s is None or timeout_s > 0 else None):
                await self.changed.wait()
        except TimeoutError:
            pass


async def _run_handler(handler: StreamHandler, stream: _End) -> None:
    try:
        await handler(stream)
    except PeerGone:
        pass
    except Exception:
        logger.exception("a handler failed on a message of node %d", stream.node_id)
    finally:
        await stream.close()


async def _answer_one(handler: CallHandler, stream: PeerStream) -> None:
    await stream.send([await handler(stream.node_id, await stream.receive())])
    # The asker closes: closing here could overtake the answer on a slow link.
    await stream.receive()


def _call_service(method: str) -> str:
    return f"call {method}"
