"""What the coordinator of transactions decides: who may begin, who is shut out, how a transaction ends, and what time does."""

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from quorumlog.coordinators.results import Body, LogRecord, Result
from quorumlog.coordinators.transaction_records import TransactionRecord, decode_transaction, encode_transaction
from quorumlog.coordinators.transaction_shard import TransactionShard
from quorumlog.coordinators.transaction_state import EPOCH_LAST, EPOCH_MAX, Producer, Transaction, TransactionState
from quorumlog.coordinators.transactions import Asked, EndDecided, TransactionConfig
from quorumlog.metadata.image import Image
from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

A, B, C = (TopicPartition("t", number) for number in range(3))
TIMEOUT_MS = 60_000
WALL_MS = 1_700_000_000_000
CONFIG = TransactionConfig(timeout_max_ms=900_000, id_expiration_ms=1_000_000, expiration_check_interval_ms=100_000)
IMAGE = Image("c")
V1, V2 = 0, 2  # the version of a client's EndTxn


class Desk:
    """A shard, and its log. Time passes by `now`, seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[LogRecord] = []
        self.effects: list[EndDecided] = []
        self.next_id = 100
        self.shard = TransactionShard(lambda: CONFIG)
        self._take(self.shard.on_loaded(IMAGE, self.now, self.wall_ms))

    @property
    def wall_ms(self) -> int:
        return WALL_MS + int(self.now * 1000)

    def reload(self) -> None:
        """Another coordinator, from the log alone."""
        self.shard = TransactionShard(lambda: CONFIG)
        for record in self.log:
            self.shard.replay(record.key, record.value)
        self._take(self.shard.on_loaded(IMAGE, self.now, self.wall_ms))

    def spare_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def init(self, expected: Producer | None = None, *, timeout_ms: int = TIMEOUT_MS, name: str = "x") -> Producer:
        asked = Asked(1, name, expected)
        spare_id = self.spare_id() if self.shard.needs_producer_id_to_begin(asked) else None
        body = self._ask(self.shard.init_producer(asked, timeout_ms=timeout_ms, spare_id=spare_id, wall_ms=self.wall_ms))
        return Producer(body["producer_id"], body["producer_epoch"])

    def add(self, producer: Producer, *partitions: TopicPartition, name: str = "x") -> None:
        self._ask(self.shard.add_partitions(Asked(1, name, producer), partitions, self.now, self.wall_ms))

    def verify(self, producer: Producer, *partitions: TopicPartition) -> list[ErrorCode]:
        return list(self._ask(self.shard.verify_partitions(Asked(1, "x", producer), partitions))["codes"].values())

    def end(self, producer: Producer, *, commit: bool = True, version: int = V2, name: str = "x") -> Producer:
        asked = Asked(1, name, producer)
        spare_id = self.spare_id() if self.shard.needs_producer_id_to_end(asked, version) else None
        body = self._ask(self.shard.end(asked, is_commit=commit, client_version=version, spare_id=spare_id, wall_ms=self.wall_ms))
        return Producer(body["producer_id"], body["producer_epoch"])

    def complete(self) -> None:
        """The markers of all that was decided are written."""
        while self.effects:
            effect = self.effects.pop(0)
            self._ask(self.shard.complete(Asked(1, effect.transactional_id, effect.transaction.producer), self.wall_ms))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._take(self.shard.tick(self.now, self.wall_ms))

    def state(self, name: str = "x") -> TransactionState | None:
        return next((one.state for known, one in self.shard.known() if known == name), None)

    def known(self, name: str = "x") -> Transaction:
        return next(one for known, one in self.shard.known() if known == name)

    def seed(self, transaction: Transaction) -> None:
        """A log that says so."""
        self.log.append(encode_transaction(TransactionRecord("x", transaction)))
        self.reload()

    def _ask(self, result: Result) -> Body:
        self._take(result)
        (reply,) = result.replies
        if code := reply.body.get("error_code", 0):
            raise ClusterError(ErrorCode(code), "refused")
        return reply.body

    def _take(self, result: Result) -> None:
        self.log += result.records
        self.effects += result.effects


def refused(action: Any, *args: Any, **options: Any) -> ErrorCode:
    with pytest.raises(ClusterError) as caught:
        action(*args, **options)
    return caught.value.code


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- beginning


def test_a_new_id_gets_a_producer_id_and_each_new_producer_the_next_epoch(desk: Desk) -> None:
    """And whoever had the epoch before is shut out."""
    first = desk.init()
    assert first == (101, 0)
    second = desk.init()
    assert second == (101, 1)
    assert refused(desk.add, first, A) is ErrorCode.producer_fenced
    desk.add(second, A)


def test_what_the_last_producer_has_under_way_is_aborted_first(desk: Desk) -> None:
    """The new one asks again until that is done; the old one is shut out at once, also by the new coordinator."""
    old = desk.init()
    desk.add(old, A, B)
    assert refused(desk.init) is ErrorCode.concurrent_transactions
    (effect,) = desk.effects
    assert (effect.transaction.state, effect.transaction.producer) == (TransactionState.PREPARE_ABORT, (101, 1))
    assert effect.transaction.partitions == {A, B}
    assert refused(desk.init) is ErrorCode.concurrent_transactions
    for commit in (True, False):
        assert refused(desk.end, old, commit=commit) is ErrorCode.producer_fenced
    desk.effects.clear()
    desk.reload()
    desk.complete()
    assert desk.state() is TransactionState.COMPLETE_ABORT
    for commit in (True, False):
        assert refused(desk.end, old, commit=commit) is ErrorCode.producer_fenced
    assert desk.init() == (101, 2)


def test_a_producer_that_goes_on_after_an_error_names_itself(desk: Desk) -> None:
    """It may ask twice; one that was shut out, or never was, may not (KIP-360)."""
    first = desk.init()
    second = desk.init(first)
    assert second == (101, 1)
    assert desk.init(first) == second, "the answer was lost"
    assert refused(desk.init, Producer(101, 5)) is ErrorCode.producer_fenced
    assert refused(desk.init, Producer(999, 1)) is ErrorCode.producer_fenced
    desk.add(second, A)
    assert refused(desk.init, first) is ErrorCode.producer_fenced, "a zombie aborts nobody's transaction"
    assert desk.state() is TransactionState.ONGOING


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_timeouts_are_bounded(desk: Desk, timeout_ms: int) -> None:
    assert refused(desk.init, timeout_ms=timeout_ms) is ErrorCode.invalid_transaction_timeout
    assert desk.log == []


def test_an_id_whose_epochs_are_used_up_gets_another_producer_id(desk: Desk) -> None:
    """The greatest epoch is never given out: it is there to shut out the last one."""
    desk.seed(Transaction(50, EPOCH_LAST, TIMEOUT_MS))
    last = Producer(50, EPOCH_LAST)
    desk.add(last, A)
    assert refused(desk.init) is ErrorCode.concurrent_transactions
    assert desk.effects[0].transaction.epoch == EPOCH_MAX
    desk.complete()
    fresh = desk.init()
    assert fresh == (101, 0)
    assert refused(desk.add, last, A) is ErrorCode.invalid_producer_id_mapping


def test_a_producer_with_the_last_epoch_may_ask_twice_too(desk: Desk) -> None:
    """It then goes by an id that it does not know of yet."""
    desk.seed(Transaction(50, EPOCH_LAST, TIMEOUT_MS))
    last = Producer(50, EPOCH_LAST)
    fresh = desk.init(last)
    assert fresh == (101, 0)
    assert desk.init(last) == fresh


# --- partitions


def test_partitions_that_are_known_are_not_logged_again(desk: Desk) -> None:
    producer = desk.init()
    desk.add(producer, A)
    logged = len(desk.log)
    desk.add(producer, A)
    assert len(desk.log) == logged
    desk.add(producer, A, B)
    assert desk.known().partitions == {A, B}


def test_nobody_adds_to_what_is_not_his(desk: Desk) -> None:
    producer = desk.init()
    assert refused(desk.add, producer, A, name="other") is ErrorCode.invalid_producer_id_mapping
    assert refused(desk.add, Producer(7, 0), A) is ErrorCode.invalid_producer_id_mapping
    assert refused(desk.add, Producer(101, 1), A) is ErrorCode.producer_fenced
    desk.add(producer, A)
    desk.end(producer, version=V1)
    assert refused(desk.add, producer, B) is ErrorCode.concurrent_transactions


def test_leaders_are_told_what_takes_part(desk: Desk) -> None:
    """Only while the transaction is under way."""
    producer = desk.init()
    assert desk.verify(producer, A) == [ErrorCode.transaction_abortable]
    desk.add(producer, A)
    assert desk.verify(producer, A, B) == [ErrorCode.none, ErrorCode.transaction_abortable]
    assert refused(desk.verify, Producer(101, 1), A) is ErrorCode.producer_fenced
    desk.end(producer, version=V1)
    assert refused(desk.verify, producer, A) is ErrorCode.concurrent_transactions
    desk.complete()
    assert desk.verify(producer, A) == [ErrorCode.transaction_abortable]


def test_a_transaction_of_too_many_partitions_is_refused_before_anything_changes(desk: Desk) -> None:
    producer = desk.init()
    desk.shard.limit_records(200)
    many = [TopicPartition("some-topic", number) for number in range(100)]
    assert refused(desk.add, producer, *many) is ErrorCode.unknown_server_error
    assert desk.state() is TransactionState.EMPTY


# --- ending


@pytest.mark.parametrize("commit", [True, False])
def test_each_transaction_of_version_2_has_its_epoch(desk: Desk, commit: bool) -> None:
    """The markers have the next one, and so has the producer; who asks again gets the same answer."""
    producer = desk.init()
    desk.add(producer, A)
    bumped = desk.end(producer, commit=commit)
    assert bumped == (101, 1)
    assert desk.effects[0].transaction.producer == bumped
    assert desk.effects[0].transaction.has_epoch_of_its_own
    assert refused(desk.end, producer, commit=commit) is ErrorCode.concurrent_transactions
    assert refused(desk.end, producer, commit=not commit) is ErrorCode.invalid_txn_state
    desk.complete()
    assert desk.end(producer, commit=commit) == bumped
    assert refused(desk.end, producer, commit=not commit) is ErrorCode.invalid_txn_state
    desk.add(bumped, A)
    assert refused(desk.end, producer, commit=commit) is ErrorCode.producer_fenced, "too late: the next one is under way"


def test_transactions_of_version_1_keep_their_epoch(desk: Desk) -> None:
    """So an end that is asked for again cannot be told from the next one's; that is what version 2 is for."""
    producer = desk.init()
    desk.add(producer, A)
    assert desk.end(producer, version=V1) == producer
    assert refused(desk.end, producer, version=V1) is ErrorCode.concurrent_transactions
    desk.complete()
    assert desk.end(producer, version=V1) == producer
    assert refused(desk.end, producer, commit=False, version=V1) is ErrorCode.invalid_txn_state


