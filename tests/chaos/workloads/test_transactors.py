"""The history of transactional writers is true whatever becomes of their clients."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quorumlog.checker.history import HistoryWriter, Operation, Outcome, Poll, Send, read_history

from . import transactors
from .producing import REFUSED, Answer, OnAnswer
from .record import Record
from .test_readers import FakeConsumer, FakeLog
from .transacting import Unusable
from .transactors import Transactor


class FakeId:
    """A transactional id: who connects last has it. `commits` is what becomes of commits of who has it, in turn."""

    def __init__(self, *commits: Outcome) -> None:
        self._commits = commits or (Outcome.OK,)
        self.instances: list[FakeClient] = []
        self.refuses = 0
        """So many of the next instances cannot begin."""

    def connect(self) -> "FakeClient":
        if self.refuses > 0:
            self.refuses -= 1
            raise Unusable("nobody answers")
        self.instances.append(FakeClient(self))
        return self.instances[-1]

    def outcome_of(self, client: "FakeClient") -> Outcome:
        if self.instances[-1] is not client:
            return Outcome.UNKNOWN
        return self._commits[sum(one.commits for one in self.instances) % len(self._commits)]


class FakeClient:
    def __init__(self, owner: FakeId) -> None:
        self._owner = owner
        self.commits = self.aborts = self.begun = self.left = 0
        self.fails_records = False

    def begin(self) -> None:
        self.begun += 1

    def send(self, partition: int, value: bytes, answered: OnAnswer) -> None:
        answered(REFUSED if self.fails_records else Answer(Outcome.OK, partition, 100))

    def flush(self) -> None:
        pass

    def commit(self) -> Outcome:
        outcome = self._owner.outcome_of(self)
        self.commits += 1
        return outcome

    def abort(self) -> bool:
        self.aborts += 1
        return True

    def leave(self) -> None:
        self.left += 1


def history_of(
    owner: FakeId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, *, count: int = 12, log: FakeLog | None = None
) -> list[Operation]:
    """Of so many transactions that are all to end in one way."""
    monkeypatch.setattr(transactors, "ENDS", (ends,))
    monkeypatch.setattr(transactors, "PAUSE_S", 0.001)
    path = tmp_path / "history"
    with HistoryWriter(path) as history:
        record = Record(history)
        read_with: Callable[[], FakeConsumer] = (log or FakeLog()).connect
        writer = Transactor(
            "writer",
            record,
            owner.connect,  # type: ignore[arg-type]
            read_with,
            topic="orders",
            partitions=2,
            transactions_per_s=1_000,
            rng=random.Random(5),
        )
        writer.start()
        deadline = time.monotonic() + 30
        while sum(one.begun for one in owner.instances) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        writer.finish(time.monotonic() + 10)
        writer.join(30)
        assert not writer.is_alive()
        assert writer.failure is None
    return [operation for operation in read_history(path) if operation.kind == "txn"]


def outcomes(operations: list[Operation]) -> set[Outcome]:
    return {operation.outcome for operation in operations}


def test_what_commits_is_told_with_its_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over one partition or several, each value once, the commit asked for within the operation; one client does all."""
    owner = FakeId()
    operations = history_of(owner, tmp_path, monkeypatch, "commit")
    sends = [step for operation in operations for step in operation.steps if isinstance(step, Send)]
    assert outcomes(operations) == {Outcome.OK}
    assert len({send.value for send in sends}) == len(sends)
    assert {send.offset for send in sends} == {100}
    assert {send.key for send in sends} == {"orders-0", "orders-1"}
    assert all(operation.ending is not None for operation in operations)
    assert len(owner.instances) == 1


def test_an_abort_has_failed_and_its_client_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ever asked for the commit."""
    owner = FakeId()
    operations = history_of(owner, tmp_path, monkeypatch, "abort")
    assert outcomes(operations) == {Outcome.FAIL}
    assert all(operation.ending is None for operation in operations)
    assert (len(owner.instances), owner.instances[0].commits) == (1, 0)


def test_one_that_is_left_has_failed_and_another_instance_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more at the end, so that nothing stays open."""
    owner = FakeId()
    operations = history_of(owner, tmp_path, monkeypatch, "leave")
    assert outcomes(operations) == {Outcome.FAIL}
    assert len(owner.instances) == len(operations) + 1
    assert all(instance.left == 1 and instance.commits == instance.aborts == 0 for instance in owner.instances)


def test_who_was_shut_out_before_the_commit_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks all the same; the usurper begins the next transaction."""
    owner = FakeId()
    operations = history_of(owner, tmp_path, monkeypatch, "usurp")
    assert outcomes(operations) == {Outcome.FAIL}
    assert all(instance.commits == 1 for instance in owner.instances[:-1])


def test_who_commits_though_shut_out_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the checker will find out whether it did."""
    owner = FakeId()
    monkeypatch.setattr(owner, "outcome_of", lambda _client: Outcome.OK)
    assert outcomes(history_of(owner, tmp_path, monkeypatch, "usurp")) == {Outcome.OK}


def test_nobody_commits_where_no_usurper_could_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps it has shut the first one out, perhaps not."""
    owner = FakeId()
    connect = owner.connect

    def connect_now_and_then() -> FakeClient:
        if owner.instances and not owner.instances[-1].left:
            raise Unusable("nobody answers")
        return connect()

    monkeypatch.setattr(owner, "connect", connect_now_and_then)
    operations = history_of(owner, tmp_path, monkeypatch, "usurp")
    assert outcomes(operations) == {Outcome.FAIL}
    assert all(instance.commits == 0 for instance in owner.instances)


def test_an_unknown_end_brings_another_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which shuts out the one that may still be committing."""
    owner = FakeId(Outcome.OK, Outcome.UNKNOWN)
    operations = history_of(owner, tmp_path, monkeypatch, "commit")
    assert outcomes(operations) == {Outcome.OK, Outcome.UNKNOWN}
    unknown = sum(operation.outcome is Outcome.UNKNOWN for operation in operations)
    assert len(owner.instances) - unknown in (0, 1)


def test_what_a_record_failed_in_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same client goes on."""
    owner = FakeId(Outcome.OK, Outcome.FAIL)
    operations = history_of(owner, tmp_path, monkeypatch, "commit")
    failed = sum(operation.outcome is Outcome.FAIL for operation in operations)
    assert failed > 0
    assert (len(owner.instances), owner.instances[0].aborts) == (1, failed)


def test_a_cluster_that_does_not_answer_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = FakeId()
    owner.refuses = 5
    assert outcomes(history_of(owner, tmp_path, monkeypatch, "commit")) == {Outcome.OK}


def test_what_was_read_within_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where the last read ended, also by another client of the same process."""
    log = FakeLog()
    log.grow(60)
    log.failing = 2
    operations = history_of(FakeId(), tmp_path, monkeypatch, "commit", count=80, log=log)
    polls = [step for operation in operations for step in operation.steps if isinstance(step, Poll)]
    read = [record for poll in polls if poll.key == "orders-1" for record in poll.records]
    assert read == [(offset, f"p1-{offset}") for offset in range(60)]
    assert log.connections == 3
