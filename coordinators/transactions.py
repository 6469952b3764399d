"""What becomes of transactions, each known by its transactional id: the decisions, as Kafka takes them.

    InitProducerId           a producer begins to work with the id: whoever worked with it before is shut out
    AddPartitionsToTxn       partitions take part in the transaction, which begins with the first
    EndTxn                   the producer decides: PrepareCommit or PrepareAbort; from then on it cannot end otherwise
    complete                 each partition has its marker
    time                     a transaction that takes too long is aborted, an id that nobody uses is forgotten

An operation refuses with a ClusterError before anything has changed. What is decided here is replied and carried out
(`EndDecided`) once it is committed. Source: KIP-98, KIP-360, KIP-890.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from .journal import Journal
from .results import Body, Waiter
from .timers import Key, Timers
from .transaction_records import TransactionRecord, encode_transaction
from .transaction_state import EPOCH_BUMPS_FROM, EPOCH_LAST, NO_EPOCH, NO_PRODUCER, Producer, Transaction, TransactionState

EXPIRY: Key = ("expiry",)
EXPIRED_MAX = 2_000  # ids that are taken out in one step, so that others are served in between
BETWEEN_STEPS_S = 0.02
NEW = Transaction(NO_PRODUCER, NO_EPOCH, 0)


@dataclass(frozen=True, slots=True)
class TransactionConfig:
    timeout_max_ms: int = 900_000
    id_expiration_ms: int = 604_800_000
    expiration_check_interval_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class EndDecided:
    """An effect: the end of this transaction is committed, and its partitions are to be told."""

    transactional_id: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks about which transaction. `producer` is what he believes to be; None where he has no idea."""

    waiter: Waiter
    transactional_id: str
    producer: Producer | None = None


