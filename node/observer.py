"""How brokers that are no voters follow the metadata log: one stream from a voter, a snapshot first, then each committed change.

    message: byte 0  kind    0 snapshot, 1 records
                  1  index   int64, of the last log entry that is in it
                  9  body    the machine's dump, or encoded records

A voter sends only what it has applied, and that is committed. An observer keeps the image in memory: after a restart it
begins with a snapshot again.
"""

import asyncio
import logging
import struct
from collections import deque

from quorumlog.host.ports import PeerGone, Peers, PeerStream
from quorumlog.metadata.codec import encode_records
from quorumlog.metadata.image import Image
from quorumlog.metadata.machine import MetadataMachine, dump_image
from quorumlog.metadata.records import Record

from .cluster import ClusterView
from .retry import until_reached
from .tasks import Tasks, cancelled, wait_at_most

logger = logging.getLogger(__name__)

SERVICE = "metadata"
HEAD = struct.Struct(">Bq")
SNAPSHOT, RECORDS = 0, 1
QUEUED_CHANGES_MAX = 10_000
CONNECT_TIMEOUT_S = 1.0
RETRY_PAUSE_S = 0.1
SILENCE_S = 3.0
PING_S = 1.0


class MetadataPublisher:
    """On every voter: serves the streams of observers."""

    def __init__(self, cluster: ClusterView, peers: Peers) -> None:
        self._cluster = cluster
        self._peers = peers
        self._queues: dict[int, tuple[deque[bytes], asyncio.Event]] = {}

    def start(self) -> None:
        self._cluster.subscribe(self._on_image)
        self._peers.serve_stream(SERVICE, self._serve)

    def _on_image(self, _old: Image, image: Image, records: tuple[Record, ...] | None) -> None:
        if not self._queues:
            return
        message = _snapshot(image) if records is None else HEAD.pack(RECORDS, image.index) + encode_records(records)
        for queue, wake in self._queues.values():
            queue.append(message)
            wake.set()

    async def _serve(self, stream: PeerStream) -> None:
        """Runs until the observer goes or falls too far behind; it comes back and begins with a snapshot."""
        queue: deque[bytes] = deque([_snapshot(self._cluster.image)])
        wake = asyncio.Event()
        self._queues[id(queue)] = (queue, wake)
        try:
            while len(queue) < QUEUED_CHANGES_MAX:
                while queue:
                    await stream.send([queue.popleft()])
                wake.clear()
                await wait_at_most(wake, PING_S)
                if not queue:  # a sign of life, without content
                    queue.append(HEAD.pack(RECORDS, self._cluster.image.index) + encode_records(()))
            logger.warning("observer %d is %d changes behind; it has to begin again", stream.node_id, len(queue))
        except PeerGone:
            pass
        finally:
            del self._queues[id(queue)]


class MetadataObserver:
    """On a broker that is no voter: keeps the image as a voter has it."""

    def __init__(self, machine: MetadataMachine, voters: list[int], peers: Peers, tasks: Tasks) -> None:
        self._tasks = tasks
        self._turn = -1
        self._machine = machine
        self._voters = voters
        self._peers = peers
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._tasks.spawn(self._run(), "metadata observer")

    async def close(self) -> None:
        await cancelled(self._task)

    async def _run(self) -> None:
        retry = until_reached(first_pause_s=RETRY_PAUSE_S, longest_pause_s=1.0)
        while True:
            await self._follow(await retry(self._connect_to_next))

    async def _connect_to_next(self) -> PeerStream:
        """Another voter at each try. Raises PeerGone."""
        self._turn += 1
        return await self._peers.connect(self._voters[self._turn % len(self._voters)], SERVICE, CONNECT_TIMEOUT_S)

    async def _follow(self, stream: PeerStream) -> None:
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    self._apply(await stream.receive())
        except (PeerGone, TimeoutError) as error:
            logger.info("metadata stream from voter %d ended: %s", stream.node_id, error)
        finally:
            await stream.close()

    def _apply(self, message: bytes) -> None:
        if len(message) < HEAD.size:
            raise PeerGone(f"{len(message)} bytes that are no metadata")
        kind, index = HEAD.unpack_from(message)
        body, held = message[HEAD.size :], self._machine.image.index
        if kind == SNAPSHOT:
            if index > held:  # an older voter must not take us back in time
                self._machine.restore(index, body)
            elif index < held:
                raise PeerGone(f"the voter is at {index}, behind our {held}")
        elif kind != RECORDS:
            raise PeerGone(f"metadata of kind {kind}, which this version does not know")
        elif index > held:
            self._machine.apply(index, 0, body)


def _snapshot(image: Image) -> bytes:
    return HEAD.pack(SNAPSHOT, image.index) + dump_image(image)
