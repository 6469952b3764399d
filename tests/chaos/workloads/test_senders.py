"""A sender's history is true whatever its client does: answer, refuse, fall silent, break, or answer too late."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorumlog.checker.history import HistoryWriter, Operation, Outcome, Send, read_history

from . import senders
from .pieces import Piece
from .producing import Answer, OnAnswer, outcome_of
from .record import Marks, Record, Sent
from .senders import Sender
from .values import name_in

Script = Callable[[int], Answer | None]
"""What becomes of a client's record with this number; None is silence."""


class FakeProducer:
    """Answers within `poll`, as its script says."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._handed: list[OnAnswer] = []
        self._answered = 0
        self.values: list[bytes] = []
        self.is_closed = False

    def send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        self.values.append(value)
        self._handed.append(answered)

    def poll(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, 0.001))
        while self._answered < len(self._handed):
            answer = self._script(self._answered)
            self._answered += 1
            if answer is not None:
                self._handed[self._answered - 1](answer)

    def close(self, timeout_s: float) -> None:
        self.is_closed = True


class Stage:
    """Clients of one sender with two processes, each with a script; a sender that runs out of clients cannot connect."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self._path = path
        self._history = HistoryWriter(path)
        self.record = Record(self._history, timed=["orders-3"])
        self.clients: list[FakeProducer] = []
        self._scripts = iter(scripts)
        self.sender = Sender(
            "sender",
            self.record,
            self._connect,
            topic="orders",
            pieces=[pieces(), pieces()],
            records_per_s=20_000,
            rng=random.Random(1),
        )

    def _connect(self) -> FakeProducer:
        try:
            self.clients.append(FakeProducer(next(self._scripts)))
        except StopIteration:
            raise ConnectionError("nobody is there") from None
        return self.clients[-1]

    def run_until(self, condition: Callable[[], bool], *, finish_s: float = 10.0) -> list[Operation]:
        """The history of a run that ends when the condition is true."""
        self.sender.start()
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        self.sender.finish(time.monotonic() + finish_s)
        self.sender.join(30)
        self._history.close()
        assert not self.sender.is_alive()
        assert self.sender.failure is None
        assert all(client.is_closed for client in self.clients)
        return read_history(self._path)


def pieces() -> Iterator[Piece]:
    while True:
        yield Piece(0, None, b"body", is_placed=True)


def stored(number: int) -> Answer:
    return Answer(Outcome.OK, 0, number)


def sends_of(operations: list[Operation]) -> list[tuple[Outcome, Send]]:
    return [(operation.outcome, step) for operation in operations for step in operation.steps if isinstance(step, Send)]


def test_each_record_is_told_with_its_outcome(tmp_path: Path) -> None:
    """Of a batch with several outcomes each record keeps its own, in the order of sending."""
    answers = [Answer(Outcome.OK, 0, 5), Answer(Outcome.UNKNOWN), Answer(Outcome.FAIL)]
    stage = Stage(tmp_path / "history", lambda number: answers[number % 3])
    operations = stage.run_until(lambda: stage.record.counts.sent > 100)
    found = {step.value: outcome for outcome, step in sends_of(operations)}
    names = [name_in(None, value) for value in stage.clients[0].values]
    assert found == {name: answers[number % 3].outcome for number, name in enumerate(names)}
    counts = stage.record.counts
    assert counts.sent == counts.acknowledged + counts.unknown + counts.failed == len(names)
    assert all(operation.completed is not None for operation in operations)


def test_the_partition_of_an_answer_is_the_one_that_counts(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "history", lambda number: Answer(Outcome.OK, 3, number))
    operations = stage.run_until(lambda: stage.record.counts.acknowledged > 0)
    assert {step.key for _, step in sends_of(operations)} == {"orders-3"}
    assert stage.record.acks.keys() == ["orders-3"]


def test_only_timed_keys_are_timed(tmp_path: Path) -> None:
    """Where processes wait for several keys at once, the silence of one tells nothing about it."""
    stage = Stage(tmp_path / "history", stored)
    stage.run_until(lambda: stage.record.counts.acknowledged > 0)
    assert stage.record.acks.keys() == []


