"""What a partition knows of idempotent producers: the newest batches of each, to tell the next from a repeated or a lost one.

A producer may have five requests under way (`max.in.flight.requests.per.connection`), so the last five batches are remembered: a
repeat of one of them is answered with the offset it got the first time. Made from batch headers alone, on leaders and followers
alike, so a new leader knows what the old one knew. Source: KIP-98, KIP-360.

A snapshot is: version uint8, whether producers were forgotten uint8, producer count uint32, then for each producer, least
recently heard first,
producer id int64, epoch int16, last heard ms int64, batch count uint8, then for each batch, oldest first,
first sequence int32, last sequence int32, first offset int64, timestamp int64 (ms; -1 where the producer set the time).
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from quorumlog.wire.batches import NO_SEQUENCE, NO_TIMESTAMP, SEQUENCE_LIMIT, BatchHeader
from quorumlog.wire.errors import ClusterError, ErrorCode

BATCHES_REMEMBERED = 5
_VERSION = 2
_HEAD = struct.Struct(">BBI")
_PRODUCER = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqq")


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

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


class ProducerStates:
    """Owned by a partition's log. `check` before a leader appends, `update` for whatever was appended."""

    def __init__(self, *, expiration_ms: int, producers_max: int) -> None:
        self._expiration_ms = expiration_ms
        self._producers_max = producers_max
        self._producers: dict[int, ProducerState] = {}  # least recently heard first
        self._has_forgotten = False  # some that wrote to the log

    def __len__(self) -> int:
        return len(self._producers)

    def known(self) -> list[tuple[int, ProducerState]]:
        """By producer id."""
        return sorted(self._producers.items(), key=lambda item: item[0])

    def get(self, producer_id: int) -> ProducerState | None:
        return self._producers.get(producer_id)

    def check(self, header: BatchHeader, wall_ms: int, *, log_is_whole: bool = False) -> ProducerBatch | None:
        """None if the batch may be appended, or the batch it repeats.

        Raises INVALID_PRODUCER_EPOCH for one of an older epoch, OUT_OF_ORDER_SEQUENCE_NUMBER for a gap. Of a producer that is
        not known any more any sequence is taken, as Kafka does: its state may have expired, or gone with its records. Where
        nothing has gone (`log_is_whole`: the log has its first record still), an unknown producer is new and begins at 0: else
        the second of two requests, coming to a new leader alone, would overtake the first (Kafka takes it).
        """
        state = self._producers.get(header.producer_id)
        if state is None:
            if log_is_whole and not self._has_forgotten:
                _check_sequence(header, NO_SEQUENCE)
            return None
        if self._is_expired(state, wall_ms):
            return None
        if header.producer_epoch < state.epoch:
            raise ClusterError(
                ErrorCode.invalid_producer_epoch,
                f"producer {header.producer_id} sent epoch {header.producer_epoch}, its epoch is {state.epoch}",
            )
        if header.producer_epoch > state.epoch:
            _check_sequence(header, NO_SEQUENCE)
            return None
        for batch in state.batches:
            if batch.first_sequence == header.base_sequence and batch.last_sequence == header.last_sequence:
                return batch
        _check_sequence(header, state.last_sequence)
        return None

    def update(self, header: BatchHeader, wall_ms: int) -> None:
        """The batch is in the log."""
        state = self._producers.pop(header.producer_id, None)
        if state is None or state.epoch != header.producer_epoch:
            state = ProducerState(header.producer_epoch, wall_ms)
        state.last_heard_ms = wall_ms
        if header.base_sequence != NO_SEQUENCE:  # markers of transactions have none
            append_time = header.max_timestamp if header.is_log_append_time else NO_TIMESTAMP
            batch = ProducerBatch(header.base_sequence, header.last_sequence, header.base_offset, append_time)
            state.batches = [*state.batches[1 - BATCHES_REMEMBERED :], batch]
        self._producers[header.producer_id] = state
        if len(self._producers) > self._producers_max:
            del self._producers[next(iter(self._producers))]
            self._has_forgotten = True

    def expire(self, wall_ms: int) -> None:
        """Forget producers that were not heard for long."""
        expired = []
        for producer_id, state in self._producers.items():
            if not self._is_expired(state, wall_ms):
                break
            expired.append(producer_id)
        for producer_id in expired:
            del self._producers[producer_id]
            self._has_forgotten = True

    def clear(self) -> None:
        self._producers.clear()
        self._has_forgotten = False

    def encode(self) -> bytes:
        """A snapshot."""
        parts = [_HEAD.pack(_VERSION, self._has_forgotten, len(self._producers))]
        for producer_id, state in self._producers.items():
            parts.append(_PRODUCER.pack(producer_id, state.epoch, state.last_heard_ms, len(state.batches)))
            parts.extend(_BATCH.pack(*batch) for batch in state.batches)
        return b"".join(parts)

    def restore(self, snapshot: bytes) -> None:
        """Become what a snapshot says."""
        self._producers.clear()
        _, has_forgotten, count = _HEAD.unpack_from(snapshot)
        self._has_forgotten = bool(has_forgotten)
        position = _HEAD.size
        for _ in range(count):
            producer_id, epoch, last_heard_ms, batch_count = _PRODUCER.unpack_from(snapshot, position)
            position += _PRODUCER.size
            end = position + batch_count * _BATCH.size
            batches = [ProducerBatch._make(fields) for fields in _BATCH.iter_unpack(snapshot[position:end])]
            self._producers[producer_id] = ProducerState(epoch, last_heard_ms, batches)
            position = end

    def _is_expired(self, state: ProducerState, wall_ms: int) -> bool:
        return wall_ms - state.last_heard_ms > self._expiration_ms


def _check_sequence(header: BatchHeader, last_sequence: int) -> None:
    # A new epoch begins at 0, and so does what follows the last possible sequence.
    expected = (last_sequence + 1) % SEQUENCE_LIMIT
    if header.base_sequence != expected:
        raise ClusterError(
            ErrorCode.out_of_order_sequence_number,
            f"producer {header.producer_id} of epoch {header.producer_epoch} sent sequence {header.base_sequence}, "
            f"expected {expected}",
        )
