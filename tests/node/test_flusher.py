"""Rounds of fsync."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from quorumlog.host.ports import StorageError, WriteBatch
from quorumlog.host.worker import ThreadWorker
from quorumlog.node.flusher import CHECKPOINT_INTERVAL_S, STORE_SYNC_INTERVAL_S, Flusher
from quorumlog.node.tasks import Tasks
from tests.sim.clock import SimClock


class FakeStore:
    def __init__(self, events: list[str]) -> None:
        self._events = events

    def write(self, batch: WriteBatch) -> None:
        self._events.append("write")

    def sync(self) -> None:
        self._events.append("sync store")


class FakeDisk:
    """`gate` holds its syncs back."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage

    def sync_all(self, files: list[str], _directories: list[str]) -> None:
        assert files
        assert threading.current_thread().name.startswith("flusher")
        assert self._stage.gate.wait(5)
        if self._stage.error is not None:
            raise self._stage.error
        self._stage.events.append(f"sync {' '.join(files)}")


class FakeFlush:
    """One partition's part of a round."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self._stage, self._name = stage, name
        self.disk, self.files, self.directories, self.store = FakeDisk(stage), [name], list[str](), None

    def checkpoint(self, batch: WriteBatch) -> None:
        self._stage.events.append(f"checkpoint {self._name}")
        batch.put(self._name.encode(), b"")


class FakePartition:
    def __init__(self, stage: "Stage", name: str) -> None:
        self._stage, self.name = stage, name
        self.dirty = True

    def begin_flush(self) -> FakeFlush | None:
        self._stage.events.append(f"begin {self.name}")
        return FakeFlush(self._stage, self.name) if self.dirty else None

    def end_flush(self, _flush: FakeFlush) -> bool:
        self._stage.events.append(f"end {self.name}")
        return True


class Stage:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.fatal: list[BaseException] = []
        self.error: StorageError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.clock = SimClock()
        self.flushed: Callable[[Any, bool], None] = lambda _partition, _moved: None
        store: Any = FakeStore(self.events)
        self.flusher = Flusher(store, self.clock, ThreadWorker("flusher"), Tasks(self.fatal.append), on_flushed=self._on_flushed)

    def _on_flushed(self, partition: Any, moved: bool) -> None:
        self.events.append(f"tell {partition.name} {moved}")
        self.flushed(partition, moved)

    async def idle(self) -> None:
        """No round runs."""
        if self.flusher._task is not None:
            await asyncio.wait({self.flusher._task})

    def partition(self, name: str) -> Any:
        return FakePartition(self, name)


def play(script: Callable[[Stage], Any]) -> None:
    async def main() -> None:
        await script(Stage())

    asyncio.run(main())


def test_one_round_serves_all_who_are_dirty() -> None:
    """Every file is synced before any checkpoint may speak of it, one write for all, and then each is told."""

    async def script(stage: Stage) -> None:
        a, b = stage.partition("a"), stage.partition("b")
        for partition in (a, b, a):
            stage.flusher.mark(partition)
        await stage.flusher.close()
        assert stage.events == [
            *("begin a", "begin b"),
            *("sync a b", "checkpoint a", "checkpoint b", "write"),
            *("end a", "tell a True", "end b", "tell b True"),
        ]
        assert (stage.flusher.rounds, stage.flusher.files_synced) == (1, 2)

    play(script)


def test_what_becomes_dirty_meanwhile_is_for_the_next_round() -> None:
    """Its bytes may have come too late for the sync that runs."""

    async def script(stage: Stage) -> None:
        a, b = stage.partition("a"), stage.partition("b")
        stage.gate.clear()
        stage.flusher.mark(a)
        await asyncio.sleep(0)
        stage.flusher.mark(a)
        stage.flusher.mark(b)
        stage.gate.set()
        await stage.flusher.close()
        assert [event for event in stage.events if event.startswith(("begin", "tell"))] == [
            *("begin a", "tell a True"),
            *("begin a", "begin b", "tell a True", "tell b True"),
        ]
        assert stage.flusher.rounds == 2

    play(script)


def test_what_is_told_may_make_dirty_again() -> None:
    """A partition that is marked while it hears of its round gets another."""

    async def script(stage: Stage) -> None:
        a = stage.partition("a")

        def once_more(partition: Any, _moved: bool) -> None:
            stage.flushed = lambda _partition, _again: None
            stage.flusher.mark(partition)

        stage.flushed = once_more
        stage.flusher.mark(a)
        await stage.flusher.close()
        assert stage.events.count("tell a True") == 2

    play(script)


def test_whoever_is_forgotten_is_not_begun() -> None:
    """And once the round that runs is over, nobody holds its files any more."""

    async def script(stage: Stage) -> None:
        a, b = stage.partition("a"), stage.partition("b")
        stage.gate.clear()
        stage.flusher.mark(a)
        await asyncio.sleep(0)
        stage.flusher.mark(b)
        stage.flusher.forget(b)
        over = asyncio.create_task(stage.flusher.round_over())
        await asyncio.sleep(0.01)
        assert not over.done()
        stage.gate.set()
        await over
        assert "sync a" in stage.events
        await stage.flusher.close()
        assert "begin b" not in stage.events
        await stage.flusher.round_over()

    play(script)


def test_nothing_to_sync_is_no_round_of_the_disk() -> None:
    """A partition that was synced by others meanwhile costs nothing."""

    async def script(stage: Stage) -> None:
        a = stage.partition("a")
        a.dirty = False
        stage.flusher.mark(a)
        await stage.flusher.close()
        assert stage.events == ["begin a"]

    play(script)


def test_checkpoints_are_written_now_and_then() -> None:
    """One write tells of all partitions that were flushed since the last, by the newest flush of each."""

    async def script(stage: Stage) -> None:
        a, b = stage.partition("a"), stage.partition("b")
        for partition in (a, a, b):
            stage.flusher.mark(partition)
            await stage.idle()
        assert [event for event in stage.events if "checkpoint" in event] == ["checkpoint a"]
        stage.clock.advance(CHECKPOINT_INTERVAL_S)
        stage.events.clear()
        stage.flusher.mark(b)
        await stage.flusher.close()
        assert stage.events == ["begin b", "sync b", "checkpoint a", "checkpoint b", "write", "end b", "tell b True"]

    play(script)


def test_what_is_written_last_has_a_checkpoint_soon() -> None:
    """Though nothing becomes dirty any more."""

    async def script(stage: Stage) -> None:
        a = stage.partition("a")
        for _ in range(2):
            stage.flusher.mark(a)
            await stage.idle()
        stage.clock.advance(CHECKPOINT_INTERVAL_S)
        stage.events.clear()
        await asyncio.sleep(3 * CHECKPOINT_INTERVAL_S)
        await stage.flusher.close()
        assert stage.events == ["checkpoint a", "write"]

    play(script)


def test_nothing_is_written_of_whoever_is_forgotten() -> None:
    """The topic may have been made anew, and a checkpoint would vouch for records of the old one."""

    async def script(stage: Stage) -> None:
        a, b = stage.partition("a"), stage.partition("b")
        for partition in (a, b, a):
            stage.flusher.mark(partition)
            await stage.idle()
        stage.events.clear()
        stage.flusher.forget(a)
        stage.clock.advance(CHECKPOINT_INTERVAL_S)
        stage.flusher.mark(b)
        await stage.flusher.close()
        assert [event for event in stage.events if "checkpoint" in event] == ["checkpoint b"]

    play(script)


def test_the_store_is_synced_now_and_then() -> None:
    """So that a power cut takes no more than a second of checkpoints."""

    async def script(stage: Stage) -> None:
        for _ in range(3):
            stage.flusher.mark(stage.partition("a"))
            await stage.idle()
            stage.clock.advance(STORE_SYNC_INTERVAL_S * 0.6)
        await stage.flusher.close()
        assert stage.events.count("sync store") == 1

    play(script)


def test_a_sync_that_fails_ends_the_node() -> None:
    """Nobody knows what the disk holds then: nothing is told, nothing is written."""

    async def script(stage: Stage) -> None:
        stage.error = StorageError("no more disk")
        stage.flusher.mark(stage.partition("a"))
        await stage.idle()
        await asyncio.sleep(0)
        assert [str(error) for error in stage.fatal] == ["no more disk"]
        assert stage.events == ["begin a"]
        await stage.flusher.close()

    play(script)
