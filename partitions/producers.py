"""What a partition knows of idempotent producers: the newest batches of each, to tell the next from a repeated or a lost one,
and the transaction that it has open here.

A producer may have five requests under way (`max.in.flight.requests.per.connection`), so the last five batches are remembered: a
repeat of one of them is answered with the offset it got the first time. Made from batch headers and transaction markers alone, on
leaders and followers alike, so a new leader knows what the old one knew. Source: KIP-98, KIP-360, KIP-890.

A snapshot is: version uint8, whether producers were forgotten uint8, producer count uint32, then for each producer, least
recently heard first,
producer id int64, epoch int16, last heard ms int64, batch count uint8, coordinator epoch int32 (-1: no marker yet), first offset
of its open transaction int64 (-1: none), then for each batch, oldest first,
first sequence int32, last sequence int32, first offset int64, timestamp int64 (ms; -1 where the producer set the time);
then for each transaction that has ended, but whose marker was not committed yet: marker offset int64, first offset int64.
(Version 2 has neither coordinator epochs nor transactions.)
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from quorumlog.wire.batches import NO_SEQUENCE, NO_TIMESTAMP, SEQUENCE_LIMIT, BatchHeader
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.markers import Marker

from .aborted import AbortedTransaction
from .open_transactions import Decided, OpenTransactions

BATCHES_REMEMBERED = 5
NO_EPOCH = -1
_VERSION = 3
_HEAD = struct.Struct(">BBI")
_PRODUCER_V2 = struct.Struct(">qhqB")
_PRODUCER = struct.Struct(">qhqBiq")
_BATCH = struct.Struct(">iiqq")
_DECIDED = struct.Struct(">qq")


class ProducerBatch(NamedTuple):
    """A batch that was appended."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    log_append_time_ms: int

    @property
    def last_offset(self) -> int:
        return self.first_offset + (self.last_sequence - self.first_sequence) % SEQUENCE_LIMIT


@dataclass(slots=True)
class ProducerState:
    epoch: int
    last_heard_ms: int
    batches: list[ProducerBatch] = field(default_factory=list)  # oldest first
    coordinator_epoch: int = NO_EPOCH  # of the transaction coordinator that wrote the last marker

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


