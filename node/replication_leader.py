"""The leader's end of replication: one stream per following node, on which all partitions between the two share messages.

The follower says where each partition begins and what it has flushed; this side sends what is appended, as soon as it is, in
messages of up to `replication_message_bytes`. Little waits until what was sent before is acknowledged, and then goes together, as
in Nagle's algorithm (RFC 896): it would only have waited for the follower's sync instead, and a message costs more than the small
batches in it. The brakes are gRPC's flow control and, for followers that are catching up, the throttle. A stream that ends takes
its followings with it: the follower comes back and begins again where it stands.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import DecodeError

from quorumlog.host.ports import Buffer, Clock, PeerGone, PeerStream
from quorumlog.partitions.partition import Diverging, OutOfRange, Partition, Position, Role
from quorumlog.partitions.results import Appended
from quorumlog.proto.replication_pb2 import Acknowledgment, Begin, Divergence, FollowerMessage, LeaderMessage, Section
from quorumlog.wire.errors import ClusterError, ErrorCode

from .fresh_batches import FreshBatches, Room, unpinned
from .replicas import Replicas
from .replication_messages import encode_leader_message
from .replication_throttle import Throttle, TokenBucket
from .tasks import cancelled

logger = logging.getLogger(__name__)

HANDLES_MAX = 100_000
UUID_BYTES = 16
QUIET_MARKS_S = 0.02  # a high watermark or log start alone may wait so long for records to travel with
LITTLE_BYTES = 64 << 10  # as much does not wait for company
LITTLE_WAITS_S = 0.01  # at most, for an acknowledgment: the follower may be slow, or have lost the partition
FRESH_BYTES_MAX = 16 << 20  # of one follower's stream: what is sent soon need not be read back


@dataclass(slots=True, eq=False)
class Following:
    """One partition that one follower receives."""

    handle: int
    partition: Partition
    leader_epoch: int
    next_offset: int
    broker_epoch: int  # of the follower's registration
    fresh: FreshBatches
    marks_sent: tuple[int, int] = (-1, -1)  # high watermark and log start
    is_held: bool = False  # by our throttle, until the session's timer
    is_paused: bool = False  # by the follower, until it says otherwise


class LeaderSide:
    """Owned by the node: serves the streams of all followers, and passes on what the partitions report."""

    def __init__(self, replicas: Replicas, *, clock: Clock, message_bytes: int) -> None:
        self._replicas = replicas
        self._clock = clock
        self._message_bytes = message_bytes
        self._sessions: dict[Partition, dict[FollowerSession, None]] = {}
        self.throttle = Throttle("leader", replicas)

    async def serve(self, stream: PeerStream) -> None:
        """Handle one follower's stream until it ends."""
        session = FollowerSession(self, stream, self._replicas, self._clock, self._message_bytes)
        try:
            await session.run()
        finally:
            session.end()

    def attach(self, partition: Partition, session: "FollowerSession") -> None:
        self._sessions.setdefault(partition, {})[session] = None

    def detach(self, partition: Partition, session: "FollowerSession") -> None:
        sessions = self._sessions.get(partition)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[partition]

    def is_followed_by(self, partition: Partition, node_id: int) -> bool:
        return any(session.follower == node_id for session in self._sessions.get(partition, ()))

    def broker_epoch_of(self, partition: Partition, node_id: int) -> int:
        """In which registration the follower told its position, -1 if it is not on a stream now."""
        epochs = (
            session.broker_epoch_in(partition) for session in self._sessions.get(partition, ()) if session.follower == node_id
        )
        return max(epochs, default=-1)

    def on_appended(self, partition: Partition, appended: Sequence[Appended]) -> None:
        sessions = self._sessions.get(partition)
        if not sessions:
            return
        kept = [unpinned(batch) for batch in appended]
        for session in sessions:
            session.keep(partition, kept)
            session.mark_records(partition)

    def on_marks(self, partition: Partition) -> None:
        for session in self._sessions.get(partition, ()):
            session.mark_marks(partition)

    def on_role_changed(self, partition: Partition) -> None:
        """The followings of the old epoch are over; their followers begin again in the new one."""
        for session in list(self._sessions.get(partition, ())):
            session.drop(partition)


