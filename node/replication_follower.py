"""The follower's end of replication: one stream to each node that leads partitions of ours.

`ReplicaFetcher` keeps the stream: it connects, says where every partition begins, applies what comes, and acknowledges what the
flusher has made durable. Acknowledgments of one round travel in one message. A partition that the leader refuses begins again
after a pause; a stream that ends is opened again as long as anything is followed on it.
"""

import asyncio
import logging
from collections.abc import Callable

from quorumlog.host.ports import Clock, PeerGone, Peers, PeerStream
from quorumlog.partitions.partition import Diverging, Partition
from quorumlog.proto.replication_pb2 import FollowerMessage, Section
from quorumlog.wire.errors import ClusterError, ErrorCode

from .replicas import Replicas
from .replication_messages import BadMessage, decode_leader_message
from .replication_throttle import Throttle
from .retry import until_reached
from .suspects import Suspects
from .tasks import Tasks, cancelled

logger = logging.getLogger(__name__)

SERVICE = "replication"
CONNECT_TIMEOUT_S = 2.0
RETRY_PAUSE_MIN_S, RETRY_PAUSE_MAX_S = 0.02, 1.0


class FollowerSide:
    """Owned by the node: one fetcher per leader node."""

    def __init__(
        self, replicas: Replicas, peers: Peers, suspects: Suspects, clock: Clock, tasks: Tasks, *, ping_s: float
    ) -> None:
        self._tasks = tasks
        self._broker_epoch: Callable[[], int] = lambda: -1
        self._replicas = replicas
        self._peers = peers
        self._suspects = suspects
        self._clock = clock
        self._ping_s = ping_s
        self._fetchers: dict[int, ReplicaFetcher] = {}
        self._fetcher_of: dict[Partition, ReplicaFetcher] = {}
        self._throttle = Throttle("follower", replicas)

    def introduce_as(self, broker_epoch: Callable[[], int]) -> None:
        """What this node's registration is, to be told to leaders."""
        self._broker_epoch = broker_epoch

    def follow(self, partition: Partition) -> None:
        """Follow the partition's leader in its present epoch."""
        leader = partition.leader_id
        if leader < 0 or leader == self._replicas.node_id:
            return
        fetcher = self._fetchers.get(leader)
        if fetcher is None:
            fetcher = ReplicaFetcher(
                leader,
                self._replicas,
                self._peers,
                self._suspects,
                self._clock,
                self._ping_s,
                self._tasks,
                self._broker_epoch,
                self._throttle,
                on_idle=self._on_idle,
            )
            self._fetchers[leader] = fetcher
        self._fetcher_of[partition] = fetcher
        fetcher.add(partition)

    def unfollow(self, partition: Partition) -> None:
        fetcher = self._fetcher_of.pop(partition, None)
        if fetcher is not None:
            fetcher.remove(partition)

    def acknowledge(self, partition: Partition) -> None:
        fetcher = self._fetcher_of.get(partition)
        if fetcher is not None:
            fetcher.acknowledge(partition)

    async def close(self) -> None:
        for fetcher in list(self._fetchers.values()):
            await fetcher.close()
        self._fetchers.clear()

    def _on_idle(self, fetcher: "ReplicaFetcher") -> None:
        if self._fetchers.get(fetcher.leader) is fetcher:
            del self._fetchers[fetcher.leader]


def _name_of(error_code: int) -> str:
    """Also of a code that only a later version of the leader knows."""
    try:
        return ErrorCode(error_code).name
    except ValueError:
        return f"error {error_code}"