class ProducerStates:
    """Owned by a partition's log. `check` before a leader appends, `update` or `end_transaction` for whatever was appended."""

    def __init__(self, *, expiration_ms: int, producers_max: int) -> None:
        self._expiration_ms = expiration_ms
        self._producers_max = producers_max
        self._producers: dict[int, ProducerState] = {}  # least recently heard first
        self._has_forgotten = False  # some that wrote to the log
        self.transactions = OpenTransactions()

    def __len__(self) -> int:
        return len(self._producers)

    def known(self) -> list[tuple[int, ProducerState]]:
        """By producer id."""
        return sorted(self._producers.items(), key=lambda item: item[0])

    def get(self, producer_id: int) -> ProducerState | None:
        return self._producers.get(producer_id)

    # --- before an append

    def check(
        self, header: BatchHeader, wall_ms: int, *, log_is_whole: bool = False, checks_sequence: bool = True
    ) -> ProducerBatch | None:
        """None if the batch may be appended, or the batch it repeats.

        Raises INVALID_PRODUCER_EPOCH for one of an older epoch, OUT_OF_ORDER_SEQUENCE_NUMBER for a gap. Of a producer that is
        not known any more any sequence is taken, as Kafka does: its state may have expired, or gone with its records. Where
        nothing has gone (`log_is_whole`: the log has its first record still), an unknown producer is new and begins at 0: else
        the second of two requests, coming to a new leader alone, would overtake the first (Kafka takes it). What a coordinator
        writes for a producer has no sequence to be checked.
        """
        state = self._producers.get(header.producer_id)
        if state is None:
            if checks_sequence and log_is_whole and not self._has_forgotten:
                _check_sequence(header, NO_SEQUENCE)
            return None
        if self._is_expired(header.producer_id, state, wall_ms):
            return None
        _check_not_older(header.producer_id, header.producer_epoch, state)
        if header.producer_epoch == state.epoch:
            for batch in state.batches:
                if batch.first_sequence == header.base_sequence and batch.last_sequence == header.last_sequence:
                    return batch
        if header.producer_id in self.transactions:
            _check_open_transaction(header.producer_id, header.producer_epoch, state, header.is_transactional)
        if checks_sequence:
            _check_sequence(header, state.last_sequence if header.producer_epoch == state.epoch else NO_SEQUENCE)
        return None

    def check_epoch(self, producer_id: int, producer_epoch: int) -> None:
        """As `check`, of what a coordinator is about to write in a transaction of this producer."""
        state = self._producers.get(producer_id)
        if state is not None:
            _check_not_older(producer_id, producer_epoch, state)
            if producer_id in self.transactions:
                _check_open_transaction(producer_id, producer_epoch, state, is_transactional=True)

    def is_in_transaction(self, producer_id: int, producer_epoch: int) -> bool:
        """Has it begun one here, in this epoch, that nothing has ended?"""
        state = self._producers.get(producer_id)
        return producer_id in self.transactions and state is not None and state.epoch == producer_epoch

    def check_marker(self, producer_id: int, producer_epoch: int, coordinator_epoch: int, *, is_strict: bool) -> bool:
        """May the producer's transaction be ended so? False if it was already.

        `is_strict` where each transaction has an epoch of its own, which its end raises (KIP-890, KIP-1228): a marker of the
        present epoch has been here before, and meets the next transaction if one is open.
        Raises INVALID_PRODUCER_EPOCH, or TRANSACTION_COORDINATOR_FENCED for a coordinator that another has replaced.
        """
        state = self._producers.get(producer_id)
        if state is None:
            return True
        is_repeated = is_strict and producer_epoch == state.epoch
        if producer_epoch < state.epoch or (is_repeated and producer_id in self.transactions):
            raise ClusterError(
                ErrorCode.invalid_producer_epoch,
                f"a marker of epoch {producer_epoch} for producer {producer_id}, whose epoch is {state.epoch}",
            )
        if coordinator_epoch < state.coordinator_epoch:
            raise ClusterError(
                ErrorCode.transaction_coordinator_fenced,
                f"a marker for producer {producer_id} by the coordinator of epoch {coordinator_epoch}, "
                f"the last one was of epoch {state.coordinator_epoch}",
            )
        return not is_repeated

    # --- after an append

    def update(self, header: BatchHeader, wall_ms: int) -> None:
        """The batch is in the log."""
        state = self._heard(header, wall_ms)
        if header.base_sequence != NO_SEQUENCE:  # what coordinators write for a producer has none
            append_time = header.max_timestamp if header.is_log_append_time else NO_TIMESTAMP
            batch = ProducerBatch(header.base_sequence, header.last_sequence, header.base_offset, append_time)
            state.batches = [*state.batches[1 - BATCHES_REMEMBERED :], batch]
        if header.is_transactional and header.producer_id not in self.transactions:
            self.transactions.begin(header.producer_id, header.base_offset)
        self._make_room()

    def end_transaction(self, header: BatchHeader, marker: Marker | None, wall_ms: int) -> AbortedTransaction | None:
        """A control batch is in the log; the transaction that it aborted, if so. None as a marker is none that ends one."""
        if marker is None:
            return None
        state = self._heard(header, wall_ms)
        state.coordinator_epoch = max(state.coordinator_epoch, marker.coordinator_epoch)
        first_offset = self.transactions.end(header.producer_id, header.base_offset)
        self._make_room()
        if first_offset is None or marker.is_commit:
            return None
        first_open = self.transactions.first_open()
        stable = header.next_offset if first_open is None else first_open
        return AbortedTransaction(header.producer_id, first_offset, header.base_offset, stable)

    def expire(self, wall_ms: int) -> None:
        """Forget producers that were not heard for long."""
        expired = []
        for producer_id, state in self._producers.items():
            if self._is_expired(producer_id, state, wall_ms):
                expired.append(producer_id)
            elif producer_id not in self.transactions:
                break
        for producer_id in expired:
            del self._producers[producer_id]
            self._has_forgotten = True

    def clear(self) -> None:
        self._producers.clear()
        self.transactions.clear()
        self._has_forgotten = False

    # --- snapshots

    def encode(self) -> bytes:
        """A snapshot."""
        parts = [_HEAD.pack(_VERSION, self._has_forgotten, len(self._producers))]
        for producer_id, state in self._producers.items():
            opened = self.transactions.first_offset(producer_id)
            first_offset = -1 if opened is None else opened
            count, coordinator_epoch = len(state.batches), state.coordinator_epoch
            parts.append(_PRODUCER.pack(producer_id, state.epoch, state.last_heard_ms, count, coordinator_epoch, first_offset))
            parts.extend(_BATCH.pack(*batch) for batch in state.batches)
        parts.extend(_DECIDED.pack(*one) for one in self.transactions.decided)
        return b"".join(parts)

    def restore(self, snapshot: bytes) -> None:
        """Become what a snapshot says."""
        self._producers.clear()
        version, has_forgotten, count = _HEAD.unpack_from(snapshot)
        self._has_forgotten = bool(has_forgotten)
        layout = _PRODUCER if version >= _VERSION else _PRODUCER_V2
        position, opened = _HEAD.size, {}
        for _ in range(count):
            producer_id, epoch, last_heard_ms, batch_count, *rest = layout.unpack_from(snapshot, position)
            coordinator_epoch, first_offset = rest or (NO_EPOCH, -1)
            position += layout.size
            end = position + batch_count * _BATCH.size
            batches = [ProducerBatch._make(fields) for fields in _BATCH.iter_unpack(snapshot[position:end])]
            self._producers[producer_id] = ProducerState(epoch, last_heard_ms, batches, coordinator_epoch)
            if first_offset >= 0:
                opened[producer_id] = first_offset
            position = end
        self.transactions.restore(opened, [Decided._make(fields) for fields in _DECIDED.iter_unpack(snapshot[position:])])

    # --- inside

    def _heard(self, header: BatchHeader, wall_ms: int) -> ProducerState:
        """The producer's state, in the epoch of the batch; it is the most recently heard now."""
        state = self._producers.pop(header.producer_id, None)
        if state is None or state.epoch != header.producer_epoch:
            coordinator_epoch = NO_EPOCH if state is None else state.coordinator_epoch
            state = ProducerState(header.producer_epoch, wall_ms, coordinator_epoch=coordinator_epoch)
        state.last_heard_ms = wall_ms
        self._producers[header.producer_id] = state
        return state

    def _make_room(self) -> None:
        """The least recently heard goes, but nobody who has a transaction open: its end must be able to find its beginning."""
        if len(self._producers) > self._producers_max:
            doomed = next((one for one in self._producers if one not in self.transactions), None)
            if doomed is not None:
                del self._producers[doomed]
                self._has_forgotten = True

    def _is_expired(self, producer_id: int, state: ProducerState, wall_ms: int) -> bool:
        return wall_ms - state.last_heard_ms > self._expiration_ms and producer_id not in self.transactions