def test_nothing_begun_is_nothing_to_commit(desk: Desk) -> None:
    """But a producer of version 2 that does not know may abort it, for the price of an epoch."""
    producer = desk.init()
    assert refused(desk.end, producer) is ErrorCode.invalid_txn_state
    assert refused(desk.end, producer, commit=False, version=V1) is ErrorCode.invalid_txn_state
    second = desk.end(producer, commit=False)
    assert (second, desk.state(), desk.effects) == ((101, 1), TransactionState.COMPLETE_ABORT, [])
    third = desk.end(second, commit=False)
    assert third == (101, 2)
    assert desk.end(second, commit=False) == third, "asked again"
    assert refused(desk.end, third) is ErrorCode.invalid_txn_state


def test_the_next_transaction_ends_no_sooner_than_the_last_one(desk: Desk) -> None:
    """Java aborts what it has sent nothing of yet at once; also under the producer id that it gets with the last end."""
    producer = desk.init()
    desk.add(producer, A)
    second = desk.end(producer)
    for commit in (False, True):
        assert refused(desk.end, second, commit=commit) is ErrorCode.concurrent_transactions
    assert refused(desk.end, Producer(101, 5), commit=False) is ErrorCode.producer_fenced
    desk.complete()
    assert desk.end(second, commit=False) == (101, 2)
    desk.seed(Transaction(50, EPOCH_LAST, TIMEOUT_MS))
    last = Producer(50, EPOCH_LAST)
    desk.add(last, A)
    fresh = desk.end(last)
    assert refused(desk.end, fresh, commit=False) is ErrorCode.concurrent_transactions


