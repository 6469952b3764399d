"""All partitions that this node holds: opened, led, followed and deleted as the cluster image says.

Owned by the node. The one place that turns a partition's progress into effects: waiting requests released, followers served,
leaders acknowledged, the controller asked for another in-sync set.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from quorumlog.host.ports import Clock, Disk, KVStore, Worker
from quorumlog.metadata.image import Image, PartitionState
from quorumlog.metadata.records import ConfigRecord, PartitionChange, PartitionRecord, Record, RemoveTopic
from quorumlog.metadata.topic_config import effective_topic_config
from quorumlog.partitions.log import LOGS_DIRECTORY, parse_directory_name
from quorumlog.partitions.partition import Partition, PartitionSettings, Role
from quorumlog.partitions.results import Appended
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from .derived_saver import DerivedSaver
from .flusher import Flusher
from .tasks import Tasks
from .waits import OffsetWaits, ReadWaits

logger = logging.getLogger(__name__)
PartitionKey = tuple[UUID, int]
STRAYS_DIRECTORY = "stray"


class Followers(Protocol):
    """The leader's side of replication: told when there is something to send."""

    def on_appended(self, partition: Partition, appended: Sequence[Appended]) -> None: ...
    def on_marks(self, partition: Partition) -> None: ...
    def on_role_changed(self, partition: Partition) -> None: ...


class Coordinators(Protocol):
    """What is kept in internal topics: told who coordinates, and what has become final."""

    def on_role_changed(self, partition: Partition) -> None: ...
    def on_high_watermark(self, partition: Partition) -> None: ...


class Leaders(Protocol):
    """The follower's side of replication: told whom to follow and what to acknowledge."""

    def follow(self, partition: Partition) -> None: ...
    def unfollow(self, partition: Partition) -> None: ...
    def acknowledge(self, partition: Partition) -> None: ...


class Compactions(Protocol):
    """What compacts logs: told when somebody may want it, and when a log goes."""

    passes: int
    failures: int
    bytes_read: int
    bytes_kept: int

    def wake(self) -> None: ...
    async def stopped(self, partition: Partition) -> None: ...


