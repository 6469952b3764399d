"""What the coordinator knows of a transactional id, and the steps that it can take.

    Empty -> Ongoing -> PrepareCommit -> CompleteCommit -> Ongoing ...
                     -> PrepareAbort  -> CompleteAbort  -> Ongoing ...

With PrepareCommit or PrepareAbort in the log the end is decided; the markers follow, and when each partition has its own, the
transaction is complete. Each step is one record (`transaction_records.py`), and another object: nothing is changed in place.

A producer has an epoch, which fences those of its id that came before. Of transactions of version 2 (KIP-890) each has its own:
to end one raises the epoch, so nothing that is late can touch the next. The greatest epoch is for fencing only; from the one
below it the producer goes on with another producer id.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from quorumlog.wire.ids import TopicPartition

NO_PRODUCER, NO_EPOCH, NO_TIME = -1, -1, -1
EPOCH_MAX = 2**15 - 1
EPOCH_LAST = EPOCH_MAX - 1  # that a producer may use
EPOCH_BUMPS_FROM = 2  # the version of transactions that raises the epoch with each


class TransactionState(IntEnum):
    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6  # expired: its record is a tombstone
    PREPARE_EPOCH_FENCE = 7  # in Kafka a moment between Ongoing and PrepareAbort, which is never logged

    @property
    def title(self) -> str:
        """As DescribeTransactions and ListTransactions have it."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def is_ending(self) -> bool:
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)

    @property
    def is_complete(self) -> bool:
        return self in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)

    @property
    def is_idle(self) -> bool:
        return self is TransactionState.EMPTY or self.is_complete


class Producer(NamedTuple):
    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Times are ms since 1970. `last_epoch` is known to the coordinator that set it, and not in the log (as in Kafka)."""

    producer_id: int
    epoch: int
    timeout_ms: int
    state: TransactionState = TransactionState.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    start_ms: int = NO_TIME
    update_ms: int = NO_TIME
    previous_producer_id: int = NO_PRODUCER
    next_producer_id: int = NO_PRODUCER
    client_version: int = 0
    last_epoch: int = NO_EPOCH

    @property
    def producer(self) -> Producer:
        return Producer(self.producer_id, self.epoch)

    @property
    def is_exhausted(self) -> bool:
        """Its next epoch would be the one that nobody may use."""
        return self.epoch >= EPOCH_LAST

    @property
    def has_epoch_of_its_own(self) -> bool:
        return self.client_version >= EPOCH_BUMPS_FROM

    @property
    def is_commit(self) -> bool:
        """Of one that is ending or has ended."""
        return self.state in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)

    @property
    def deadline_ms(self) -> int:
        """When an ongoing one is aborted."""
        return self.start_ms + self.timeout_ms

    # --- steps

    def initialized(self, producer: Producer, *, last_epoch: int, timeout_ms: int, wall_ms: int) -> "Transaction":
        """A producer begins to work with the id."""
        return Transaction(
            producer.producer_id,
            producer.epoch,
            timeout_ms,
            update_ms=wall_ms,
            previous_producer_id=self.producer_id,
            last_epoch=last_epoch,
        )

    def extended(self, partitions: frozenset[TopicPartition], wall_ms: int) -> "Transaction":
        """More partitions take part in it; the first ones begin it."""
        begins = self.state.is_idle
        return replace(
            self,
            state=TransactionState.ONGOING,
            partitions=partitions if begins else self.partitions | partitions,
            start_ms=wall_ms if begins else self.start_ms,
            update_ms=wall_ms,
        )

    def ended(self, *, is_commit: bool, client_version: int, next_producer_id: int, wall_ms: int) -> "Transaction":
        """Its producer has decided."""
        bumps = client_version >= EPOCH_BUMPS_FROM
        return replace(
            self,
            state=TransactionState.PREPARE_COMMIT if is_commit else TransactionState.PREPARE_ABORT,
            epoch=self.epoch + 1 if bumps else self.epoch,
            last_epoch=self.epoch if bumps else self.last_epoch,
            next_producer_id=next_producer_id,
            client_version=client_version,
            start_ms=wall_ms if self.state.is_idle else self.start_ms,
            update_ms=wall_ms,
        )

    def fenced(self, wall_ms: int) -> "Transaction":
        """The coordinator aborts it, and shuts its producer out: nobody is ever given this epoch."""
        assert self.epoch < EPOCH_MAX, self
        return replace(
            self,
            state=TransactionState.PREPARE_ABORT,
            epoch=self.epoch + 1,
            last_epoch=NO_EPOCH,
            client_version=0,
            update_ms=wall_ms,
        )

    def completed(self, wall_ms: int) -> "Transaction":
        """All partitions have their marker."""
        state = TransactionState.COMPLETE_COMMIT if self.is_commit else TransactionState.COMPLETE_ABORT
        done = replace(self, state=state, partitions=frozenset(), next_producer_id=NO_PRODUCER, update_ms=wall_ms)
        if self.next_producer_id == NO_PRODUCER:
            return done
        return replace(
            done, producer_id=self.next_producer_id, epoch=0, previous_producer_id=self.producer_id, last_epoch=self.epoch
        )
