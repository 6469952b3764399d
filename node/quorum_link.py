"""Carries the quorum's messages between voters: one stream to each other voter for what we say to it.

Frames are handed over by the quorum's thread and sent by tasks on the loop. A stream that ends is told to the quorum, together
with whether the other process is gone for certain (its machine answers, its port refuses): then an election need not wait.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from quorumlog.host.ports import PeerGone, Peers, PeerStream
from quorumlog.raft.driver import QuorumDriver

from .retry import until_reached
from .suspects import Suspects
from .tasks import Tasks, cancelled

logger = logging.getLogger(__name__)

SERVICE = "raft"
CONNECT_TIMEOUT_S = 1.0
RECONNECT_PAUSE_S = 0.1
QUEUED_FRAMES_MAX = 10_000


class QuorumLink:
    """Owned by a node that is a voter. `on_gone(node)` is called when another voter's process is known to be gone."""

    def __init__(
        self, peers: Peers, others: list[int], suspects: Suspects, tasks: Tasks, *, on_gone: Callable[[int], None]
    ) -> None:
        self._peers = peers
        self._suspects = suspects
        self._on_gone = on_gone
        self._queues: dict[int, deque[bytes]] = {peer: deque() for peer in others}
        self._wakes: dict[int, asyncio.Event] = {peer: asyncio.Event() for peer in others}
        self._connected: set[int] = set()
        self._tasks = tasks
        self._streams: list[asyncio.Task[None]] = []
        self._thread: QuorumDriver | None = None
        self._loop = asyncio.get_running_loop()

    def start(self, thread: QuorumDriver) -> None:
        self._thread = thread
        self._peers.serve_stream(SERVICE, self._receive)
        for peer in self._queues:
            self._streams.append(self._tasks.spawn(self._keep_stream(peer), f"raft to node {peer}"))

    async def close(self) -> None:
        for task in self._streams:
            await cancelled(task)

    def send(self, peer: int, frame: bytes) -> bool:
        """Called on the quorum's thread. False if there is no stream, or too much waits on it: the quorum sends again later."""
        queue = self._queues[peer]
        if peer not in self._connected or len(queue) >= QUEUED_FRAMES_MAX:
            return False
        queue.append(frame)
        if len(queue) == 1:
            self._loop.call_soon_threadsafe(self._wakes[peer].set)
        return True

    async def _receive(self, stream: PeerStream) -> None:
        assert self._thread is not None
        if stream.node_id not in self._queues:
            logger.warning("node %d is no voter and has nothing to say to the quorum", stream.node_id)
            return
        try:
            while True:
                self._thread.on_message(stream.node_id, await stream.receive())
        except PeerGone:
            pass

    async def _keep_stream(self, peer: int) -> None:
        retry = until_reached(first_pause_s=0.02, longest_pause_s=RECONNECT_PAUSE_S)
        while True:
            await self._send_queue(peer, await retry(self._peers.connect, peer, SERVICE, CONNECT_TIMEOUT_S))

    async def _send_queue(self, peer: int, stream: PeerStream) -> None:
        assert self._thread is not None
        queue, wake = self._queues[peer], self._wakes[peer]
        queue.clear()
        self._connected.add(peer)
        self._thread.on_peer_connected(peer)
        ended = self._loop.create_task(self._watch(stream, wake), name=f"watch voter {peer}")
        try:
            while not ended.done():
                while queue:
                    await stream.send([queue[0]])
                    queue.popleft()
                wake.clear()
                if not queue and not ended.done():
                    await wake.wait()
        except PeerGone:
            pass
        finally:
            self._connected.discard(peer)
            await cancelled(ended)
            await stream.close()
        gone = await self._suspects.is_gone(peer)
        logger.info("stream to voter %d ended%s", peer, ", its process is gone" if gone else "")
        self._thread.on_peer_disconnected(peer, process_gone=gone)
        if gone:
            self._on_gone(peer)

    @staticmethod
    async def _watch(stream: PeerStream, wake: asyncio.Event) -> None:
        """Nothing is ever said to us on this stream: the first receive returns when it ends."""
        try:
            await stream.receive()
        except PeerGone:
            pass
        finally:
            wake.set()