class Replicas:
    def __init__(
        self,
        *,
        node_id: int,
        disk: Disk,
        store: KVStore,
        clock: Clock,
        flush_worker: Worker,
        settings: PartitionSettings,
        broker_defaults: Mapping[str, str],
        incarnation_id: UUID,
        tasks: Tasks,
    ) -> None:
        self._incarnation_id = incarnation_id
        self.is_registered = False
        self.node_id = node_id
        self._disk = disk
        self._store = store
        self._clock = clock
        self._settings = settings
        self.broker_defaults = broker_defaults
        self.partitions: dict[TopicPartition, Partition] = {}
        self.by_id: dict[PartitionKey, Partition] = {}
        self.flusher = Flusher(store, clock, flush_worker, tasks, on_flushed=self._on_flushed)
        self._derived = DerivedSaver(tasks)
        self._tasks = tasks
        self.committed = OffsetWaits()
        self.flushed = OffsetWaits()
        self.reads = ReadWaits()
        self.followers: Followers | None = None
        self.leaders: Leaders | None = None
        self.coordinators: list[Coordinators] = []
        self.compactor: Compactions | None = None
        self.on_damage: Callable[[Partition], None] | None = None
        self._damage_told: set[PartitionKey] = set()
        self.image: Image | None = None
        self._deleting: set[PartitionKey] = set()  # files that are about to go; who comes back meanwhile waits for that

    # --- what requests ask

    def get(self, tp: TopicPartition, image: Image) -> Partition:
        """The partition, if it is here. Raises NOT_LEADER_OR_FOLLOWER or UNKNOWN_TOPIC_OR_PARTITION."""
        partition = self.partitions.get(tp)
        if partition is not None:
            return partition
        if image.partition(tp.topic, tp.partition) is None:
            raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no partition {tp}")
        raise ClusterError(ErrorCode.not_leader_or_follower, f"node {self.node_id} holds no replica of {tp}")

    def on_appended(self, partition: Partition, appended: Sequence[Appended]) -> None:
        """A leader took these batches: sync them, and send them to the followers meanwhile."""
        self.flusher.mark(partition)
        if self.followers is not None:
            self.followers.on_appended(partition, appended)

    def on_high_watermark(self, partition: Partition) -> None:
        """Something became readable."""
        self.committed.release(partition.tp, partition.high_watermark)
        self.reads.wake(partition.tp)
        if self.followers is not None:
            self.followers.on_marks(partition)
        for coordinator in self.coordinators:
            coordinator.on_high_watermark(partition)

    def on_log_start(self, partition: Partition) -> None:
        """Records were deleted from the beginning."""
        self.reads.wake(partition.tp)
        if self.followers is not None:
            self.followers.on_marks(partition)

    def on_fetched(self, partition: Partition) -> None:
        """A follower took batches from its leader."""
        self.flusher.mark(partition)

    def check_damage(self, partition: Partition) -> None:
        """Tell the controller, once, that this replica holds damaged bytes."""
        key = (partition.topic_id, partition.tp.partition)
        if partition.damage is not None and key not in self._damage_told and self.on_damage is not None:
            self._damage_told.add(key)
            logger.error("%s is damaged at offset %s: %s", partition.tp, partition.damage.offset, partition.damage.reason)
            self.on_damage(partition)

    def damage_refused(self, partition: Partition) -> None:
        """The controller could do nothing: no other replica had what is committed. Tell it again, for one may have by now."""
        self._damage_told.discard((partition.topic_id, partition.tp.partition))
        self.check_damage(partition)

    # --- what the image says

    def on_image(self, _old: Image, image: Image, records: tuple[Record, ...] | None) -> None:
        if not self.is_registered:
            # Until our own registration shows, the image speaks of the process before us. Going on as the leader it was, in
            # the same epoch but without what it had not synced, would put other records at offsets that followers have.
            broker = image.broker(self.node_id)
            if broker is None or broker.incarnation_id != self._incarnation_id:
                return
            self.is_registered, records = True, None
        if records is None:
            self._reconcile(image, self._all_keys(image) | self.by_id.keys())
            self._apply_configs(image, self.by_id.values())
            return
        self._reconcile(image, self._touched(records))
        topics = {record.name for record in records if isinstance(record, ConfigRecord) and record.kind == "topic"}
        if any(isinstance(record, ConfigRecord) and record.kind == "broker" for record in records):
            self._apply_configs(image, self.by_id.values())
        elif topics:
            self._apply_configs(image, [p for p in self.by_id.values() if p.tp.topic in topics])

    def _touched(self, records: tuple[Record, ...]) -> set[PartitionKey]:
        keys: set[PartitionKey] = set()
        for record in records:
            match record:
                case PartitionRecord(state=state):
                    keys.add((state.topic_id, state.partition))
                case PartitionChange(topic_id=topic_id, partition=partition):
                    keys.add((topic_id, partition))
                case RemoveTopic(topic_id=topic_id):
                    keys |= {key for key in self.by_id if key[0] == topic_id}
                case _:
                    pass
        return keys

    @staticmethod
    def _all_keys(image: Image) -> set[PartitionKey]:
        return {(topic.topic_id, index) for topic in image.topics.values() for index in topic.partitions}

    def _reconcile(self, image: Image, keys: Iterable[PartitionKey]) -> None:
        self.image = image
        for key in sorted(keys, key=lambda key: (key[0].int, key[1])):
            name = image.topic_names.get(key[0])
            state = image.partition(name, key[1]) if name is not None else None
            if name is not None and state is not None and self.node_id in state.replicas:
                self._apply_state(image, name, state)
            elif key in self.by_id:
                self._remove(self.by_id[key], is_elsewhere=state is not None)

    def _apply_state(self, image: Image, name: str, state: PartitionState) -> None:
        key = (state.topic_id, state.partition)
        if key in self._deleting:
            return
        partition = self.by_id.get(key)
        if partition is None:
            partition = self._open(image, name, state)
        was_leader, old_mark = partition.role is Role.LEADER, partition.high_watermark
        changed = partition.apply_state(state, self._clock.now())
        if changed:
            self._on_role_changed(partition, was_leader=was_leader)
        elif partition.role is Role.LEADER:
            self._on_isr_changed(partition)
        else:
            self.reads.wake(partition.tp)  # one that has left the in-sync set sends its readers back to the leader
        if partition.high_watermark != old_mark:
            self.on_high_watermark(partition)
        if partition.dirty:
            self.flusher.mark(partition)
        if partition.damage is not None:
            self._on_damaged_state(partition, state)

    def _on_role_changed(self, partition: Partition, *, was_leader: bool) -> None:
        tp = partition.tp
        logger.info(
            "%s: %s in epoch %d, leader %s, in sync %s, log end %d, high watermark %d",
            tp, partition.role.name.lower(), partition.leader_epoch, partition.leader_id, list(partition.isr),
            partition.log_end_offset, partition.high_watermark,
        )  # fmt: skip
        if was_leader and partition.role is not Role.LEADER:
            moved = ClusterError(ErrorCode.not_leader_or_follower, f"{tp} is now led by node {partition.leader_id}")
            self.committed.fail(tp, moved)
            self.flushed.fail(tp, moved)
        self.reads.wake(tp)
        if self.followers is not None:
            self.followers.on_role_changed(partition)
        if self.leaders is not None:
            self.leaders.unfollow(partition)
            if partition.role is Role.FOLLOWER:
                self.leaders.follow(partition)
        for coordinator in self.coordinators:
            coordinator.on_role_changed(partition)

    def _on_isr_changed(self, partition: Partition) -> None:
        if len(partition.isr) < partition.min_insync_replicas:
            self.committed.fail(
                partition.tp,
                ClusterError(
                    ErrorCode.not_enough_replicas_after_append,
                    f"{partition.tp} has {len(partition.isr)} replicas in sync and needs {partition.min_insync_replicas}",
                ),
            )

    def _on_damaged_state(self, partition: Partition, state: PartitionState) -> None:
        """A damaged replica that nobody counts as complete is cut at the damage and fetched again from its leader."""
        if partition.role is Role.FOLLOWER and self.node_id not in (*state.isr, *state.elr):
            partition.repair_damage()
            self._damage_told.discard((partition.topic_id, partition.tp.partition))
            logger.warning("%s: cut at the damage, to offset %d; fetching again", partition.tp, partition.log_end_offset)
            if self.leaders is not None:
                self.leaders.unfollow(partition)
                self.leaders.follow(partition)
        else:
            self.check_damage(partition)

    def _open(self, image: Image, name: str, state: PartitionState) -> Partition:
        tp = TopicPartition(name, state.partition)
        partition = Partition.open(
            tp,
            state.topic_id,
            node_id=self.node_id,
            disk=self._disk,
            store=self._store,
            config=effective_topic_config(image, name, self.broker_defaults, self.node_id),
            settings=self._settings,
            now=self._clock.now(),
            wall_ms=self._clock.wall_ms(),
        )
        if not partition.recovery.clean:
            logger.warning("%s: recovered after a crash: %s", tp, partition.recovery)
        self.partitions[tp] = partition
        self.by_id[state.topic_id, state.partition] = partition
        return partition

    def _remove(self, partition: Partition, *, is_elsewhere: bool) -> None:
        logger.info("%s: deleting%s", partition.tp, ", for it was moved to other nodes" if is_elsewhere else "")
        gone = ClusterError(ErrorCode.unknown_topic_or_partition, f"{partition.tp} was deleted")
        moved = ClusterError(ErrorCode.not_leader_or_follower, f"{partition.tp} was moved away from node {self.node_id}")
        self._detach(partition, moved if is_elsewhere else gone)
        if self.partitions.get(partition.tp) is partition:
            del self.partitions[partition.tp]
        key = (partition.topic_id, partition.tp.partition)
        del self.by_id[key]
        self._deleting.add(key)
        self._tasks.spawn(self._delete_when_idle(partition), f"delete {partition.tp}")

    def _detach(self, partition: Partition, error: ClusterError) -> None:
        partition.retire()
        self.flusher.forget(partition)
        self._derived.forget(partition)
        self.committed.fail(partition.tp, error)
        self.flushed.fail(partition.tp, error)
        self.reads.wake(partition.tp)
        if self.followers is not None:
            self.followers.on_role_changed(partition)
        if self.leaders is not None:
            self.leaders.unfollow(partition)
        for coordinator in self.coordinators:
            coordinator.on_role_changed(partition)

    async def _delete_when_idle(self, partition: Partition) -> None:
        """Files go only when no flush round can hold them any more."""
        await self.flusher.round_over()
        if self.compactor is not None:
            await self.compactor.stopped(partition)
        partition.delete()
        key = (partition.topic_id, partition.tp.partition)
        self._deleting.discard(key)
        if self.image is not None:
            self._reconcile(self.image, [key])  # it may have been moved back here

    def _apply_configs(self, image: Image, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            if partition.tp.topic in image.topics:
                old_mark = partition.high_watermark
                partition.apply_config(effective_topic_config(image, partition.tp.topic, self.broker_defaults, self.node_id))
                if partition.high_watermark != old_mark:
                    self.on_high_watermark(partition)
        if self.compactor is not None:
            self.compactor.wake()

    # --- what the flusher says

    def _on_flushed(self, partition: Partition, high_watermark_moved: bool) -> None:
        if partition.role is Role.LEADER:
            self.flushed.release(partition.tp, partition.flushed_offset)
            if high_watermark_moved:
                self.on_high_watermark(partition)
        elif self.leaders is not None:
            self.leaders.acknowledge(partition)
        # What is being deleted gets no other round: its files would go in the middle of it.
        if self.by_id.get((partition.topic_id, partition.tp.partition)) is partition:
            self._derived.mark(partition)
            if partition.dirty:
                self.flusher.mark(partition)

    # --- care

    def set_strays_aside(self) -> None:
        """Move away what lies in the log directory and belongs to no partition of ours: topics that were deleted, or moved, while
        this node was down. Called once the image is known to be current; moved rather than deleted, in case it is wrong.
        """
        for name in self._disk.list(LOGS_DIRECTORY):
            owner = parse_directory_name(name)
            if owner is not None and (owner[1], owner[0].partition) not in self.by_id:
                logger.warning("%s/%s belongs to no partition of this node; moved to %s/", LOGS_DIRECTORY, name, STRAYS_DIRECTORY)
                self._disk.make_directory(STRAYS_DIRECTORY)
                self._disk.delete(f"{STRAYS_DIRECTORY}/{name}")
                self._disk.rename(f"{LOGS_DIRECTORY}/{name}", f"{STRAYS_DIRECTORY}/{name}")

    def apply_retention(self) -> None:
        wall_ms = self._clock.wall_ms()
        for partition in list(self.by_id.values()):
            partition.roll_if_old(wall_ms)
            removed = partition.apply_retention(wall_ms)
            self._tell_forgotten(partition)
            if removed:
                self.on_log_start(partition)
                logger.info(
                    "%s: %d segments passed retention, log starts at %d", partition.tp, removed, partition.log_start_offset
                )

    def _tell_forgotten(self, partition: Partition) -> None:
        """An event that comes again may be taken twice now."""
        if partition.dedup is not None and (forgotten := partition.dedup.forgotten_since_told()):
            logger.warning(
                "%s: forgot %d event ids within their window, for want of room: see quorumlog.dedup.ids.max",
                partition.tp,
                forgotten,
            )

    async def close(self) -> None:
        """A clean end: everything synced and checkpointed, so that the next start scans nothing."""
        await self.flusher.close()
        await self._derived.close()
        for partition in self.by_id.values():
            partition.close()