@pytest.mark.parametrize("answer", [Answer(Outcome.UNKNOWN, is_fatal=True), Answer(Outcome.FAIL)])
def test_a_client_that_is_of_no_use_is_replaced(tmp_path: Path, answer: Answer) -> None:
    """At once after a fatal error, after a few batches that brought nothing otherwise; and the next one goes on."""
    stage = Stage(tmp_path / "history", lambda _: answer, stored)
    stage.run_until(lambda: stage.record.counts.acknowledged > 0)
    assert len(stage.clients) == 2
    assert stage.sender.unanswered == 0


def test_a_silent_client_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not answer is unknown and never completes; other processes and another client take over."""
    monkeypatch.setattr(senders, "OVERDUE_S", 0.05)
    stage = Stage(tmp_path / "history", lambda _: None, stored)
    operations = stage.run_until(lambda: stage.record.counts.acknowledged > 0)
    silent = [operation for operation in operations if operation.completed is None]
    assert {operation.outcome for operation in silent} == {Outcome.UNKNOWN}
    assert sum(len(operation.steps) for operation in silent) == stage.record.counts.unknown > 0
    assert stage.sender.unanswered == 0, "those that were under way at the end, and there were none"
    heard = {operation.process for operation in operations if operation.completed is not None}
    assert heard.isdisjoint({operation.process for operation in silent})


def test_the_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Of a batch that is half answered at the end, the half that is known is kept."""
    stage = Stage(tmp_path / "history", lambda number: stored(number) if number == 0 else None)
    operations = stage.run_until(lambda: bool(stage.clients and len(stage.clients[0].values) > 2), finish_s=0.0)
    assert [outcome for outcome, _ in sends_of(operations)].count(Outcome.OK) == 1
    assert stage.record.counts.unknown == stage.sender.unanswered > 0


def test_a_client_that_blocks_gets_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each record of a batch could cost the time that a client waits for metadata."""
    monkeypatch.setattr(senders, "HANDOVER_S", 0.0)
    stage = Stage(tmp_path / "history", stored)
    operations = stage.run_until(lambda: stage.record.counts.acknowledged > 10)
    assert {len(operation.steps) for operation in operations} == {1}
    assert stage.record.counts.sent == len(stage.clients[0].values)


def test_nobody_to_connect_to(tmp_path: Path) -> None:
    """Nothing is sent, and the end comes all the same."""
    stage = Stage(tmp_path / "history")
    assert stage.run_until(lambda: True) == []


@pytest.mark.parametrize(
    ("code", "idempotent", "outcome"),
    [
        (19, False, Outcome.FAIL),  # NOT_ENOUGH_REPLICAS
        (19, True, Outcome.UNKNOWN),  # an attempt before it may have stored the record
        (20, False, Outcome.UNKNOWN),  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
        (6, False, Outcome.UNKNOWN),  # NOT_LEADER_OR_FOLLOWER
        (7, False, Outcome.UNKNOWN),  # REQUEST_TIMED_OUT
        (-192, False, Outcome.UNKNOWN),  # librdkafka's _MSG_TIMED_OUT
    ],
)
def test_only_a_refusal_before_the_append_is_a_failure(code: int, idempotent: bool, outcome: Outcome) -> None:
    assert outcome_of(code, idempotent=idempotent) is outcome


def test_silences() -> None:
    """The longest time without an acknowledgment between two moments, up to either of them."""
    marks = Marks()
    for now in (1.0, 1.01, 3.0, 7.0):
        marks.add("orders-0", now)
    assert marks.times("orders-0") == [1.0, 3.0, 7.0]
    assert marks.silence("orders-0", 0.0, 8.0) == 4.0
    assert marks.silence("orders-0", 0.0, 6.5) == 3.5
    assert marks.silence("orders-0", 3.5, 4.0) == 0.5
    assert marks.silence("orders-1", 0.0, 2.0) == 2.0


def test_an_operation_is_true_of_each_of_its_records(tmp_path: Path) -> None:
    """Records in a row with one outcome are told together."""
    outcomes = [Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.OK]
    with HistoryWriter(tmp_path / "history") as history:
        Record(history).sent(4, 1.0, 2.0, [Sent(Send("orders-0", f"v{index}"), one) for index, one in enumerate(outcomes)])
    told = [(operation.outcome, len(operation.steps)) for operation in read_history(tmp_path / "history")]
    assert told == [(Outcome.OK, 2), (Outcome.UNKNOWN, 1), (Outcome.OK, 1)]