def test_the_last_epoch_ends_with_another_producer_id(desk: Desk) -> None:
    """The markers go by the old id; who asks again gets the new one."""
    desk.seed(Transaction(50, EPOCH_LAST, TIMEOUT_MS))
    last = Producer(50, EPOCH_LAST)
    desk.add(last, A)
    fresh = desk.end(last)
    assert fresh == (101, 0)
    assert desk.effects[0].transaction.producer == (50, EPOCH_MAX)
    assert refused(desk.add, fresh, A) is ErrorCode.concurrent_transactions, "not unknown: it will be known in a moment"
    desk.complete()
    assert desk.end(last) == fresh
    desk.reload()
    assert desk.end(last) == fresh
    desk.add(fresh, A)


def test_only_the_end_that_was_decided_is_completed(desk: Desk) -> None:
    """Word of markers that comes late, or twice, ends no later transaction."""
    producer = desk.init()
    desk.add(producer, A)
    second = desk.end(producer)
    (late,) = desk.effects
    desk.complete()
    desk.add(second, A)
    desk.end(second)
    desk._ask(desk.shard.complete(Asked(1, "x", late.transaction.producer), desk.wall_ms))
    assert desk.state() is TransactionState.PREPARE_COMMIT


def test_the_next_coordinator_carries_out_what_was_decided(desk: Desk) -> None:
    producer = desk.init()
    desk.add(producer, A, B)
    desk.end(producer)
    desk.effects.clear()
    desk.reload()
    (effect,) = desk.effects
    assert (effect.transactional_id, effect.transaction.is_commit) == ("x", True)
    assert effect.transaction.partitions == {A, B}
    desk.complete()
    assert desk.state() is TransactionState.COMPLETE_COMMIT
    desk.reload()
    assert desk.effects == []


