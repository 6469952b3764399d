"""Every version of every API of transactions is answered in its own shape, whether the coordinator says yes or no; and a golden
script: what a producer and a tool say to them, and hear."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.coordinators.transaction_shard import TransactionShard
from quorumlog.coordinators.transaction_state import Producer
from quorumlog.coordinators.transactions import Asked, EndDecided, TransactionConfig
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.node.api_table import API_TABLE
from quorumlog.node.group_coordinator_replies import Answer, Outcome
from quorumlog.node.transaction_messages import MarkerOrder
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from tests.coordinators.consumer_stage import image_of, topic_id
from tests.node.asking import ask

IMAGE = image_of({"t": 2, "__consumer_offsets": 1})
INIT, ADD, ADD_OFFSETS, END, MARKERS, COMMIT, DESCRIBE, LIST = 22, 24, 25, 26, 27, 28, 65, 66
KEYS = (INIT, ADD, ADD_OFFSETS, END, MARKERS, COMMIT, DESCRIBE, LIST)
ALL = [(key, version) for key in KEYS for version in API_TABLE[key].versions]
WALL_MS = 1_700_000_000_000
PRODUCER_ID = 100
FIRST = Producer(PRODUCER_ID, 0)


class Shell:
    """Coordinators of one shard each that have committed everything at once; or whoever is asked refuses everything."""

    def __init__(self, refusal: ErrorCode | None = None) -> None:
        self.refusal = refusal
        self.shard = TransactionShard(TransactionConfig)
        self.shard.on_loaded(IMAGE, 0.0, WALL_MS)
        self.group_shard = GroupShard(IMAGE, config_of=lambda _: GroupConfig(), new_uuid=lambda: UUID(int=1))
        self.group_shard.on_loaded(IMAGE, 0.0, WALL_MS)
        self.decided: list[EndDecided] = []
        self.orders: list[MarkerOrder] = []
        self.image = IMAGE
        self.clock = SimpleNamespace(now=lambda: 0.0, wall_ms=lambda: WALL_MS)
        self.transactions = self.groups = self.producer_ids = self.markers = self
        self.partition = SimpleNamespace(tp=TopicPartition("__consumer_offsets", 0), guard_for=lambda *_: None)

    # --- of transactions

    async def init_producer(self, transactional_id: str, timeout_ms: int, expected: Producer | None) -> Outcome:
        asked = Asked(1, transactional_id, expected)
        return self._done(lambda: self.shard.init_producer(asked, timeout_ms=timeout_ms, spare_id=PRODUCER_ID, wall_ms=WALL_MS))

    async def add_partitions(
        self, transactional_id: str, producer: Producer, partitions: Collection[TopicPartition], *, only_verify: bool = False
    ) -> Outcome:
        asked = Asked(1, transactional_id, producer)
        if only_verify:
            return self._done(lambda: self.shard.verify_partitions(asked, partitions))
        return self._done(lambda: self.shard.add_partitions(asked, partitions, 0.0, WALL_MS))

    async def end(self, transactional_id: str, producer: Producer, *, is_commit: bool, client_version: int) -> Outcome:
        asked = Asked(1, transactional_id, producer)

        def end() -> Result:
            return self.shard.end(
                asked, is_commit=is_commit, client_version=client_version, spare_id=PRODUCER_ID + 1, wall_ms=WALL_MS
            )

        return self._done(end)

    def served(self) -> "list[Shell]":
        return [self]

    def led_by_us(self, _name: str) -> "Shell":
        if self.refusal is not None:
            raise ClusterError(self.refusal, "no")
        return self

    def look(self) -> None:
        pass

    def ask(self, operation: Callable[[TransactionShard, Waiter], Result], *, logs: bool) -> Answer:
        assert not logs
        answer: Answer = asyncio.get_running_loop().create_future()
        answer.set_result(self._done(lambda: operation(self.shard, 1)))
        return answer

    def complete(self) -> None:
        """All markers are written."""
        for effect in self.decided:
            self.shard.complete(Asked(1, effect.transactional_id, effect.transaction.producer), WALL_MS)
        self.decided.clear()

    # --- of groups, producer ids and markers

    def partition_of(self, _group_id: str) -> int:
        return 0

    async def ask_in_transaction(
        self, _group_id: str, _writer: Any, operation: Callable[[GroupShard, Waiter], Result]
    ) -> Outcome:
        return self._done(lambda: operation(self.group_shard, 1))

    async def take(self, _timeout_s: float) -> int:
        if self.refusal is not None:
            raise ClusterError(self.refusal, "no")
        return PRODUCER_ID

    async def write(self, orders: Sequence[MarkerOrder]) -> list[ErrorCode]:
        self.orders += orders
        return [self.refusal or ErrorCode.none for order in orders for _ in order.targets]

    def _done(self, operation: Callable[[], Result]) -> Outcome:
        try:
            if self.refusal is not None:
                raise ClusterError(self.refusal, "no")
            result = operation()
        except ClusterError as error:
            return error
        self.decided += [effect for effect in result.effects if isinstance(effect, EndDecided)]
        return result.replies[0].body


def request_of(key: int, version: int, producer: Producer = FIRST) -> dict[str, Any]:
    """Of transactional id x, with partitions of topic t."""
    who = {"producer_id": producer.producer_id, "producer_epoch": producer.epoch}
    whose = {"transactional_id": "x", **who}
    topics = [{"name": "t", "partitions": [0, 1]}]
    match key:
        case 22:
            return {"transactional_id": "x", "transaction_timeout_ms": 60_000, "producer_id": -1, "producer_epoch": -1}
        case 24 if version < 4:
            return {f"v3_and_below_{name}": value for name, value in {**whose, "topics": topics}.items()}
        case 24:
            return {"transactions": [{**whose, "verify_only": False, "topics": topics}]}
        case 25:
            return {**whose, "group_id": "g"}
        case 26:
            return {**whose, "committed": True}
        case 27:
            wanted = {**who, "transaction_result": False, "coordinator_epoch": 3, "transaction_version": 2}
            return {"markers": [{**wanted, "topics": [{"name": "t", "partition_indexes": [1, 7]}]}]}
        case 28:
            committed = {"partition_index": 0, "committed_offset": 5, "committed_metadata": "note"}
            return {**whose, "group_id": "g", "topics": [{"name": "t", "partitions": [committed]}]}
        case 65:
            return {"transactional_ids": ["x", "nobody", "x"]}
        case _:
            return {}


def begun(version: int = 5) -> Shell:
    """Transactional id x is in the midst of a transaction on both partitions."""
    shell = Shell()
    assert ask(shell, INIT, version, request_of(INIT, version)).error_code == ErrorCode.none
    assert codes_in(ask(shell, ADD, version, request_of(ADD, version)).as_dict()) == {0}
    return shell


def codes_in(value: Any) -> set[int]:
    if isinstance(value, dict):
        own = {int(code) for name, code in value.items() if name.endswith("error_code")}
        return own.union(*(codes_in(one) for one in value.values()))
    return set().union(*(codes_in(one) for one in value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(("key", "version"), ALL)
def test_every_version_says_yes_in_its_shape(key: int, version: int) -> None:
    shell = begun() if key != INIT else Shell()
    codes = codes_in(ask(shell, key, version, request_of(key, version)).as_dict())
    unknown = {27: {ErrorCode.unknown_topic_or_partition}, 65: {ErrorCode.transactional_id_not_found}}.get(key, set())
    assert codes == {ErrorCode.none} | unknown


@pytest.mark.parametrize(("key", "version"), ALL)
def test_every_version_says_no_in_its_shape(key: int, version: int) -> None:
    codes = codes_in(ask(Shell(ErrorCode.not_coordinator), key, version, request_of(key, version)).as_dict())
    if key == LIST:
        assert codes == {ErrorCode.none}, "the other broker lists them"
    else:
        assert ErrorCode.not_coordinator in codes


@pytest.mark.parametrize(("key", "knowing_from"), [(INIT, 4), (ADD, 2), (ADD_OFFSETS, 2), (END, 2)])
def test_only_who_knows_the_code_hears_that_it_is_fenced(key: int, knowing_from: int) -> None:
    """Older clients know the epoch's code for it, and would stop at the other."""
    for version in API_TABLE[key].versions:
        codes = codes_in(ask(Shell(ErrorCode.producer_fenced), key, version, request_of(key, version)).as_dict())
        expected = ErrorCode.producer_fenced if version >= knowing_from else ErrorCode.invalid_producer_epoch
        assert expected in codes, version


