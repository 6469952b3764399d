"""Nodes that speak over links in memory, which can be slow, lossy, silent in one direction, or gone.

Messages cross as bytes, so that no object is shared and every codec is exercised. A cut link is silent, as a pulled cable is:
what was sent waits, and arrives in order once the link is healed, unless the stream was given up meanwhile (`break_streams`,
which a real one does by itself after some seconds of silence). A killed node's streams end and its port refuses; a node without
power is silent until it is back. What arrives at a node runs in the context in which its `Peers` was made: the node's own lane in
the simulator (loop.py).
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context

from quorumlog.host.ports import Buffer, CallHandler, PeerGone, PeerStream, StreamHandler

logger = logging.getLogger(__name__)

MESSAGES_UNDER_WAY_MAX = 4  # a sender waits while so many have not been received


class SimNetwork:
    """All nodes and the links between them. A test makes one and ends it with `stop`.

    `draw_delay(source, destination)` is asked for the seconds that each message takes; by default it is `delay_s`.
    """

    def __init__(self, *, delay_s: float = 0.0, draw_delay: Callable[[int, int], float] | None = None) -> None:
        self.delay_s = delay_s
        self.delays_s: dict[tuple[int, int], float] = {}  # from one node to another, where it differs
        self.delay = draw_delay or self._fixed_delay
        self.trace: Callable[[int, int, bytes], None] = lambda _source, _destination, _message: None
        self._nodes: dict[int, SimPeers] = {}
        self._without_power: set[int] = set()
        self._cut: set[tuple[int, int]] = set()
        self._pipes: dict[_Pipe, None] = {}  # in order of their making, so that a seed decides every order

    def peers(self, node_id: int) -> "SimPeers":
        """The `Peers` of a process that starts now; the node's earlier process, if any, dies."""
        self.kill(node_id)
        if node_id in self._without_power:
            self._without_power.discard(node_id)
            for pipe in self._pipes_of(node_id):
                pipe.on_healed()
        self._nodes[node_id] = SimPeers(self, node_id)
        return self._nodes[node_id]

    def find(self, node_id: int) -> "SimPeers | None":
        """The process that runs as this node now."""
        return self._nodes.get(node_id)

    def kill(self, node_id: int) -> None:
        """End a node's process: its port refuses, its handlers stop, and whoever had a stream with it sees PeerGone."""
        if peers := self._nodes.pop(node_id, None):
            peers.die()
        for pipe in self._pipes_of(node_id):
            pipe.end(f"node {node_id} died", by=node_id)

    def cut_power(self, node_id: int) -> None:
        """End a node's machine: nothing answers for it until a process starts there again."""
        if peers := self._nodes.pop(node_id, None):
            peers.die()
        self._without_power.add(node_id)

    def cut(self, source: int, destination: int) -> None:
        """From now on nothing that `source` sends reaches `destination`."""
        self._cut.add((source, destination))

    def cut_both(self, one: int, other: int) -> None:
        self.cut(one, other)
        self.cut(other, one)

    def heal(self) -> None:
        """All links work again; what still waits on them arrives."""
        self._cut.clear()
        for pipe in list(self._pipes):
            pipe.on_healed()

    def heal_link(self, source: int, destination: int) -> None:
        """One direction works again."""
        self._cut.discard((source, destination))
        for pipe in list(self._pipes):
            if pipe.node_ids == {source, destination}:
                pipe.on_healed()

    def break_streams(self, one: int, other: int, *, late_s: float = 0.0) -> None:
        """End all streams and attempts between two nodes; the side that was called hears of it `late_s` later."""
        for pipe in [pipe for pipe in self._pipes if pipe.node_ids == {one, other}]:
            pipe.give_up(f"the link between node {one} and node {other} is silent", late_s)

    async def stop(self) -> None:
        """Kill all nodes and leave no task behind."""
        tasks = [task for node_id in sorted(self._nodes) for task in self._nodes[node_id].handling]
        for node_id in sorted(self._nodes):
            self.kill(node_id)
        if tasks:
            await asyncio.wait(tasks)

    def is_silent(self, source: int, destination: int) -> bool:
        """Does nothing arrive from there now?"""
        return (source, destination) in self._cut or source in self._without_power or destination in self._without_power

    def lay(self, client: "SimPeers", server: int, service: str) -> "_Pipe":
        """A new connection between two nodes."""
        pipe = _Pipe(self, client, server, service)
        self._pipes[pipe] = None
        return pipe

    def on_over(self, pipe: "_Pipe") -> None:
        """Both sides know of its end."""
        self._pipes.pop(pipe, None)

    def _pipes_of(self, node_id: int) -> "list[_Pipe]":
        return [pipe for pipe in self._pipes if node_id in pipe.node_ids]

    def _fixed_delay(self, source: int, destination: int) -> float:
        return self.delays_s.get((source, destination), self.delay_s)


