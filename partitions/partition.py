"""One partition on one node: its log, its role, its place among its replicas.

Plain functions on the node's loop; only `Flush.sync` and `Flush.checkpoint` run elsewhere. Whoever changes something here passes
the consequences on: after an append or a fetch the flusher is told, after a high watermark moved the waiting are released.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from quorumlog.host.ports import Buffer, Disk, KVStore, WriteBatch
from quorumlog.metadata.image import NO_LEADER, PartitionState
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.batches import NO_SEQUENCE, BatchError, BatchHeader, read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker, build_marker

from .aborted import AbortedTransaction
from .admission import admit, admit_fetched, append_time_buffers, stored_buffers
from .cleaning import CleanedGroup, CleanedLog, Dirt
from .compaction import Cleaning, Compaction
from .dedup import Dedup, adapted, begin
from .duplicates import Sifted, originals_of_repeat, sift
from .flush import Flush
from .keys import Checkpoint, Keys, put_checkpoint
from .log import LOGS_DIRECTORY, Log, directory_name
from .producers import ProducerBatch, ProducerState, ProducerStates
from .recovery import Damage, RecoveryReport, recover
from .replica import ReplicaCore
from .results import Appended, Diverging, OutOfRange, Position, ReadResult
from .retention import is_expired, retained_from
from .rolling import roll_after_ms, segment_bytes_max
from .scan import DamagedBatch
from .timestamps import greatest_timestamp, offset_of_timestamp
from .topic_rules import APPEND_TIME, check_records, recompressed
from .verification import Guard, Verifications

__all__ = [
    "Appended",
    "Damage",
    "Diverging",
    "Flush",
    "OutOfRange",
    "Partition",
    "PartitionSettings",
    "Position",
    "ReadResult",
    "RecoveryReport",
    "Role",
]

HIGH_WATERMARK = -1  # as an offset in DeleteRecords


class Role(Enum):
    OFFLINE = "offline"  # not told yet, without a leader, or closed
    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What is the same for every partition of a node."""

    replica_lag_time_max_s: float = 10.0
    isr_proposal_timeout_s: float = 5.0  # without an answer, another in-sync set may be proposed
    checkpoint_interval_bytes: int = 16 << 20
    producer_id_expiration_s: float = 86_400.0
    producers_max: int = 10_000  # known at once; the least recently heard goes first
    fsync: bool = True  # False: acknowledge what the operating system has, as Kafka does by default
    decompressed_bytes_max: int = 64 << 20  # of one batch that is looked into