@pytest.mark.parametrize(
    "change",
    [{"transactional_id": ""}, {"producer_id": 5}, {"producer_epoch": 5}],
    ids=str,
)
def test_a_producer_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    answer = ask(Shell(), INIT, 5, request_of(INIT, 5) | change)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (ErrorCode.invalid_request, -1, -1)


def test_one_unknown_partition_keeps_all_out() -> None:
    body = request_of(ADD, 3)
    body["v3_and_below_topics"] = [{"name": "t", "partitions": [0, 9]}]
    (topic,) = ask(begun(), ADD, 3, body).results_by_topic_v3_and_below
    codes = [(one.partition_index, one.partition_error_code) for one in topic.results_by_partition]
    assert codes == [(0, ErrorCode.operation_not_attempted), (9, ErrorCode.unknown_topic_or_partition)]


def test_a_marker_is_ordered_of_the_leaders_and_missed_where_there_is_no_partition() -> None:
    shell = begun()
    (marker,) = ask(shell, MARKERS, 2, request_of(MARKERS, 2)).markers
    codes = [(one.partition_index, one.error_code) for one in marker.topics[0].partitions]
    assert codes == [(1, ErrorCode.none), (7, ErrorCode.unknown_topic_or_partition)]
    (order,) = shell.orders
    assert (order.producer, order.marker.is_commit, order.marker.coordinator_epoch) == (FIRST, False, 3)
    assert order.is_strict
    assert [(one.topic_id, one.partition) for one in order.targets] == [(topic_id("t"), 1)]