class Transactions:
    """Owned by a shard. `now` is monotonic time in seconds, `wall_ms` is ms since 1970."""

    def __init__(self, config: Callable[[], TransactionConfig]) -> None:
        self._config = config
        self._known: dict[str, Transaction] = {}
        self.journal: Journal[TransactionRecord] = Journal(encode_transaction, self.replay)
        self.timers = Timers()
        self.record_bytes_max = 1_000_000

    def __len__(self) -> int:
        return len(self._known)

    def replay(self, record: TransactionRecord) -> None:
        if record.transaction is None:
            self._known.pop(record.transactional_id, None)
        else:
            self._known[record.transactional_id] = record.transaction

    def on_loaded(self, now: float, wall_ms: int) -> None:
        """What the last coordinator has decided may not be done; who was in the midst of a transaction has his time left."""
        for transactional_id, transaction in sorted(self._known.items()):
            self._watch(transactional_id, transaction, now, wall_ms)
            if transaction.state.is_ending:
                self.journal.effect(EndDecided(transactional_id, transaction))
        self.timers.set(EXPIRY, now + self._config().expiration_check_interval_ms / 1000)

    # --- InitProducerId

    def needs_producer_id_to_begin(self, asked: Asked) -> bool:
        known = self._known.get(asked.transactional_id)
        return known is None or (known.state.is_idle and known.is_exhausted)

    def init_producer(self, asked: Asked, *, timeout_ms: int, spare_id: int | None, wall_ms: int) -> None:
        most = self._config().timeout_max_ms
        if not 0 < timeout_ms <= most:
            raise ClusterError(
                ErrorCode.invalid_transaction_timeout, f"a transaction timeout of {timeout_ms} ms; allowed are 1 to {most}"
            )
        known = self._known.get(asked.transactional_id, NEW)
        expected = asked.producer
        if expected is not None and not _may_go_on(expected, known):
            raise _fenced(asked, known)
        if known.state.is_ending:
            raise _busy(asked, known)
        if known.state is TransactionState.ONGOING:
            self._fence(asked, known, wall_ms)
            return
        producer, last_epoch = _next_producer(asked, known, spare_id)
        self._log(asked, known.initialized(producer, last_epoch=last_epoch, timeout_ms=timeout_ms, wall_ms=wall_ms))
        self.journal.reply(asked.waiter, {"producer_id": producer.producer_id, "producer_epoch": producer.epoch})

    def _fence(self, asked: Asked, known: Transaction, wall_ms: int) -> None:
        """What the one before has under way is aborted first; meanwhile the new one has to ask again, and again."""
        if asked.producer is not None and asked.producer.epoch != known.epoch:
            raise _fenced(asked, known)
        self._abort(asked.transactional_id, known, wall_ms)
        self.journal.reply(asked.waiter, {"error_code": ErrorCode.concurrent_transactions})

    def _abort(self, transactional_id: str, known: Transaction, wall_ms: int) -> None:
        self._end_with(transactional_id, known.fenced(wall_ms))

    # --- partitions

    def add_partitions(self, asked: Asked, partitions: Collection[TopicPartition], now: float, wall_ms: int) -> None:
        """AddPartitionsToTxn, and AddOffsetsToTxn for the partition in which a group's offsets are."""
        known = self._existing(asked)
        if known.state.is_ending:  # first: the producer may go by the id that it gets with the end (KIP-890)
            raise _busy(asked, known)
        self._check_producer(asked, known)
        if known.state is not TransactionState.ONGOING or not known.partitions.issuperset(partitions):
            extended = known.extended(frozenset(partitions), wall_ms)
            self._check_size(asked, extended)
            self._log(asked, extended)
            self._watch(asked.transactional_id, extended, now, wall_ms)
        self.journal.reply(asked.waiter, {"error_code": ErrorCode.none})

    def verify_partitions(self, asked: Asked, partitions: Collection[TopicPartition]) -> None:
        """Does the producer's transaction have these partitions? The leaders of those ask before its first batch (KIP-890)."""
        known = self._existing(asked)
        self._check_producer(asked, known)
        if known.state.is_ending:
            raise _busy(asked, known)
        is_open = known.state is TransactionState.ONGOING
        codes = {
            place: ErrorCode.none if is_open and place in known.partitions else ErrorCode.transaction_abortable
            for place in partitions
        }
        self.journal.reply(asked.waiter, {"error_code": ErrorCode.none, "codes": codes})

    def _check_size(self, asked: Asked, transaction: Transaction) -> None:
        record = encode_transaction(TransactionRecord(asked.transactional_id, transaction))
        size = len(record.key) + len(record.value or b"")
        if size > self.record_bytes_max:
            raise ClusterError(
                ErrorCode.unknown_server_error,
                f"transaction {asked.transactional_id!r} would have {len(transaction.partitions)} partitions, in a record of "
                f"{size} bytes; the most is {self.record_bytes_max}",
            )

    # --- EndTxn

    def needs_producer_id_to_end(self, asked: Asked, client_version: int) -> bool:
        known = self._known.get(asked.transactional_id)
        return client_version >= EPOCH_BUMPS_FROM and known is not None and not known.state.is_ending and known.is_exhausted

    def end(self, asked: Asked, *, is_commit: bool, client_version: int, spare_id: int | None, wall_ms: int) -> None:
        known = self._existing(asked)
        is_repeat = _is_repeated_end(asked, known, client_version)
        if known.state.is_ending:
            raise self._too_early(asked, known, is_repeat, is_commit)
        if not is_repeat:
            self._check_producer(asked, known)
        if known.state.is_complete and is_repeat:
            if known.is_commit is not is_commit:
                raise _misplaced(asked, known)
            self._reply_end(asked, known)
            return
        bumps = client_version >= EPOCH_BUMPS_FROM
        if known.state is not TransactionState.ONGOING and (is_commit or not bumps):
            raise _misplaced(asked, known)
        next_id = NO_PRODUCER
        if bumps and known.is_exhausted:
            next_id = _checked_spare(asked, spare_id)
        ended = known.ended(is_commit=is_commit, client_version=client_version, next_producer_id=next_id, wall_ms=wall_ms)
        if known.state is TransactionState.ONGOING:
            self._end_with(asked.transactional_id, ended)
        else:
            self._end_nothing(asked, ended, wall_ms)
        self._reply_end(asked, ended)

    def _end_nothing(self, asked: Asked, ended: Transaction, wall_ms: int) -> None:
        """The abort of a producer that does not know whether anything has begun: nothing had, but its epoch is over."""
        assert not ended.partitions, ended
        self._log(asked, ended)
        self._log(asked, ended.completed(wall_ms))

    def _too_early(self, asked: Asked, known: Transaction, is_repeat: bool, is_commit: bool) -> ClusterError:
        """The last end is not carried out yet: asked for again, or already for the next one, which may be that of nothing."""
        successor = Producer(known.next_producer_id, 0)
        if known.has_epoch_of_its_own and not is_repeat and asked.producer in (known.producer, successor):
            return _busy(asked, known)
        if not is_repeat:
            self._check_producer(asked, known, may_be=() if known.has_epoch_of_its_own else None)
        return _busy(asked, known) if known.is_commit is is_commit else _misplaced(asked, known)

    def _end_with(self, transactional_id: str, ended: Transaction) -> None:
        self.journal.log(TransactionRecord(transactional_id, ended))
        self.timers.cancel(_timeout_of(transactional_id))
        self.journal.effect(EndDecided(transactional_id, ended))

    def _reply_end(self, asked: Asked, transaction: Transaction) -> None:
        """With what the producer goes on as, in versions that take it (v5)."""
        producer = transaction.producer
        if transaction.next_producer_id != NO_PRODUCER:
            producer = Producer(transaction.next_producer_id, 0)
        self.journal.reply(
            asked.waiter,
            {"error_code": ErrorCode.none, "producer_id": producer.producer_id, "producer_epoch": producer.epoch},
        )

    def complete(self, asked: Asked, wall_ms: int) -> None:
        """All markers of the end that was decided for this producer are written. Of any other there is nothing to be done."""
        known = self._known.get(asked.transactional_id)
        if known is not None and known.state.is_ending and known.producer == asked.producer:
            self._log(asked, known.completed(wall_ms))
        self.journal.reply(asked.waiter, {})

    # --- telling

    def describe(self, transactional_id: str) -> Body:
        """Of DescribeTransactions. Raises TRANSACTIONAL_ID_NOT_FOUND."""
        known = self._known.get(transactional_id)
        if known is None:
            raise ClusterError(ErrorCode.transactional_id_not_found, f"there is no transactional id {transactional_id!r}")
        topics: dict[str, list[int]] = {}
        for topic, partition in sorted(known.partitions):
            topics.setdefault(topic, []).append(partition)
        return {
            "error_code": ErrorCode.none,
            "transactional_id": transactional_id,
            "transaction_state": known.state.title,
            "transaction_timeout_ms": known.timeout_ms,
            "transaction_start_time_ms": known.start_ms,
            "producer_id": known.producer_id,
            "producer_epoch": known.epoch,
            "topics": [{"topic": topic, "partitions": partitions} for topic, partitions in topics.items()],
        }

    def known(self) -> list[tuple[str, Transaction]]:
        """By transactional id."""
        return sorted(self._known.items(), key=lambda item: item[0])

    # --- time

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        if key == EXPIRY:
            self._expire(now, wall_ms)
            return
        transactional_id = str(key[1])
        known = self._known.get(transactional_id)
        if known is None or known.state is not TransactionState.ONGOING:
            return
        if wall_ms < known.deadline_ms:  # the clock on the wall was put back
            self._watch(transactional_id, known, now, wall_ms)
        else:
            self._abort(transactional_id, known, wall_ms)

    def _watch(self, transactional_id: str, transaction: Transaction, now: float, wall_ms: int) -> None:
        if transaction.state is TransactionState.ONGOING:
            left_ms = max(0, transaction.deadline_ms - wall_ms)
            self.timers.set(_timeout_of(transactional_id), now + left_ms / 1000)

    def _expire(self, now: float, wall_ms: int) -> None:
        config = self._config()
        oldest_ms = wall_ms - config.id_expiration_ms
        doomed = [name for name, one in self._known.items() if one.state.is_idle and one.update_ms <= oldest_ms]
        for transactional_id in doomed[:EXPIRED_MAX]:
            self.journal.log(TransactionRecord(transactional_id, None))
        is_done = len(doomed) <= EXPIRED_MAX
        self.timers.set(EXPIRY, now + (config.expiration_check_interval_ms / 1000 if is_done else BETWEEN_STEPS_S))

    # --- inside

    def _log(self, asked: Asked, transaction: Transaction) -> None:
        self.journal.log(TransactionRecord(asked.transactional_id, transaction))

    def _existing(self, asked: Asked) -> Transaction:
        known = self._known.get(asked.transactional_id)
        if known is None:
            raise ClusterError(ErrorCode.invalid_producer_id_mapping, f"there is no transactional id {asked.transactional_id!r}")
        return known

    def _check_producer(self, asked: Asked, known: Transaction, may_be: Collection[int] | None = None) -> None:
        """Raises INVALID_PRODUCER_ID_MAPPING or PRODUCER_FENCED. `may_be`: epochs, in place of the present one."""
        assert asked.producer is not None
        if asked.producer.producer_id != known.producer_id:
            raise ClusterError(
                ErrorCode.invalid_producer_id_mapping,
                f"transactional id {asked.transactional_id!r} is of producer {known.producer_id}, not of {asked.producer}",
            )
        if asked.producer.epoch not in ((known.epoch,) if may_be is None else may_be):
            raise _fenced(asked, known)