class ReplicaFetcher:
    def __init__(
        self,
        leader: int,
        replicas: Replicas,
        peers: Peers,
        suspects: Suspects,
        clock: Clock,
        ping_s: float,
        tasks: Tasks,
        broker_epoch: Callable[[], int],
        throttle: Throttle,
        *,
        on_idle: Callable[["ReplicaFetcher"], None],
    ) -> None:
        self.leader = leader
        self._replicas = replicas
        self._peers = peers
        self._suspects = suspects
        self._clock = clock
        self._ping_s = ping_s
        self._broker_epoch = broker_epoch
        self._throttle = throttle
        self._on_idle = on_idle
        self._handles: dict[Partition, int] = {}
        self._partitions: dict[int, Partition] = {}
        self._next_handle = 0
        self._begins: dict[Partition, None] = {}
        self._ends: list[int] = []
        self._acknowledgments: dict[Partition, None] = {}
        self._pauses: dict[Partition, None] = {}
        self._resumes: dict[Partition, None] = {}
        self._paused: dict[Partition, None] = {}
        self._resume_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._sent_at = 0.0  # by the loop's time
        self._ping_timer: asyncio.TimerHandle | None = None
        self._retries: dict[asyncio.TimerHandle, None] = {}
        self._refusals: dict[Partition, int] = {}  # in a row
        self._task = tasks.spawn(self._run(), f"fetch from node {leader}")

    def add(self, partition: Partition) -> None:
        self._handles[partition] = -1
        self._begin(partition)

    def remove(self, partition: Partition) -> None:
        handle = self._handles.pop(partition, -1)
        self._begins.pop(partition, None)
        self._refusals.pop(partition, None)
        self._acknowledgments.pop(partition, None)
        self._forget_pause(partition)
        if handle >= 0:
            del self._partitions[handle]
            self._ends.append(handle)
        self._wake.set()

    def acknowledge(self, partition: Partition) -> None:
        self._acknowledgments[partition] = None
        self._wake.set()

    async def close(self) -> None:
        await cancelled(self._task)

    # --- the stream

    async def _run(self) -> None:
        retry = until_reached(first_pause_s=0.02, longest_pause_s=0.5, stop=lambda _: not self._handles)
        try:
            while self._handles:
                stream: PeerStream = await retry(self._peers.connect, self.leader, SERVICE, CONNECT_TIMEOUT_S)
                await self._serve_stream(stream)
                await self._suspects.is_gone(self.leader)
        except PeerGone:
            pass  # nothing is followed there any more
        finally:
            for timer in (*self._retries, self._resume_timer, self._ping_timer):
                if timer is not None:
                    timer.cancel()
            self._on_idle(self)

    async def _serve_stream(self, stream: PeerStream) -> None:
        """Fetch until the stream ends."""
        self._begin_all()
        sender = asyncio.create_task(self._send_marked(stream), name=f"acknowledge to node {self.leader}")
        try:
            while not sender.done():
                self._on_message(await stream.receive())
        except (PeerGone, BadMessage) as error:
            logger.info("replication stream to node %d ended: %s", self.leader, error)
        finally:
            self._on_stream_ended()
            await cancelled(sender)
            await stream.close()

    def _on_stream_ended(self) -> None:
        """Consumers who read here go back to the leader: we no longer hear how far is committed (KIP-392)."""
        for partition in self._handles:
            partition.on_leader_lost()
            self._replicas.reads.wake(partition.tp)

    def _begin_all(self) -> None:
        self._partitions.clear()
        self._ends.clear()
        self._acknowledgments.clear()
        for partition in self._handles:
            self._handles[partition] = -1
            self._begin(partition)

    def _begin(self, partition: Partition) -> None:
        if partition in self._handles:
            self._forget_pause(partition)  # the pause was for the handle before
            self._begins[partition] = None
            self._wake.set()

    async def _send_marked(self, stream: PeerStream) -> None:
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        self._ping_when_due()
        try:
            while self._handles:
                message = self._next_message()
                self._add_pauses(message)
                self._sent_at = loop.time()
                await stream.send([message.SerializeToString()])
                await self._wake.wait()
        except PeerGone:
            pass
        finally:
            await stream.close()  # ends the reader as well

    def _ping_when_due(self) -> None:
        """Wake the sender with a sign of life for every partition, whenever it has been silent for so long."""
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        loop = asyncio.get_running_loop()
        due_in_s = self._sent_at + self._ping_s - loop.time()
        if due_in_s <= 0:
            self._acknowledgments.update(dict.fromkeys(self._partitions.values()))
            self._wake.set()
            due_in_s = self._ping_s
        self._ping_timer = loop.call_later(due_in_s, self._ping_when_due)

    def _next_message(self) -> FollowerMessage:
        self._wake.clear()
        message = FollowerMessage(ends=self._ends)
        self._ends.clear()
        for partition in self._begins:
            self._add_begin(message, partition)
        self._begins.clear()
        for partition in self._acknowledgments:
            handle = self._handles.get(partition, -1)
            if handle >= 0:
                message.acknowledgments.add(
                    handle=handle, leader_epoch=partition.leader_epoch, flushed_offset=partition.flushed_offset
                )
        self._acknowledgments.clear()
        return message

    def _add_begin(self, message: FollowerMessage, partition: Partition) -> None:
        """A fresh handle each time: what was sent for the old one, before the leader read this, is then ignored."""
        old = self._handles[partition]
        if old >= 0:
            del self._partitions[old]
        handle = self._next_handle
        self._next_handle += 1
        self._handles[partition] = handle
        self._partitions[handle] = partition
        position = partition.position()
        message.begins.add(
            handle=handle,
            topic_id=partition.topic_id.bytes,
            partition=partition.tp.partition,
            leader_epoch=position.leader_epoch,
            fetch_offset=position.fetch_offset,
            flushed_offset=position.flushed_offset,
            last_epoch=position.last_epoch,
            broker_epoch=self._broker_epoch(),
        )

    # --- what the leader says

    def _on_message(self, data: bytes) -> None:
        for section, records in decode_leader_message(data):
            partition = self._partitions.get(section.handle)
            if partition is not None and section.leader_epoch == partition.leader_epoch:
                try:
                    self._on_section(partition, section, records)
                except ClusterError as error:
                    logger.warning("%s: cannot take what node %d sent: %s", partition.tp, self.leader, error)
                    self._begin_later(partition)

    def _on_section(self, partition: Partition, section: Section, records: memoryview) -> None:
        match section.WhichOneof("refusal"):
            case "diverging":
                partition.on_diverging(section.leader_epoch, Diverging(section.diverging.epoch, section.diverging.end_offset))
                logger.info("%s: log cut to offset %d to match the leader", partition.tp, partition.log_end_offset)
                self._replicas.on_fetched(partition)
                self._begin(partition)
            case "reset_offset":
                partition.reset_to(section.leader_epoch, section.reset_offset)
                logger.info("%s: behind the leader's log start, begins again at %d", partition.tp, section.reset_offset)
                self._replicas.on_fetched(partition)
                self._begin(partition)
            case "error_code":
                logger.info("%s: node %d refused: %s", partition.tp, self.leader, _name_of(section.error_code))
                self._begin_later(partition)
            case _:
                self._apply(partition, section, records)
                self._brake(partition, len(records))

    def _apply(self, partition: Partition, section: Section, records: memoryview) -> None:
        marks = partition.high_watermark, partition.log_start_offset
        partition.apply_fetched(
            section.leader_epoch,
            records,
            high_watermark=section.high_watermark,
            log_start_offset=section.log_start_offset,
            wall_ms=self._clock.wall_ms(),
        )
        self._refusals.pop(partition, None)
        if records:
            self._replicas.on_fetched(partition)
        if marks != (partition.high_watermark, partition.log_start_offset):
            self._replicas.reads.wake(partition.tp)  # consumers may read here too (KIP-392)

    # --- no faster than the throttle says

    def _add_pauses(self, message: FollowerMessage) -> None:
        message.pauses.extend(self._handles[partition] for partition in self._pauses)
        message.resumes.extend(self._handles[partition] for partition in self._resumes)
        self._pauses.clear()
        self._resumes.clear()

    def _brake(self, partition: Partition, size: int) -> None:
        """Count what was taken; when that is more than it may be, have the leader pause until it is paid."""
        now = self._clock.now()
        bucket = self._throttle.bucket_for(partition, self._replicas.node_id, now)
        if bucket is None or not size:
            return
        bucket.take(size)
        if bucket.room(now) <= 0 and partition not in self._paused:
            self._paused[partition] = self._pauses[partition] = None
            self._wake.set()
            self._arm_resume(bucket.wait_s(now))

    def _arm_resume(self, wait_s: float) -> None:
        if self._resume_timer is None:
            self._resume_timer = asyncio.get_running_loop().call_later(wait_s, self._resume)

    def _resume(self) -> None:
        self._resume_timer = None
        now = self._clock.now()
        for partition in list(self._paused):
            bucket = self._throttle.bucket_for(partition, self._replicas.node_id, now)
            if bucket is not None and bucket.room(now) <= 0:
                self._arm_resume(bucket.wait_s(now))
                continue
            self._forget_pause(partition)
            self._resumes[partition] = None
            self._wake.set()

    def _forget_pause(self, partition: Partition) -> None:
        for waiting in (self._paused, self._pauses, self._resumes):
            waiting.pop(partition, None)

    def _begin_later(self, partition: Partition) -> None:
        """The leader does not know of its leadership yet, or lost it; the image will tell, or the next try succeeds."""

        def begin() -> None:
            self._retries.pop(timer, None)
            self._begin(partition)

        refusals = self._refusals[partition] = self._refusals.get(partition, 0) + 1
        pause_s = min(RETRY_PAUSE_MAX_S, RETRY_PAUSE_MIN_S * 2 ** min(refusals - 1, 10))
        timer = asyncio.get_running_loop().call_later(pause_s, begin)
        self._retries[timer] = None