def test_a_golden_script() -> None:
    """Two transactions of version 2, each with an epoch of its own; between them and after them, what tools see."""
    shell = Shell()

    def state() -> tuple[str, int, int]:
        (told,) = ask(shell, DESCRIBE, 0, {"transactional_ids": ["x"]}).transaction_states
        return told.transaction_state, told.producer_epoch, sum(len(topic.partitions) for topic in told.topics)

    def listed(**filters: Any) -> list[str]:
        answer = ask(shell, LIST, 2, {"duration_filter": -1, **filters})
        return [one.transaction_state for one in answer.transaction_states]

    def end(producer: Producer, *, committed: bool) -> Any:
        return ask(shell, END, 5, request_of(END, 5, producer) | {"committed": committed})

    started = ask(shell, INIT, 5, request_of(INIT, 5))
    assert (started.producer_id, started.producer_epoch) == (PRODUCER_ID, 0)
    assert state() == ("Empty", 0, 0)
    ask(shell, ADD, 5, request_of(ADD, 5))
    ask(shell, ADD_OFFSETS, 4, request_of(ADD_OFFSETS, 4))
    assert state() == ("Ongoing", 0, 3)
    assert listed(state_filters=["Ongoing"]) == ["Ongoing"]
    assert listed(transactional_id_pattern="y.*") == []

    ended = end(FIRST, committed=True)
    assert (ended.error_code, ended.producer_epoch) == (ErrorCode.none, 1)
    assert state() == ("PrepareCommit", 1, 3)
    assert end(Producer(PRODUCER_ID, 1), committed=True).error_code == ErrorCode.concurrent_transactions
    shell.complete()
    assert state() == ("CompleteCommit", 1, 0)
    assert end(FIRST, committed=True).producer_epoch == 1, "asked for again"
    assert end(FIRST, committed=False).error_code == ErrorCode.invalid_txn_state

    ask(shell, ADD, 5, request_of(ADD, 5, Producer(PRODUCER_ID, 1)))
    late = ask(shell, ADD, 5, request_of(ADD, 5, FIRST))
    assert codes_in(late.as_dict()) == {ErrorCode.none, ErrorCode.producer_fenced}, "of the first transaction"
    second = ask(shell, INIT, 5, request_of(INIT, 5))
    assert second.error_code == ErrorCode.concurrent_transactions, "what the first instance has under way is aborted first"
    assert state()[0] == "PrepareAbort"
    shell.complete()
    assert ask(shell, INIT, 5, request_of(INIT, 5)).producer_epoch == 3
    assert end(Producer(PRODUCER_ID, 1), committed=True).error_code == ErrorCode.producer_fenced
