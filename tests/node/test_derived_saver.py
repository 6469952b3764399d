"""What is derived from a log is saved a while after the log was written, however little that was."""

import asyncio
from typing import Any

from quorumlog.host.ports import StorageError
from quorumlog.node.derived_saver import AT_ONCE_MAX, SAVED_AFTER_S, DerivedSaver
from quorumlog.node.tasks import Tasks
from tests.node.virtual import run


class FakePartition:
    def __init__(self, error: StorageError | None = None) -> None:
        self.saved_at: list[float] = []
        self._error = error

    def save_derived(self) -> None:
        if self._error is not None:
            raise self._error
        self.saved_at.append(asyncio.get_running_loop().time())


def test_a_partition_is_saved_a_while_after_it_was_written() -> None:
    """Once, however often it was, and again after the next write."""

    async def script() -> None:
        partition: Any = FakePartition()
        saver = DerivedSaver(Tasks(lambda _: None))
        for _ in range(10):
            saver.mark(partition)
            await asyncio.sleep(0.1)
        await asyncio.sleep(100.0)
        assert partition.saved_at == [SAVED_AFTER_S]
        saver.mark(partition)
        await asyncio.sleep(100.0)
        assert len(partition.saved_at) == 2
        await saver.close()

    run(script())


def test_many_are_saved_in_turns() -> None:
    """So that nobody waits for all of them."""

    async def script() -> None:
        partitions: list[Any] = [FakePartition() for _ in range(3 * AT_ONCE_MAX)]
        saver = DerivedSaver(Tasks(lambda _: None))
        for partition in partitions:
            saver.mark(partition)
        await asyncio.sleep(SAVED_AFTER_S + 1.0)
        times = [at for partition in partitions for at in partition.saved_at]
        assert len(times) == len(partitions)
        assert max(times.count(at) for at in times) == AT_ONCE_MAX
        await saver.close()

    run(script())


def test_who_is_forgotten_is_not_saved() -> None:
    """It may be gone by then."""

    async def script() -> None:
        partition: Any = FakePartition()
        saver = DerivedSaver(Tasks(lambda _: None))
        saver.mark(partition)
        saver.forget(partition)
        await asyncio.sleep(100.0)
        assert partition.saved_at == []
        await saver.close()

    run(script())


def test_a_store_that_fails_is_told() -> None:
    """The node stops then, as wherever its storage fails."""

    async def script() -> None:
        told: list[BaseException] = []
        partition: Any = FakePartition(StorageError("full"))
        saver = DerivedSaver(Tasks(told.append))
        saver.mark(partition)
        await asyncio.sleep(100.0)
        assert [str(error) for error in told] == ["full"]
        await saver.close()

    run(script())