# --- time


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_shut_out(desk: Desk) -> None:
    """Counted from its first partition, also by another coordinator."""
    producer = desk.init(timeout_ms=10_000)
    desk.sleep(30)
    desk.add(producer, A)
    desk.sleep(6)
    desk.reload()
    desk.add(producer, B)
    desk.sleep(3.9)
    assert desk.state() is TransactionState.ONGOING
    desk.sleep(0.2)
    assert desk.state() is TransactionState.PREPARE_ABORT
    assert refused(desk.end, producer) is ErrorCode.producer_fenced
    desk.complete()
    assert refused(desk.add, producer, A) is ErrorCode.producer_fenced
    assert refused(desk.init, producer) is ErrorCode.producer_fenced
    assert desk.init() == (101, 2)


def test_what_has_ended_in_time_is_left_alone(desk: Desk) -> None:
    producer = desk.init(timeout_ms=10_000)
    desk.add(producer, A)
    desk.end(producer)
    desk.sleep(20)
    assert desk.state() is TransactionState.PREPARE_COMMIT


def test_ids_that_nobody_uses_are_forgotten(desk: Desk) -> None:
    """Not while a transaction is under way, whatever time it may take."""
    producer = desk.init()
    busy = desk.init(name="busy", timeout_ms=900_000)
    desk.sleep(999)
    desk.add(busy, A, name="busy")
    desk.sleep(150)
    assert (desk.state(), desk.state("busy")) == (None, TransactionState.ONGOING)
    assert decode_transaction(desk.log[-1].key, desk.log[-1].value) is not None
    assert desk.log[-1].value is None
    assert refused(desk.add, producer, A) is ErrorCode.invalid_producer_id_mapping
    assert desk.init() == (103, 0)


# --- telling, and the log


def test_a_transaction_is_described(desk: Desk) -> None:
    producer = desk.init()
    desk.add(producer, B, A)
    told = desk.shard.describe("x")
    assert (told["transaction_state"], told["producer_id"], told["producer_epoch"]) == ("Ongoing", 101, 0)
    assert told["topics"] == [{"topic": "t", "partitions": [0, 1]}]
    assert (told["transaction_start_time_ms"], told["transaction_timeout_ms"]) == (WALL_MS, TIMEOUT_MS)
    assert refused(desk.shard.describe, "y") is ErrorCode.transactional_id_not_found


def test_its_log_holds_nothing_of_transactions_themselves(desk: Desk) -> None:
    for replay in (lambda: desk.shard.replay_for(1, b"", None), lambda: desk.shard.replay_end(1, is_commit=True)):
        with pytest.raises(CorruptRecord):
            replay()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["init", "init", "again", "add", "add", "end", "end", "complete", "reload", "sleep"]),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_is_asked_a_shard_is_its_log_and_one_producer_has_the_say(steps: list[tuple[str, int, bool]]) -> None:
    """Of all producers that were ever given out, only the newest gets through; an end that was decided stays."""
    desk, given_out, decided = Desk(), [Producer(0, 0)], {}  # type: tuple[Desk, list[Producer], dict[Producer, bool]]
    for action, number, flag in steps:
        who = given_out[-1 - number % len(given_out)]
        try:
            match action:
                case "init":
                    given_out.append(desk.init())
                case "again":
                    given_out.append(desk.init(who))
                case "add":
                    desk.add(who, (A, B, C)[number % 3])
                    assert who == given_out[-1], (who, given_out)
                case "end":
                    given_out.append(desk.end(who, commit=flag, version=V2))
                    assert decided.setdefault(who, flag) is flag, "one transaction, two ends"
                case "complete":
                    desk.complete()
                case "reload":
                    desk.effects.clear()
                    desk.reload()
                case "sleep":
                    desk.sleep(70)
        except ClusterError as error:
            assert error.code in EXPECTED, error
        check_log(desk)


EXPECTED = {
    ErrorCode.producer_fenced,
    ErrorCode.concurrent_transactions,
    ErrorCode.invalid_producer_id_mapping,
    ErrorCode.invalid_txn_state,
}


def check_log(desk: Desk) -> None:
    replayed = TransactionShard(lambda: CONFIG)
    for record in desk.log:
        replayed.replay(record.key, record.value)
    assert replayed.known() == [(name, replace(one, last_epoch=-1)) for name, one in desk.shard.known()]