class SimPeers:
    """Implements `Peers` for one life of a node."""

    def __init__(self, network: SimNetwork, node_id: int) -> None:
        self.node_id = node_id
        self.handling: dict[asyncio.Task[None], None] = {}
        self.context = copy_context()
        self.alive = True
        self._network = network
        self._services: dict[str, StreamHandler] = {}

    def serve_stream(self, service: str, handler: StreamHandler) -> None:
        self._services[service] = handler

    def serve_call(self, method: str, handler: CallHandler) -> None:
        self._services[_call_service(method)] = functools.partial(_answer_one, handler)

    def set_address(self, node_id: int, host: str, port: int) -> None:
        """Nodes find each other by their ids here."""

    async def connect(self, node_id: int, service: str, timeout_s: float) -> PeerStream:
        pipe = self._network.lay(self, node_id, service)
        try:
            async with asyncio.timeout(timeout_s):
                # A connection is made by one word each way.
                pipe.server.arrive_later(b"")
                await pipe.client.receive()
        except TimeoutError as error:
            pipe.end("it was not answered", by=self.node_id)
            raise PeerGone(f"node {node_id} did not answer in time") from error
        except BaseException:
            pipe.end("the connection failed", by=self.node_id)
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
        network = self._network
        if delay_s := network.delay(self.node_id, node_id) + network.delay(node_id, self.node_id):
            await asyncio.sleep(delay_s)
        silent = network.is_silent(self.node_id, node_id) or network.is_silent(node_id, self.node_id)
        return not silent and network.find(node_id) is None

    def die(self) -> None:
        self.alive = False
        for task in list(self.handling):
            task.cancel()

    def accept(self, stream: "_End", service: str) -> None:
        """A connection arrives at this node. Raises PeerGone if nothing serves it."""
        if service not in self._services:
            raise PeerGone(f"node {self.node_id} does not serve {service}")
        work = _run_handler(self._services[service], stream)
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=f"{service} on node {self.node_id}", context=self.context.copy())
        self.handling[task] = None
        task.add_done_callback(self.handling.pop)


class _Pipe:
    """One connection. Each side sees its end once: at once where it was ended, as the last message of all on the other side."""

    def __init__(self, network: SimNetwork, client: SimPeers, server: int, service: str) -> None:
        self.network = network
        self.node_ids = {client.node_id, server}
        self.client = _End(self, here=client.node_id, there=server, owner=client)
        self.server = _End(self, here=server, there=client.node_id, owner=None)
        self.client.other, self.server.other = self.server, self.client
        self.service = service

    def end(self, reason: str, by: int) -> None:
        here = self.client if self.client.here == by else self.server
        if here.end_reason is None:
            here.see_end(reason)
            here.other.arrive_later(None)

    def give_up(self, reason: str, late_s: float) -> None:
        self.client.see_end(reason)
        if late_s:
            asyncio.get_running_loop().call_later(late_s, self.server.see_end, reason, context=self.server.context)
        else:
            self.server.see_end(reason)

    def on_healed(self) -> None:
        self.client.on_healed()
        self.server.on_healed()

    def on_seen(self) -> None:
        if self.client.end_reason is not None and self.server.end_reason is not None:
            self.network.on_over(self)


class _End:
    """Implements `PeerStream` for one side of a pipe."""

    other: "_End"

    def __init__(self, pipe: _Pipe, *, here: int, there: int, owner: SimPeers | None) -> None:
        self.node_id = there
        self.here = here
        self.end_reason: str | None = None
        self._pipe = pipe
        self._owner = owner  # whose process receives here
        self._changed = asyncio.Event()
        self._under_way: deque[bytes | None] = deque()  # None is the end of all
        self._held = 0  # so many of them are due, and cannot arrive
        self._arrived: deque[bytes] = deque()
        self.context = (owner.context if owner is not None else copy_context()).copy()

    async def send(self, buffers: Sequence[Buffer]) -> None:
        message = b"".join(buffers)
        while len(self.other._under_way) + len(self.other._arrived) >= MESSAGES_UNDER_WAY_MAX:
            self._check_going_on()
            await self._wait()
        self._check_going_on()
        self.other.arrive_later(message)

    async def receive(self) -> bytes:
        while not self._arrived:
            self._check_going_on()
            await self._wait()
        self.other._changed.set()
        return self._arrived.popleft()

    async def close(self) -> None:
        self._arrived.clear()
        self._pipe.end(f"node {self.here} closed it", by=self.here)

    def arrive_later(self, message: bytes | None) -> None:
        """Put a message on the link to this side, however many are there."""
        loop = asyncio.get_running_loop()
        self._under_way.append(message)
        if delay_s := self._pipe.network.delay(self.node_id, self.here):
            loop.call_later(delay_s, self._arrive, context=self.context)
        else:
            loop.call_soon(self._arrive, context=self.context)

    def on_healed(self) -> None:
        held, self._held = self._held, 0
        for _ in range(held):
            asyncio.get_running_loop().call_soon(self._arrive, context=self.context)

    def see_end(self, reason: str) -> None:
        if self.end_reason is None:
            self.end_reason = reason
            self._changed.set()
            self._pipe.on_seen()

    def _arrive(self) -> None:
        """What is next in order is here, whichever message this delay was drawn for."""
        network = self._pipe.network
        if network.is_silent(self.node_id, self.here):
            self._held += 1
        elif self._under_way:
            message = self._under_way.popleft()
            self._take(message)

    def _take(self, message: bytes | None) -> None:
        network = self._pipe.network
        if self._owner is None:
            self._accept(network.find(self.here))
        elif message is None:
            self.see_end(self.other.end_reason or "it ended")
        elif self.end_reason is None and self._owner.alive:
            network.trace(self.node_id, self.here, message)
            self._arrived.append(message)
            self._changed.set()

    def _accept(self, peers: SimPeers | None) -> None:
        """The first word arrives at whoever listens here now."""
        try:
            if peers is None:
                raise PeerGone(f"node {self.here} refuses")
            peers.accept(self, self._pipe.service)
        except PeerGone as error:
            self._pipe.end(str(error), by=self.here)
            return
        assert peers is not None
        self._owner, self.context = peers, peers.context.copy()
        self.other.arrive_later(b"")

    def _check_going_on(self) -> None:
        if self.end_reason is not None:
            raise PeerGone(f"the stream with node {self.node_id} ended: {self.end_reason}")

    async def _wait(self) -> None:
        """Until something may have changed."""
        self._changed.clear()
        await self._changed.wait()


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