class Partition:
    """Opened and closed by the node. Not safe from several threads."""

    def __init__(
        self,
        tp: TopicPartition,
        topic_id: UUID,
        *,
        node_id: int,
        log: Log,
        config: TopicConfig,
        settings: PartitionSettings,
        recovery: RecoveryReport,
        damage: Damage | None,
        wall_ms: int,
    ) -> None:
        self.tp = tp
        self.topic_id = topic_id
        self.node_id = node_id
        self.role = Role.OFFLINE
        self.leader_id = NO_LEADER
        self.partition_epoch = -1
        self.recovery = recovery
        self.damage = damage
        self._log = log
        self.compaction = Compaction(log)
        self._config = config
        self._settings = settings
        self._synced_offset = recovery.log_end_offset
        self._flush: Flush | None = None
        self._flush_limit = 0  # how far the running flush may raise the flushed offset, after truncations
        self._wall_ms = wall_ms  # the last that was heard
        self._is_closed = False
        self._has_fetched = False  # something was appended in this epoch as a follower
        self._is_matched = False  # a follower whose log its leader, now connected, found to be a beginning of its own
        self._verifications = Verifications()
        self._replica = ReplicaCore(
            node_id,
            lag_time_max_s=settings.replica_lag_time_max_s,
            proposal_timeout_s=settings.isr_proposal_timeout_s,
            min_insync_replicas=config.min_insync_replicas,
            log_end_offset=recovery.log_end_offset,
            flushed_offset=recovery.log_end_offset,
            high_watermark=recovery.high_watermark,
        )

    @classmethod
    def open(
        cls,
        tp: TopicPartition,
        topic_id: UUID,
        *,
        node_id: int,
        disk: Disk,
        store: KVStore,
        config: TopicConfig,
        settings: PartitionSettings,
        now: float,
        wall_ms: int,
    ) -> "Partition":
        """Open what is on the disk, or begin a new log. Recovery is part of it; `recovery` and `damage` say what it found."""
        producers = ProducerStates(
            expiration_ms=int(settings.producer_id_expiration_s * 1000), producers_max=settings.producers_max
        )
        log = Log(
            disk,
            store,
            directory_name(tp, topic_id),
            Keys(topic_id, tp.partition),
            producers,
            segment_bytes=segment_bytes_max(config),
            index_interval_bytes=config.index_interval_bytes,
            checkpoint_interval_bytes=settings.checkpoint_interval_bytes,
        )
        log.dedup = begin(tp, store, log.keys, config, decompressed_bytes_max=settings.decompressed_bytes_max)
        found = recover(log, wall_ms)
        return cls(
            tp,
            topic_id,
            node_id=node_id,
            log=log,
            config=config,
            settings=settings,
            recovery=found.report,
            damage=found.damage,
            wall_ms=wall_ms,
        )

    # --- what it is

    @property
    def leader_epoch(self) -> int:
        return self._replica.leader_epoch

    @property
    def replicas(self) -> tuple[int, ...]:
        return self._replica.replicas

    @property
    def isr(self) -> tuple[int, ...]:
        return self._replica.isr

    @property
    def min_insync_replicas(self) -> int:
        """As configured, but no more than there are replicas."""
        return self._replica.min_insync_replicas

    @property
    def high_watermark(self) -> int:
        """Every record below is on the disks of the whole in-sync set, and stays."""
        return self._replica.high_watermark

    @property
    def batch_bytes_max(self) -> int:
        """Of one that is appended: `max.message.bytes`."""
        return self._config.max_message_bytes

    @property
    def knows_committed(self) -> bool:
        """False on a leader that may not know yet how far its predecessor had committed."""
        return self._replica.knows_committed

    @property
    def last_stable_offset(self) -> int:
        """Below this no transaction is open, and none has ended in a way that could still change."""
        high_watermark = self._replica.high_watermark
        first = self.first_unstable_offset
        return high_watermark if first is None else min(high_watermark, max(first, self._log.start_offset))

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the first transaction begins that is open, or whose marker is above the high watermark; None without one."""
        transactions = self._log.producers.transactions
        return transactions.first_unstable(self._replica.high_watermark) if transactions else None

    def aborted_between(self, start: int, end: int) -> tuple[AbortedTransaction, ...]:
        """The aborted transactions of which records may lie from `start` to below `end`, in the order in which they ended."""
        return tuple(self._log.aborted.between(start, end))

    @property
    def flushed_offset(self) -> int:
        """What this replica vouches for: synced, or merely written where `fsync` is off."""
        return self._replica.flushed_offset

    @property
    def log_end_offset(self) -> int:
        return self._log.end_offset

    @property
    def log_start_offset(self) -> int:
        return self._log.start_offset

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._log.size

    @property
    def segment_count(self) -> int:
        return len(self._log.segments)

    @property
    def producer_count(self) -> int:
        return len(self._log.producers)

    @property
    def dedup(self) -> Dedup | None:
        """What it remembers of event ids; None where its topic does not drop events that come again."""
        return self._log.dedup

    def known_producers(self) -> list[tuple[int, ProducerState]]:
        """Those that wrote here and are not forgotten, by producer id."""
        return self._log.producers.known()

    def transaction_start(self, producer_id: int) -> int | None:
        """Where the transaction begins that this producer has open here."""
        return self._log.producers.transactions.first_offset(producer_id)

    # --- what the cluster says

    def apply_state(self, state: PartitionState, now: float) -> bool:
        """Take over newer metadata; True if the role or the leader epoch changed. The high watermark may move."""
        assert state.topic_id == self.topic_id, (state.topic_id, self.topic_id)
        if state.partition_epoch <= self.partition_epoch or self._is_closed:
            return False
        self.partition_epoch = state.partition_epoch
        role = self._role_in(state)
        if role is self.role and state.leader_epoch == self._replica.leader_epoch:
            self._replica.set_isr(replicas=state.replicas, isr=state.isr, adding=state.adding, now=now)
            return False
        self.role = role
        self.leader_id = state.leader
        self._has_fetched = self._is_matched = False
        self._verifications.clear()
        if role is Role.LEADER:
            self._replica.lead(
                leader_epoch=state.leader_epoch, replicas=state.replicas, isr=state.isr, adding=state.adding, now=now
            )
        else:
            self._replica.follow(leader_epoch=state.leader_epoch, replicas=state.replicas, isr=state.isr)
        return True

    def apply_config(self, config: TopicConfig) -> None:
        """New settings hold from here on; the high watermark may move."""
        self._config = config
        self._log.segment_bytes = segment_bytes_max(config)
        self._log.index_interval_bytes = config.index_interval_bytes
        self._log.dedup = adapted(
            self._log.dedup,
            self.tp,
            self._log.store,
            self._log.keys,
            config,
            decompressed_bytes_max=self._settings.decompressed_bytes_max,
        )
        self._replica.set_min_insync_replicas(config.min_insync_replicas)

    # --- leader

    def append(
        self,
        records: Buffer,
        *,
        acks: int,
        now: float,
        wall_ms: int,
        leader_epoch: int = -1,
        guard: Guard | None = None,
        by_coordinator: bool = False,
    ) -> Appended:
        """Append a producer's batch, or find that it was appended before. Raises ClusterError.

        The first one of a transaction comes with the guard of `transaction_to_verify`, once its coordinator has vouched for it.
        """
        self._check_takes(acks, leader_epoch)
        log = self._log
        header = admit(self.tp, records, self._config, by_coordinator=by_coordinator)
        known = None
        if header.producer_id >= 0:
            is_whole = log.start_offset == 0 and not log.has_gaps
            known = log.producers.check(header, wall_ms, log_is_whole=is_whole, checks_sequence=not by_coordinator)
        if known is not None:
            return self._repeated(records, header, known, wall_ms)
        if header.is_transactional and not self._is_in_transaction(header):
            self._verifications.check(header.producer_id, header.producer_epoch, header.base_sequence, guard)
        bytes_max = self._settings.decompressed_bytes_max
        check_records(self.tp, records, header, self._config, wall_ms=wall_ms, decompressed_bytes_max=bytes_max)
        sifted = None
        if log.dedup is not None and not header.is_transactional:
            sifted = sift(self.tp, records, header, log.dedup, self._config, end_offset=log.end_offset, wall_ms=wall_ms)
            if sifted.originals is not None and not header.is_idempotent:
                return Appended(sifted.originals.first, sifted.originals.last, -1, log.start_offset, True, [], 0)
            records, header = sifted.records, sifted.header
        records, header = recompressed(self.tp, records, header, self._config, decompressed_bytes_max=bytes_max)
        base_offset = log.end_offset
        header = header._replace(base_offset=base_offset, leader_epoch=self._replica.leader_epoch)
        append_time_ms = -1
        if self._config.message_timestamp_type == APPEND_TIME:
            append_time_ms = wall_ms
            header, buffers = append_time_buffers(records, header, wall_ms)
        else:
            buffers = stored_buffers(records, header)
        self._roll_if_due(wall_ms)
        log.append(buffers, header, wall_ms)
        original_offset = -1 if sifted is None else self._note_sifted(sifted, wall_ms)
        if header.is_transactional:
            self._verifications.forget(header.producer_id)
        self._after_append(now)
        last_offset, size = header.last_offset, header.size
        return Appended(base_offset, last_offset, append_time_ms, log.start_offset, False, buffers, size, original_offset)

    def transaction_to_verify(self, records: Buffer) -> tuple[BatchHeader, Guard] | None:
        """What has to be asked of the coordinator before this transactional batch may be appended; None if nothing has: its
        transaction is open here already, it is refused anyway, or it repeats one that is stored.
        """
        try:
            header = read_header(records)
            if self.role is not Role.LEADER or header.producer_id < 0 or self._is_in_transaction(header):
                return None
            if self._log.producers.check(header, self._wall_ms) is not None:
                return None
        except BatchError:
            return None
        return header, self._verifications.begin(header.producer_id, header.producer_epoch, header.base_sequence)

    def guard_for(self, producer_id: int, producer_epoch: int) -> Guard | None:
        """As `transaction_to_verify`, for what a coordinator writes for a producer, which has no sequence."""
        if self._log.producers.is_in_transaction(producer_id, producer_epoch):
            return None
        return self._verifications.begin(producer_id, producer_epoch, NO_SEQUENCE)

    def check_writer(self, producer_id: int, producer_epoch: int, guard: Guard | None) -> None:
        """Raises the ClusterError with which an append for this producer would be refused."""
        self._log.producers.check_epoch(producer_id, producer_epoch)
        if not self._log.producers.is_in_transaction(producer_id, producer_epoch):
            self._verifications.check(producer_id, producer_epoch, NO_SEQUENCE, guard)

    def append_marker(
        self,
        marker: Marker,
        *,
        producer_id: int,
        producer_epoch: int,
        is_strict: bool,
        now: float,
        wall_ms: int,
        leader_epoch: int = -1,
        decision: int = -1,
    ) -> Appended | None:
        """End the producer's transaction; None if this decision ended it before. Raises ClusterError.

        Written also where nothing is open: whoever comes with an older epoch afterwards is refused.
        """
        self._check_takes(-1, leader_epoch)
        log = self._log
        if self._verifications.is_ended(producer_id, decision):
            return None
        self._verifications.forget(producer_id)
        if not log.producers.check_marker(producer_id, producer_epoch, marker.coordinator_epoch, is_strict=is_strict):
            return None
        batch = build_marker(marker, producer_id=producer_id, producer_epoch=producer_epoch, wall_ms=wall_ms)
        header = read_header(batch)._replace(base_offset=log.end_offset, leader_epoch=self._replica.leader_epoch)
        buffers = stored_buffers(batch, header)
        self._roll_if_due(wall_ms)
        log.append(buffers, header, wall_ms)
        self._verifications.note_ended(producer_id, decision)
        self._after_append(now)
        return Appended(header.base_offset, header.last_offset, wall_ms, log.start_offset, False, buffers, header.size)

    def read(
        self,
        offset: int,
        *,
        max_bytes: int,
        isolation_committed: bool = False,
        current_leader_epoch: int = -1,
        last_fetched_epoch: int = -1,
        up_to_end: bool = False,
        from_follower: bool = False,
    ) -> ReadResult:
        """Batches from the one that holds `offset`: for consumers below the high watermark, for followers all (`up_to_end`).

        With `last_fetched_epoch`, a reader whose log parted from ours learns where (KIP-595). With `from_follower`, a replica in
        sync that does not lead answers as well (KIP-392). Raises ClusterError.
        """
        log = self._log
        if from_follower and self.role is Role.FOLLOWER:
            self._check_serves_as_follower(offset, current_leader_epoch)
        else:
            self.check_leads(current_leader_epoch)
            if last_fetched_epoch >= 0 and (diverging := self._divergence(last_fetched_epoch, offset)) is not None:
                return self._result([], 0, offset, diverging)
        if not log.start_offset <= offset <= log.end_offset:
            raise ClusterError(
                ErrorCode.offset_out_of_range, f"{self.tp}: offset {offset}, the log has {log.start_offset} to {log.end_offset}"
            )
        limit = log.end_offset if up_to_end else self._readable_end(isolation_committed)
        if max_bytes <= 0 or offset >= limit:
            if up_to_end and offset >= limit:
                self._check_sound()
            return self._result([], 0, offset, None)
        try:
            buffers, size, next_offset = log.read(offset, limit=limit, max_bytes=max_bytes)
            aborted = self.aborted_between(offset, next_offset) if isolation_committed else ()
            return self._result(buffers, size, next_offset, None, aborted)
        except DamagedBatch as bad:
            raise self._damaged(bad) from bad

    def marks(self) -> ReadResult:
        """The watermarks, without records."""
        return self._result([], 0, self._log.start_offset, None)

    def offset_for_leader_epoch(self, epoch: int, current_leader_epoch: int = -1) -> tuple[int, int]:
        """(the greatest epoch held that is not above `epoch`, the end of its records); (-1, -1) for one not begun."""
        self.check_leads(current_leader_epoch)
        self._check_sound()
        if epoch > self._replica.leader_epoch or epoch < 0:
            return -1, -1
        if epoch == self._replica.leader_epoch:
            return epoch, self._log.end_offset
        return self._log.epochs.end_of(epoch, self._log.end_offset)

    def offset_for_timestamp(self, timestamp_ms: int, *, isolation_committed: bool = False) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first committed record that is not older; None if there is none."""
        self.check_leads(-1)
        try:
            found = offset_of_timestamp(
                self._log,
                timestamp_ms,
                limit=self._readable_end(isolation_committed),
                decompressed_bytes_max=self._settings.decompressed_bytes_max,
            )
        except DamagedBatch as bad:
            raise self._damaged(bad) from bad
        return None if found is None else (*found, self._log.epochs.epoch_at(found[0]))

    def max_timestamp(self, *, isolation_committed: bool = False) -> tuple[int, int]:
        """(timestamp, offset) of the committed record with the greatest timestamp; (-1, -1) if there is none."""
        self.check_leads(-1)
        try:
            return greatest_timestamp(
                self._log,
                limit=self._readable_end(isolation_committed),
                decompressed_bytes_max=self._settings.decompressed_bytes_max,
            )
        except DamagedBatch as bad:
            raise self._damaged(bad) from bad

    def epoch_at(self, offset: int) -> int:
        """The leader epoch of the record at this offset; the present one if nothing was written there yet."""
        epoch = self._log.epochs.epoch_at(offset)
        return epoch if epoch >= 0 else self._replica.leader_epoch

    def delete_records(self, before_offset: int) -> int:
        """Make `before_offset` (-1: the high watermark) the first record. The new log start. Raises OFFSET_OUT_OF_RANGE."""
        self.check_leads(-1)
        self._check_sound()
        high_watermark = self._replica.high_watermark
        offset = high_watermark if before_offset == HIGH_WATERMARK else before_offset
        if offset < 0 or offset > high_watermark:
            raise ClusterError(
                ErrorCode.offset_out_of_range, f"{self.tp}: records before {offset}, the high watermark is {high_watermark}"
            )
        self._raise_start(offset)
        return self._log.start_offset

    # --- leader and its followers

    def on_follower_position(self, follower: int, position: Position, now: float) -> Diverging | OutOfRange | None:
        """A follower wants to fetch from here. None if its log is a beginning of ours. The high watermark may move.

        Raises ClusterError if it speaks of another epoch, or is no replica.
        """
        self.check_leads(-1)
        self._check_epoch(position.leader_epoch)
        self._check_sound()
        if follower not in self._replica.replicas or follower == self.node_id:
            raise ClusterError(ErrorCode.replica_not_available, f"{self.tp}: node {follower} is no replica of it")
        if not 0 <= position.flushed_offset <= position.fetch_offset:
            raise ClusterError(
                ErrorCode.invalid_request, f"{self.tp}: flushed to {position.flushed_offset} of {position.fetch_offset}"
            )
        log = self._log
        if position.fetch_offset < log.start_offset:
            return OutOfRange(log.start_offset)
        diverging = self._divergence(position.last_epoch, position.fetch_offset)  # rule 1
        if diverging is not None:
            return diverging
        if position.fetch_offset > log.end_offset:
            return OutOfRange(log.start_offset)
        self._replica.on_position(follower, position.flushed_offset, now)
        return None

    def read_replicas(self, offset: int) -> tuple[int, ...]:
        """In-sync followers that have all before this offset, the one that is furthest first (KIP-392)."""
        return self._replica.read_replicas(offset)

    def on_follower_lost(self, follower: int) -> None:
        """The stream on which the follower told its position has ended."""
        self._replica.on_lost(follower)

    def on_follower_ack(self, follower: int, leader_epoch: int, flushed_offset: int, now: float) -> bool:
        """A follower synced up to an offset. True if the high watermark moved."""
        return self.damage is None and self._replica.on_acknowledged(follower, leader_epoch, flushed_offset, now)

    def isr_wanted(self, now: float) -> tuple[int, ...] | None:
        """The in-sync set to ask the controller for; None if the present one is right, or it is being asked."""
        return self._replica.isr_wanted(now) if self.damage is None else None

    def isr_proposed(self, isr: tuple[int, ...], now: float) -> None:
        """The controller is being asked for this set, with the present partition epoch."""
        self._replica.isr_proposed(isr, now)

    def isr_refused(self) -> None:
        """The controller refused the last proposal for good. A lost answer is no refusal: then say nothing, and propose again."""
        self._replica.isr_refused()

    # --- follower

    def position(self) -> Position:
        """Where this replica stands, to tell its leader."""
        replica, epochs = self._replica, self._log.epochs
        return Position(replica.leader_epoch, self._log.end_offset, replica.flushed_offset, epochs.latest)

    def apply_fetched(self, leader_epoch: int, data: Buffer, *, high_watermark: int, log_start_offset: int, wall_ms: int) -> None:
        """Append what the leader sent: whole batches, from the end of this log on; all of them, or none and ClusterError."""
        self._check_follows(leader_epoch)
        self._check_sound()
        self._is_matched = True  # the leader sends nothing before
        view = memoryview(data)
        if view.nbytes:
            log = self._log
            try:
                found, has_gaps = admit_fetched(
                    view,
                    log.end_offset,
                    log.start_offset,
                    log.epochs.latest,
                    self._replica.leader_epoch,
                    high_watermark=high_watermark,
                )
            except BatchError as error:
                message = f"{self.tp}: fetched from node {self.leader_id}: {error}"
                raise ClusterError(ErrorCode.corrupt_message, message) from error
            self._roll_if_due(wall_ms)
            if has_gaps:
                log.allow_gaps()
            if found[0].header.base_offset < log.end_offset:
                log.begin_at(found[0].header.base_offset, wall_ms)
            log.append_run(view, found, wall_ms)
            self._has_fetched = True
            self._after_append(0.0)
        self._replica.on_leader_high_watermark(high_watermark)
        new_start = min(log_start_offset, self._replica.high_watermark)
        if new_start > self._log.start_offset:
            self._raise_start(new_start)

    def on_diverging(self, leader_epoch: int, diverging: Diverging) -> None:
        """Cut the log where it parts from the leader's, or go a step towards that; then tell the leader the new position.

        Once something was fetched in this epoch the logs are the same, so a late answer to an older position changes nothing.
        """
        self._check_follows(leader_epoch)  # rule 2
        self._check_sound()
        if self._has_fetched:
            return
        log = self._log
        own_epoch, own_end = log.epochs.end_of(diverging.epoch, log.end_offset)
        offset = own_end if own_epoch != diverging.epoch else min(own_end, diverging.end_offset)
        if offset < self._replica.high_watermark and not self._config.unclean_leader_election_enable:
            reason = (
                f"the leader of epoch {leader_epoch} ends epoch {diverging.epoch} at offset {diverging.end_offset}, "
                f"below the high watermark {self._replica.high_watermark}"
            )
            self.damage = Damage(offset, reason)
            raise ClusterError(ErrorCode.kafka_storage_error, f"{self.tp}: {reason}")
        try:
            self._truncate(max(offset, log.start_offset))
        except DamagedBatch as bad:
            raise self._damaged(bad) from bad

    def on_leader_lost(self) -> None:
        """The stream from the leader has ended: until it says that our logs match, and how far is committed, we serve nobody."""
        self._is_matched = False

    def reset_to(self, leader_epoch: int, offset: int) -> None:
        """The leader's log begins beyond the end of ours: drop everything and begin there. Raises ClusterError."""
        self._check_follows(leader_epoch)
        self._check_sound()
        self._flush_limit = 0
        self._log.reset(offset, self._wall_ms)
        self._synced_offset = offset
        self._replica.on_reset(offset)

    # --- flushing

    @property
    def dirty(self) -> bool:
        """True if a flush has something to do."""
        if self._is_closed or self.damage is not None:
            return False
        unsynced = self._log.end_offset > self._synced_offset
        if not self._settings.fsync:
            return self._log.directory_is_dirty or (unsynced and self._log.is_checkpoint_due)
        return unsynced or self._log.directory_is_dirty

    def begin_flush(self) -> Flush | None:
        """What has to be synced now; None if nothing has, or a flush is running."""
        if self._flush is not None or not self.dirty:
            return None
        log = self._log
        directories = [log.directory] if log.directory_is_dirty else []
        if log.is_new:
            directories.append(LOGS_DIRECTORY)
        store = log.store if log.is_new else None
        log.directory_is_dirty = log.is_new = False
        log.flush_is_running = True
        self._flush_limit = log.end_offset
        self._flush = Flush(
            log.disk,
            log.take_unsynced(),
            directories,
            store,
            log.keys,
            log.end_offset,
            log.truncations,
            lambda: self._replica.high_watermark,
        )
        return self._flush

    def end_flush(self, flush: Flush) -> bool:
        """What `flush` covered is durable, and in the store; True if the high watermark moved."""
        assert flush is self._flush, "another flush is running"
        self._flush = None
        self._log.flush_is_running = False
        # What was cut meanwhile was not synced in its new form.
        synced = min(flush.end_offset, self._flush_limit)
        self._synced_offset = max(self._synced_offset, synced)
        self._log.after_flush(self._synced_offset)
        self._log.producers.transactions.settle(self._replica.high_watermark)
        if self._is_closed:
            return False
        return self._replica.on_flushed(self._synced_offset)

    # --- care

    def apply_retention(self, wall_ms: int) -> int:
        """Delete segments that are too old or too many, below the high watermark only. How many."""
        if self._is_closed or self.damage is not None:
            return 0
        self._log.producers.expire(wall_ms)
        if self._log.dedup is not None:
            self._log.dedup.ids.expire(wall_ms)
        if not self._config.is_deleting:
            return self._raise_start(self._log.start_offset)  # segments below it go whatever the policy
        self._roll_if_expired(wall_ms)
        high_watermark = self._replica.high_watermark
        return self._raise_start(retained_from(self._log.segments, self._config, high_watermark=high_watermark, wall_ms=wall_ms))

    def roll_if_old(self, wall_ms: int) -> None:
        """Begin a new segment if the active one is older than `segment.ms`, so that retention can reach it."""
        if not self._is_closed and self.damage is None:
            self._roll_if_due(wall_ms)

    # --- compaction

    @property
    def is_compacted(self) -> bool:
        """Whether its old values go."""
        return self._config.is_compacted

    def dirt(self, wall_ms: int) -> Dirt:
        """How much of the log waits to be compacted."""
        return self.compaction.dirt(self._config, limit=self._cleanable_end, wall_ms=wall_ms)

    def cleaning_urgency(self, wall_ms: int) -> float:
        """0 if it is not this log's turn to be compacted. The active segment may be closed for it."""
        if self._is_closed or self.role is Role.OFFLINE or self.damage is not None or not self._config.is_compacted:
            return 0.0
        self._wall_ms = wall_ms
        return self.compaction.urgency(self._config, limit=self._cleanable_end, wall_ms=wall_ms)

    @property
    def compaction_is_waiting(self) -> bool:
        """Whether somebody asked for a compaction that has not ended yet."""
        return not self._is_closed and self.damage is None and self.compaction.is_waiting(self._config)

    def begin_cleaning(self, wall_ms: int, *, map_bytes: int, map_load: float) -> Cleaning:
        return self.compaction.begin(
            self._config,
            limit=self._cleanable_end,
            wall_ms=wall_ms,
            aborted=self.aborted_between(self._log.start_offset, self._cleanable_end),
            map_bytes=map_bytes,
            map_load=map_load,
            decompressed_bytes_max=self._settings.decompressed_bytes_max,
        )

    def swap_in(self, cleaning: Cleaning, cleaned: CleanedGroup) -> Callable[[], None] | None:
        """Take over a compacted segment: what is left to do for it, in another thread, before the next one is taken over.

        None if the log has changed, and nothing of this job counts.
        """
        return None if self._is_closed or self.damage is not None else self.compaction.swap_in(cleaning, cleaned)

    def end_cleaning(self, cleaning: Cleaning, cleaned: CleanedLog, wall_ms: int) -> None:
        if not self._is_closed:
            self.compaction.end(cleaning, cleaned, wall_ms)

    def cleaning_met_damage(self, cleaning: Cleaning, bad: DamagedBatch) -> bool:
        """A batch was not sound; False if the log has changed since, so that this proves nothing."""
        if self._is_closed or not self.compaction.is_current(cleaning, bad.segment.base_offset):
            return False
        self._damaged(bad)
        return True

    def abandon_cleaning(self) -> None:
        """Nothing works on this log any more."""
        if not self._is_closed:
            self.compaction.abandon()

    @property
    def _cleanable_end(self) -> int:
        """Above may be what is not committed, not durable here, or of an open transaction."""
        return min(self.last_stable_offset, self.flushed_offset)

    def repair_damage(self) -> None:
        """Cut the log at the damage, to be fetched again. Only for a follower that is out of the in-sync set."""
        assert self.damage is None or self.role is not Role.LEADER, self.role
        assert self.damage is None or self.node_id not in self._replica.isr, self._replica.isr
        while self.damage is not None:
            offset, self.damage = self.damage.offset, None
            try:
                self._truncate(offset, at_damage=True)
            except DamagedBatch as bad:  # more of it, in what is left
                self._damaged(bad)

    def retire(self) -> None:
        """The node is about to delete or close this partition: refuse everything from here on."""
        self.role = Role.OFFLINE
        self.leader_id = NO_LEADER

    def close(self) -> None:
        """Sync and checkpoint everything, so that the next open reads nothing. No flush may be running."""
        if self._is_closed:
            return
        self.retire()
        self._is_closed = True
        assert self._flush is None, "a flush is running"
        if self.damage is None:
            self._save_all()
        self._log.close()

    def delete(self) -> None:
        """Remove all files and keys. No flush may be running."""
        assert self._flush is None, "a flush is running"
        self.retire()
        if not self._is_closed:
            self._is_closed = True
            self._log.close()
        batch = WriteBatch()
        batch.delete_range(*self._log.keys.everything())
        self._log.store.write(batch)
        # The store first: files without keys are a log to be read again, keys without files would be damage.
        self._log.store.sync()
        self._log.disk.delete(self._log.directory)

    # --- inside

    def _role_in(self, state: PartitionState) -> Role:
        if state.leader == self.node_id:
            return Role.LEADER
        if state.leader == NO_LEADER or self.node_id not in state.replicas:
            return Role.OFFLINE
        return Role.FOLLOWER

    def check_leads(self, leader_epoch: int = -1) -> None:
        """Raises NOT_LEADER_OR_FOLLOWER, or what is wrong with the leader epoch that a client believes in (-1: none)."""
        if self.role is not Role.LEADER:
            raise ClusterError(
                ErrorCode.not_leader_or_follower, f"{self.tp}: node {self.node_id} does not lead it, node {self.leader_id} does"
            )
        if leader_epoch >= 0:
            self._check_epoch(leader_epoch)

    def _check_takes(self, acks: int, leader_epoch: int) -> None:
        """Raises ClusterError unless this leader may append now, so that it can be committed if all replicas are asked for."""
        self.check_leads(leader_epoch)
        self._check_sound()
        if acks == -1 and len(self._replica.isr) < self._replica.min_insync_replicas:
            raise ClusterError(
                ErrorCode.not_enough_replicas,
                f"{self.tp}: {len(self._replica.isr)} replicas in sync, {self._replica.min_insync_replicas} needed",
            )

    def _repeated(self, records: Buffer, header: BatchHeader, known: ProducerBatch, wall_ms: int) -> Appended:
        """What the producer of a batch is told that was appended before."""
        first, last, dedup = known.first_offset, known.last_offset, self._log.dedup
        if dedup is not None and not header.is_transactional:
            originals = originals_of_repeat(records, header, dedup, known, wall_ms)
            first, last = originals.first, originals.last
        return Appended(first, last, known.log_append_time_ms, self._log.start_offset, True, [], 0)

    def _note_sifted(self, sifted: Sifted, wall_ms: int) -> int:
        """It is in the log now. Where its first record was before, if nothing is left of it; else -1."""
        if sifted.learned and self._log.dedup is not None:
            self._log.dedup.ids.learn(sifted.learned, wall_ms)
        return -1 if sifted.originals is None else sifted.originals.first

    def _is_in_transaction(self, header: BatchHeader) -> bool:
        return self._log.producers.is_in_transaction(header.producer_id, header.producer_epoch)

    def _readable_end(self, isolation_committed: bool) -> int:
        return self.last_stable_offset if isolation_committed else self._replica.high_watermark

    def _check_serves_as_follower(self, offset: int, leader_epoch: int) -> None:
        """Raises ClusterError unless what is below our high watermark is what the leader has, and the leader goes on telling it.

        Before the leader of this epoch has matched our log, an unclean election may have dropped what we still hold as committed.
        Out of the in-sync set we may be far behind for long. Both send the reader to the leader.
        """
        if leader_epoch >= 0:
            self._check_epoch(leader_epoch)
        self._check_sound()
        if not self._is_matched or self.node_id not in self._replica.isr:
            raise ClusterError(
                ErrorCode.not_leader_or_follower,
                f"{self.tp}: node {self.node_id} is not in sync with node {self.leader_id}, who leads it",
            )
        if offset > self._log.end_offset:  # the leader may have it: no reason for the reader to begin elsewhere
            raise ClusterError(
                ErrorCode.offset_not_available, f"{self.tp}: offset {offset}, this follower has {self._log.end_offset}"
            )

    def _check_follows(self, leader_epoch: int) -> None:
        if self.role is not Role.FOLLOWER:
            raise ClusterError(ErrorCode.not_leader_or_follower, f"{self.tp}: node {self.node_id} is {self.role.value}")
        self._check_epoch(leader_epoch)

    def _check_epoch(self, leader_epoch: int) -> None:
        held = self._replica.leader_epoch
        if leader_epoch != held:
            code = ErrorCode.fenced_leader_epoch if leader_epoch < held else ErrorCode.unknown_leader_epoch
            raise ClusterError(code, f"{self.tp}: leader epoch {leader_epoch}, it is {held} here")

    def _check_sound(self) -> None:
        if self.damage is not None:
            raise ClusterError(
                ErrorCode.kafka_storage_error, f"{self.tp}: damaged at offset {self.damage.offset}: {self.damage.reason}"
            )

    def _divergence(self, last_epoch: int, end_offset: int) -> Diverging | None:
        """Where a log that ends at `end_offset` with a record of `last_epoch` parts from this one."""
        if last_epoch < 0:
            return None
        self._check_sound()
        epoch, own_end = self._log.epochs.end_of(last_epoch, self._log.end_offset)
        return Diverging(epoch, own_end) if epoch < last_epoch or own_end < end_offset else None

    def _after_append(self, now: float) -> None:
        self._replica.on_appended(self._log.end_offset, now)
        if not self._settings.fsync:
            self._replica.on_flushed(self._log.end_offset)

    def _result(
        self,
        buffers: list[Buffer],
        size: int,
        next_offset: int,
        diverging: Diverging | None,
        aborted: tuple[AbortedTransaction, ...] = (),
    ) -> ReadResult:
        return ReadResult(
            buffers,
            size,
            next_offset,
            self._replica.high_watermark,
            self.last_stable_offset,
            self._log.start_offset,
            diverging,
            aborted,
        )

    def _damaged(self, bad: DamagedBatch) -> ClusterError:
        if self.damage is None or bad.offset < self.damage.offset:
            self.damage = Damage(bad.offset, bad.reason)
        return ClusterError(ErrorCode.kafka_storage_error, f"{self.tp}: {bad.reason}")

    def _truncate(self, offset: int, *, at_damage: bool = False) -> None:
        try:
            self._log.truncate(offset, self._wall_ms, at_damage=at_damage)
        finally:  # damage may be found after the cut
            end = self._log.end_offset
            self._flush_limit = min(self._flush_limit, end)
            self._synced_offset = min(self._synced_offset, end)
            self._replica.on_truncated(end)

    def _raise_start(self, offset: int) -> int:
        log = self._log
        # The start may have come to the end of the active segment, which had to stay; rolled since, it can go.
        is_overdue = offset == log.start_offset and len(log.segments) > 1 and log.segments[0].next_offset <= offset
        return log.raise_start(offset) if offset > log.start_offset or is_overdue else 0

    def _roll_if_due(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        active = self._log.active
        if active.size > 0 and wall_ms - active.created_ms >= roll_after_ms(active, self._config, self._log.directory):
            self._log.roll(wall_ms)

    def _roll_if_expired(self, wall_ms: int) -> None:
        """Let time retention reach the active segment too, once all of it is committed."""
        active = self._log.active
        is_committed = active.next_offset <= self._replica.high_watermark
        if active.size > 0 and is_committed and is_expired(active, self._config, wall_ms):
            self._log.roll(wall_ms)

    def _save_all(self) -> None:
        log = self._log
        for file in log.take_unsynced():
            file.sync()
        log.sync_directories()
        self._synced_offset = log.end_offset
        self._replica.on_flushed(log.end_offset)
        batch = WriteBatch()
        log.put_final(batch)
        put_checkpoint(batch, log.keys, Checkpoint(log.end_offset, self._replica.high_watermark, log.truncations))
        log.store.write(batch)
