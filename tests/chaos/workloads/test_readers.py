"""A reader's history is true whatever its client does, and its last read covers everything or says what is missing."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from quorumlog.checker.history import HistoryWriter, Operation, Poll, read_history

from . import readers
from .consuming import Read
from .readers import Reader
from .record import Record
from .values import name_in, seal


class FakeLog:
    """Two partitions that consumers read from."""

    def __init__(self) -> None:
        self.records: dict[int, list[bytes]] = {0: [], 1: []}
        self.ends_told: dict[int, int] | None = None
        self.connections = 0
        self.failing = 0
        """So many of the next polls raise."""

    def grow(self, count: int) -> None:
        for partition, values in self.records.items():
            values += [seal(f"p{partition}-{len(values) + number}", None, b"body") for number in range(count)]

    def lose_one(self) -> None:
        self.records[0].pop()

    def connect(self) -> "FakeConsumer":
        self.connections += 1
        return FakeConsumer(self)


class FakeConsumer:
    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._positions: dict[int, int] = {}

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._positions = dict(offsets)

    def poll(self, timeout_s: float) -> dict[int, list[Read]]:
        time.sleep(0.001)
        if self._log.failing > 0:
            self._log.failing -= 1
            raise ConnectionError("nobody is there")
        found: dict[int, list[Read]] = {}
        for partition, position in self._positions.items():
            values = self._log.records[partition][position : position + 7]
            if values:
                found[partition] = [(position + index, None, value) for index, value in enumerate(values)]
                self._positions[partition] += len(values)
        return found

    def ends(self, partitions: list[int], timeout_s: float) -> dict[int, int]:
        told = self._log.ends_told
        return {partition: len(self._log.records[partition]) for partition in partitions} if told is None else told

    def close(self) -> None:
        pass


class Stage:
    def __init__(self, path: Path, *, wanders: bool = False) -> None:
        self._path = path
        self.log = FakeLog()
        self._history = HistoryWriter(path)
        self._record = Record(self._history)
        self.reader = Reader(
            "reader", self._record, self.log.connect, topic="orders", partitions=2, wanders=wanders, rng=random.Random(3)
        )

    def read_until(self, condition: Callable[[], bool], change: Callable[[], None], *, finish_s: float = 10.0) -> list[Operation]:
        """The history of a reader that reads until the condition is true, sees the change, and then reads everything again."""
        self.reader.start()
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        change()
        self.reader.finish(time.monotonic() + finish_s)
        self.reader.join(30)
        assert not self.reader.is_alive()
        self._history.close()
        return read_history(self._path)

    @property
    def read_count(self) -> int:
        return self._record.counts.read


def values_in(operations: list[Operation], key: str) -> list[tuple[int, str]]:
    return [
        record for operation in operations for step in operation.steps if isinstance(step, Poll) and step.key == key
        for record in step.records
    ]  # fmt: skip


def nothing() -> None:
    pass


def test_everything_is_read_and_then_read_again(tmp_path: Path) -> None:
    """First as it comes, then from the beginning to the end, which one empty poll proves."""
    stage = Stage(tmp_path / "history")
    stage.log.grow(50)
    operations = stage.read_until(lambda: stage.read_count == 100, nothing)
    once = [(offset, f"p1-{offset}") for offset in range(50)]
    assert values_in(operations, "orders-1") == once + once
    kinds = [operation.kind for operation in operations]
    assert kinds[0] == "assign"
    assert kinds.count("seek") == 1
    assert (operations[-1].kind, operations[-1].steps) == ("poll", ())
    assert (stage.reader.missing, stage.reader.fallen, stage.reader.failure) == ({}, {}, None)


def test_a_client_that_fails_is_replaced_where_it_stood(tmp_path: Path) -> None:
    """Nothing is skipped or read twice, and the checker is not told of a move, so that it would notice."""
    stage = Stage(tmp_path / "history")
    stage.log.grow(50)
    stage.log.failing = 3
    operations = stage.read_until(lambda: stage.read_count == 100, nothing)
    assert stage.log.connections >= 4
    before_last = operations[: [operation.kind for operation in operations].index("seek")]
    assert values_in(before_last, "orders-0") == [(offset, f"p0-{offset}") for offset in range(50)]


def test_wandering_goes_back_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are read again only behind a seek that names their key."""
    monkeypatch.setattr(readers, "WANDER_S", (0.005, 0.02))
    stage = Stage(tmp_path / "history", wanders=True)
    stage.log.grow(50)
    operations = stage.read_until(lambda: stage.read_count > 1_000, nothing)
    assert stage.log.connections > 3
    positions = {"orders-0": 0, "orders-1": 0}
    for operation in operations:
        for key in operation.keys if operation.kind == "seek" else ():
            positions.pop(key, None)
        for step in operation.steps:
            assert isinstance(step, Poll)
            assert positions.get(step.key, step.records[0][0]) == step.records[0][0]
            positions[step.key] = step.records[-1][0] + 1


def test_a_reader_whose_client_failed_just_before_it_wandered_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no client to move then: the next one begins where it wanted to go."""
    monkeypatch.setattr(readers, "WANDER_S", (0.0, 0.0))
    stage = Stage(tmp_path / "history", wanders=True)
    stage.log.grow(50)
    stage.log.failing = 20
    stage.read_until(lambda: stage.log.failing == 0, nothing)
    assert stage.reader.failure is None


def test_an_end_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "history")
    stage.log.grow(10)
    stage.log.ends_told = {0: 10, 1: 12}
    operations = stage.read_until(lambda: stage.read_count == 20, nothing, finish_s=0.3)
    assert stage.reader.missing == {"orders-1": 2}
    assert operations[-1].steps != ()


def test_an_end_that_fell_is_told(tmp_path: Path) -> None:
    """The checker could not know: all that is lost was read before."""
    stage = Stage(tmp_path / "history")
    stage.log.grow(10)
    stage.read_until(lambda: stage.read_count == 20, stage.log.lose_one)
    assert stage.reader.fallen == {"orders-0": "ends at offset 9, was read to 10"}


def test_a_cluster_that_does_not_tell_its_ends(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "history")
    stage.log.ends_told = {}
    stage.read_until(lambda: True, nothing, finish_s=0.1)
    assert isinstance(stage.reader.failure, TimeoutError)


@pytest.mark.parametrize("key", [None, b"key"])
def test_damaged_records_get_another_name(key: bytes | None) -> None:
    """Whichever byte is another, of the name, of the body or of the key."""
    value = seal("p1-7", key, b"some body")
    assert name_in(key, value) == "p1-7"
    for position in range(len(value)):
        changed = bytearray(value)
        changed[position] ^= 1
        assert name_in(key, bytes(changed)).startswith("damaged:")
    assert name_in(b"other", value).startswith("damaged:")
    assert name_in(key, None).startswith("damaged:")