def _check_not_older(producer_id: int, producer_epoch: int, state: ProducerState) -> None:
    if producer_epoch < state.epoch:
        raise ClusterError(
            ErrorCode.invalid_producer_epoch, f"producer {producer_id} sent epoch {producer_epoch}, its epoch is {state.epoch}"
        )


def _check_open_transaction(producer_id: int, producer_epoch: int, state: ProducerState, is_transactional: bool) -> None:
    """What is open ends before anything else of its producer comes."""
    if producer_epoch != state.epoch:
        raise ClusterError(
            ErrorCode.concurrent_transactions,
            f"producer {producer_id} sent epoch {producer_epoch} while its transaction of epoch {state.epoch} is still open",
        )
    if not is_transactional:
        raise ClusterError(
            ErrorCode.invalid_txn_state, f"producer {producer_id} sent a plain batch while its transaction is open"
        )


def _check_sequence(header: BatchHeader, last_sequence: int) -> None:
    # A new epoch begins at 0, and so does what follows the last possible sequence.
    expected = (last_sequence + 1) % SEQUENCE_LIMIT
    if header.base_sequence != expected:
        raise ClusterError(
            ErrorCode.out_of_order_sequence_number,
            f"producer {header.producer_id} of epoch {header.producer_epoch} sent sequence {header.base_sequence}, "
            f"expected {expected}",
        )