def _may_go_on(expected: Producer, known: Transaction) -> bool:
    """Is it the producer that the id has, or had before its epochs came to an end?"""
    if known is NEW or expected.producer_id == known.producer_id:
        return True
    return expected.producer_id == known.previous_producer_id and expected.epoch >= EPOCH_LAST


def _next_producer(asked: Asked, known: Transaction, spare_id: int | None) -> tuple[Producer, int]:
    """(who goes on with an idle id, the epoch with which he may ask again if he does not hear of it)."""
    expected = asked.producer
    if known is NEW:
        return Producer(_checked_spare(asked, spare_id), 0), NO_EPOCH
    if expected is not None and expected.epoch != known.epoch:
        if expected.epoch == known.last_epoch:
            return known.producer, known.last_epoch  # he asks again
        raise _fenced(asked, known)
    last_epoch = NO_EPOCH if expected is None else known.epoch
    if known.is_exhausted:
        return Producer(_checked_spare(asked, spare_id), 0), last_epoch
    return Producer(known.producer_id, known.epoch + 1), last_epoch


def _is_repeated_end(asked: Asked, known: Transaction, client_version: int) -> bool:
    """Is it asked for an end that was decided already, as far as can be told?

    With an epoch for each transaction the epoch tells: the one before the present is that of the last end. Without it, whoever
    asks when all is complete is taken for one who asks again: this is what KIP-890 was made for.
    """
    assert asked.producer is not None
    if not known.has_epoch_of_its_own:
        return known.state.is_complete and asked.producer == known.producer and client_version < EPOCH_BUMPS_FROM
    if not (known.state.is_ending or known.state.is_complete):
        return False
    if asked.producer.producer_id == known.producer_id:
        return asked.producer.epoch + 1 == known.epoch
    was_last = asked.producer == (known.previous_producer_id, EPOCH_LAST)
    return known.state.is_complete and was_last and known.epoch == 0


def _checked_spare(asked: Asked, spare_id: int | None) -> int:
    if spare_id is None:  # what it was asked for has changed since the caller looked
        raise ClusterError(
            ErrorCode.concurrent_transactions, f"transactional id {asked.transactional_id!r} needs a new producer id by now"
        )
    return spare_id


def _timeout_of(transactional_id: str) -> Key:
    return ("timeout", transactional_id)


def _fenced(asked: Asked, known: Transaction) -> ClusterError:
    return ClusterError(
        ErrorCode.producer_fenced,
        f"transactional id {asked.transactional_id!r} is used by producer {known.producer_id} in epoch {known.epoch}, "
        f"{asked.producer} is shut out",
    )


def _busy(asked: Asked, known: Transaction) -> ClusterError:
    return ClusterError(
        ErrorCode.concurrent_transactions,
        f"the transaction of {asked.transactional_id!r} is {known.state.title}",
    )


def _misplaced(asked: Asked, known: Transaction) -> ClusterError:
    return ClusterError(
        ErrorCode.invalid_txn_state, f"the transaction of {asked.transactional_id!r} cannot end so: it is {known.state.title}"
    )