class FollowerSession:
    """One follower's stream. Two tasks: this one reads, the sender writes what is marked."""

    def __init__(self, side: LeaderSide, stream: PeerStream, replicas: Replicas, clock: Clock, message_bytes: int) -> None:
        self._side = side
        self._stream = stream
        self._replicas = replicas
        self._clock = clock
        self._message_bytes = message_bytes
        self.follower = stream.node_id
        self._by_handle: dict[int, Following] = {}
        self._by_partition: dict[Partition, Following] = {}
        self._with_records: dict[Following, None] = {}
        self._with_marks: dict[Following, None] = {}
        self._held: dict[Following, None] = {}
        self._unacknowledged: dict[Following, None] = {}  # has not flushed all that was sent
        self._records_sent_at = float("-inf")
        self._release_timer: asyncio.TimerHandle | None = None
        self._wake_timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0  # by the loop's time
        self._refusals: list[Section] = []
        self._fresh_room = Room(FRESH_BYTES_MAX)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        sender = asyncio.create_task(self._send_marked(), name=f"replication to node {self.follower}")
        try:
            while not sender.done():
                self._on_message(await self._stream.receive())
        except (PeerGone, DecodeError) as error:
            logger.info("replication stream of node %d ended: %s", self.follower, error)
        finally:
            await cancelled(sender)

    def end(self) -> None:
        self._cancel_wake()
        if self._release_timer is not None:
            self._release_timer.cancel()
        for partition in list(self._by_partition):
            self._side.detach(partition, self)
            if not self._side.is_followed_by(partition, self.follower):  # it may be back on another stream already
                partition.on_follower_lost(self.follower)

    # --- what the follower says

    def _on_message(self, data: bytes) -> None:
        message = FollowerMessage.FromString(data)
        for handle in message.ends:
            following = self._by_handle.get(handle)
            if following is not None:
                self.drop(following.partition)
        for begin in message.begins:
            self._on_begin(begin)
        for handle in message.pauses:
            self._on_pause(handle, is_paused=True)
        for handle in message.resumes:
            self._on_pause(handle, is_paused=False)
        now = self._clock.now()
        for acknowledgment in message.acknowledgments:
            following = self._by_handle.get(acknowledgment.handle)
            if following is not None:
                self._on_acknowledgment(following, acknowledgment, now)
        if self._with_records and not self._unacknowledged:
            self._wake.set()

    def _on_acknowledgment(self, following: Following, acknowledgment: Acknowledgment, now: float) -> None:
        partition, flushed = following.partition, acknowledgment.flushed_offset
        if flushed >= following.next_offset:
            self._unacknowledged.pop(following, None)
        if partition.on_follower_ack(self.follower, acknowledgment.leader_epoch, flushed, now):
            self._replicas.on_high_watermark(partition)

    def _on_pause(self, handle: int, *, is_paused: bool) -> None:
        following = self._by_handle.get(handle)
        if following is not None:
            following.is_paused = is_paused
            if is_paused:
                self._with_records.pop(following, None)
            else:
                self.mark_records(following.partition)

    def _on_begin(self, begin: Begin) -> None:
        try:
            partition = self._find(begin)
            refusal = partition.on_follower_position(
                self.follower,
                Position(begin.leader_epoch, begin.fetch_offset, begin.flushed_offset, begin.last_epoch),
                self._clock.now(),
            )
        except ClusterError as error:
            logger.info("node %d cannot follow: %s", self.follower, error)
            self._refuse(Section(handle=begin.handle, leader_epoch=begin.leader_epoch, error_code=error.code))
            return
        match refusal:
            case None:
                self._start(begin, partition)
            case Diverging(epoch=epoch, end_offset=end_offset):
                divergence = Divergence(epoch=epoch, end_offset=end_offset)
                self._refuse(Section(handle=begin.handle, leader_epoch=begin.leader_epoch, diverging=divergence))
            case OutOfRange(log_start_offset=log_start_offset):
                self._refuse(Section(handle=begin.handle, leader_epoch=begin.leader_epoch, reset_offset=log_start_offset))

    def _find(self, begin: Begin) -> Partition:
        if len(begin.topic_id) != UUID_BYTES:
            raise ClusterError(ErrorCode.invalid_request, f"a topic id of {len(begin.topic_id)} bytes")
        partition = self._replicas.by_id.get((UUID(bytes=begin.topic_id), begin.partition))
        if partition is None or partition.role is not Role.LEADER:
            raise ClusterError(
                ErrorCode.not_leader_or_follower,
                f"node {self._replicas.node_id} does not lead partition {begin.partition} of topic {begin.topic_id.hex()}",
            )
        if len(self._by_handle) >= HANDLES_MAX:
            raise ClusterError(ErrorCode.policy_violation, f"node {self.follower} follows {HANDLES_MAX} partitions already")
        return partition

    def _start(self, begin: Begin, partition: Partition) -> None:
        self.drop(partition)
        fresh = FreshBatches(self._fresh_room)
        following = Following(begin.handle, partition, partition.leader_epoch, begin.fetch_offset, begin.broker_epoch, fresh)
        self._by_handle[begin.handle] = following
        self._by_partition[partition] = following
        self._side.attach(partition, self)
        self._with_records[following] = None
        self._with_marks[following] = None
        self._wake.set()
        # The position may have completed the in-sync set's knowledge: a commit can follow from it alone.
        self._replicas.on_high_watermark(partition)

    def broker_epoch_in(self, partition: Partition) -> int:
        return self._by_partition[partition].broker_epoch

    def drop(self, partition: Partition) -> None:
        """Send no more of this partition."""
        following = self._by_partition.pop(partition, None)
        if following is not None:
            self._by_handle.pop(following.handle, None)
            self._with_records.pop(following, None)
            self._with_marks.pop(following, None)
            self._held.pop(following, None)
            self._unacknowledged.pop(following, None)
            following.fresh.clear()
            self._side.detach(partition, self)

    def _refuse(self, section: Section) -> None:
        self._refusals.append(section)
        self._wake.set()

    # --- what the partitions say

    def keep(self, partition: Partition, appended: Sequence[Appended]) -> None:
        """Have these batches in memory when it is their turn."""
        following = self._by_partition[partition]
        for batch in appended:
            following.fresh.add(batch, following.next_offset)

    def mark_records(self, partition: Partition) -> None:
        following = self._by_partition[partition]
        if following.is_held or following.is_paused:
            return
        self._with_records[following] = None
        self._wake.set()

    def mark_marks(self, partition: Partition) -> None:
        following = self._by_partition[partition]
        if following.marks_sent != _marks(partition):
            self._with_marks[following] = None
            self._wake_after(QUIET_MARKS_S)  # records may come, to travel with

    # --- sending

    async def _send_marked(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._has_something_to_send() and not self._waits_for_company():
                    await self._stream.send(self._next_message())
        except PeerGone:
            pass
        except Exception:
            logger.exception("replication to node %d failed", self.follower)
        finally:
            await self._stream.close()  # ends the reader as well

    def _has_something_to_send(self) -> bool:
        for following in list(self._with_records):
            bucket = self._bucket_for(following)
            if bucket is not None and bucket.room(self._clock.now()) <= 0:
                self._hold(following, bucket)
        return bool(self._refusals or self._with_records or self._with_marks)

    def _waits_for_company(self) -> bool:
        """Whether what is marked is so little that it had better go with what comes until the follower has answered."""
        if not self._unacknowledged or not self._with_records or self._refusals:
            return False
        is_little = FRESH_BYTES_MAX - self._fresh_room.left < LITTLE_BYTES
        if not is_little or not all(following.fresh for following in self._with_records):  # not fresh: it is catching up
            return False
        wait_s = self._records_sent_at + LITTLE_WAITS_S - asyncio.get_running_loop().time()
        if wait_s > 0:
            self._wake_after(wait_s)
        return wait_s > 0

    def _wake_after(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        wake_at = loop.time() + wait_s
        if self._wake_timer is None or wake_at < self._wake_at:
            self._cancel_wake()
            self._wake_timer, self._wake_at = loop.call_later(wait_s, self._on_wake_timer), wake_at

    def _cancel_wake(self) -> None:
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None

    def _on_wake_timer(self) -> None:
        self._wake_timer = None
        self._wake.set()

    def _bucket_for(self, following: Following) -> TokenBucket | None:
        return self._side.throttle.bucket_for(following.partition, self.follower, self._clock.now())

    def _hold(self, following: Following, bucket: TokenBucket) -> None:
        """Send its records later: this follower is catching up, and has taken what it may."""
        del self._with_records[following]
        following.is_held = True
        self._held[following] = None
        if self._release_timer is None:
            loop = asyncio.get_running_loop()
            self._release_timer = loop.call_later(bucket.wait_s(self._clock.now()), self._release)

    def _release(self) -> None:
        self._release_timer = None
        held, self._held = self._held, {}
        for following in held:
            following.is_held = False
            self.mark_records(following.partition)

    def _next_message(self) -> list[Buffer]:
        message = LeaderMessage()
        records: list[Buffer] = []
        message.sections.extend(self._refusals)
        self._refusals.clear()
        room = self._message_bytes
        for following in list(self._with_records):
            if room <= 0:
                break
            room -= self._add_records(message, records, following, room)
        if room > 0:
            for following in list(self._with_marks):
                self._add_section(message, following, 0)
            self._cancel_wake()
        return encode_leader_message(message, records)

    def _add_records(self, message: LeaderMessage, records: list[Buffer], following: Following, room: int) -> int:
        """Put what fits of one partition into the message; it stays marked while there is more."""
        partition = following.partition
        bucket = self._bucket_for(following)
        if bucket is not None:
            room = min(room, bucket.room(self._clock.now()))
            if room <= 0:  # another partition took it, in this very message
                self._hold(following, bucket)
                return 0
        try:
            buffers, size, next_offset = _next_batches(following, room)
        except ClusterError as error:
            self._on_read_refused(message, following, error)
            return 0
        if bucket is not None:
            bucket.take(size)
        if size:
            records.extend(buffers)
            self._add_section(message, following, size)
            following.next_offset = next_offset
            self._unacknowledged[following] = None
            self._records_sent_at = asyncio.get_running_loop().time()
        if following.next_offset >= partition.log_end_offset:
            self._with_records.pop(following, None)
        return size

    def _on_read_refused(self, message: LeaderMessage, following: Following, error: ClusterError) -> None:
        partition = following.partition
        self.drop(partition)
        self._replicas.check_damage(partition)
        section = message.sections.add(handle=following.handle, leader_epoch=following.leader_epoch)
        if error.code is ErrorCode.offset_out_of_range:  # retention overtook a slow follower
            section.reset_offset = partition.log_start_offset
        else:
            logger.warning("cannot send %s to node %d: %s", partition.tp, self.follower, error)
            section.error_code = error.code

    def _add_section(self, message: LeaderMessage, following: Following, size: int) -> None:
        partition = following.partition
        following.marks_sent = high_watermark, log_start_offset = _marks(partition)
        self._with_marks.pop(following, None)
        message.sections.add(
            handle=following.handle,
            leader_epoch=following.leader_epoch,
            high_watermark=high_watermark,
            log_start_offset=log_start_offset,
            size=size,
        )


def _next_batches(following: Following, max_bytes: int) -> tuple[list[Buffer], int, int]:
    """(buffers, their size, the offset behind them), from memory where the follower has all that was appended before."""
    if following.next_offset < following.partition.log_start_offset:
        following.fresh.clear()
    if following.fresh:
        return following.fresh.take(max_bytes)
    read = following.partition.read(following.next_offset, max_bytes=max_bytes, up_to_end=True)
    return read.buffers, read.size, read.next_offset


def _marks(partition: Partition) -> tuple[int, int]:
    return partition.high_watermark, partition.log_start_offset
