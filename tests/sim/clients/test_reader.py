"""What a reader makes of answers, of leaders that move and of logs that are not what they were."""

import asyncio
from typing import Any

import pytest

from quorumlog.checker.history import Operation, Outcome, Poll
from quorumlog.wire.batches import HEADER_SIZE
from quorumlog.wire.catalogue import FETCH
from quorumlog.wire.records import Record, build_batch
from tests.sim.invariants.sight import Violation

from .broker import NOBODY, FakePartition, Scene, run
from .connection import EPOCH_END
from .fetched import Fetched, read_fetched
from .reader import EARLIEST, LATEST, Reader

MAX_WAIT_S = 0.2


def make(scene: Scene, *topics: str, **settings: Any) -> Reader:
    return Reader(scene.client(), topics or ("t",), scene.processes, scene.history.append, max_wait_s=MAX_WAIT_S, **settings)


def batch(*values: str, base_offset: int = 0, epoch: int = 0, **how: Any) -> bytes:
    records = [Record(base_offset + index, 0, None, value.encode()) for index, value in enumerate(values)]
    return build_batch(records, leader_epoch=epoch, **how)


def fill(partition: FakePartition, *values: str) -> None:
    for value in values:
        partition.append(batch(value))


def polled(history: list[Operation], process: int | None = None) -> list[tuple[int, str]]:
    chosen = [operation for operation in history if process is None or operation.process == process]
    return [record for operation in chosen for step in operation.steps if isinstance(step, Poll) for record in step.records]


def test_a_reader_says_what_it_reads_and_then_reads_it() -> None:
    """From the beginning, several partitions, each in order; a poll that brings nothing is no operation."""

    async def main(scene: Scene) -> None:
        for number, partition in enumerate(scene.cluster.create("t", partitions=4).partitions):
            fill(partition, f"a{number}", f"b{number}")
        reader = make(scene)
        while len(polled(scene.history)) < 8:
            await reader.poll()
        before = len(scene.history)
        started = scene.loop.now
        assert await reader.poll() == 0
        assert MAX_WAIT_S <= scene.loop.now - started < 2 * MAX_WAIT_S
        assert len(scene.history) == before
        await reader.close()
        assigned = [operation for operation in scene.history if operation.kind == "assign"]
        assert [operation.keys for operation in assigned] == [("t-0", "t-1", "t-2", "t-3")]
        steps = {step for operation in scene.history for step in operation.steps}
        assert steps == {Poll(f"t-{n}", ((0, f"a{n}"), (1, f"b{n}"))) for n in range(4)}
        assert scene.cluster.requests.count(EPOCH_END) == 0

    run(main)


def test_a_poll_ends_as_soon_as_something_comes() -> None:
    """A long poll is not waited out."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        reader = make(scene)
        while FETCH not in scene.cluster.requests:
            await reader.poll()
        scene.loop.call_later(0.05, fill, partition, "v0")
        started = scene.loop.now
        assert await reader.poll() == 1
        assert 0.05 < scene.loop.now - started < 0.1
        await reader.close()

    run(main)


def test_a_reader_follows_the_leader_and_makes_sure_that_its_last_record_is_there() -> None:
    """A move, a death, a time without a leader."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        reader = make(scene)
        fill(partition, "v0")
        await _read(reader, scene, 1)
        scene.cluster.move(partition, 2)
        fill(partition, "v1")
        await _read(reader, scene, 2)
        assert scene.cluster.requests.count(EPOCH_END) == 1
        scene.cluster.kill(2, successor=3)
        fill(partition, "v2")
        await _read(reader, scene, 3)
        scene.cluster.move(partition, NOBODY)
        await reader.poll()
        scene.cluster.move(partition, 1)
        fill(partition, "v3")
        await _read(reader, scene, 4)
        await reader.close()
        assert polled(scene.history) == [(number, f"v{number}") for number in range(4)]
        assert len({operation.process for operation in scene.history}) == 1

    run(main)


async def _read(reader: Reader, scene: Scene, count: int) -> None:
    async with asyncio.timeout(10):
        while len(polled(scene.history)) < count:
            await reader.poll()


def test_a_new_leader_without_what_was_read_is_found_out() -> None:
    """Its log ends before the record that this reader has read."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        fill(partition, "v0", "v1")
        reader = make(scene)
        await _read(reader, scene, 2)
        del partition.batches[1:]
        scene.cluster.move(partition, 2)
        for _ in range(10):
            await reader.poll()
        assert {error.name for error in scene.errors if isinstance(error, Violation)} == {"client: truncation"}
        await reader.close()

    run(main)


@pytest.mark.parametrize(("reset", "goes_on_at"), [(EARLIEST, 3), (LATEST, 5)])
def test_where_records_were_deleted_another_process_goes_on(reset: int, goes_on_at: int) -> None:
    """As told, at the earliest or at the end."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        fill(partition, "v0")
        reader = make(scene, reset=reset)
        await _read(reader, scene, 1)
        await reader.poll()
        fill(partition, "v1", "v2", "v3", "v4")
        partition.start = 3
        del partition.batches[:3]
        for _ in range(5):
            await reader.poll()
        fill(partition, "v5")
        await _read(reader, scene, 7 - goes_on_at)
        await reader.close()
        assert polled(scene.history, process=0) == [(0, "v0")]
        assert polled(scene.history, process=1) == [(n, f"v{n}") for n in range(goes_on_at, 6)]
        invoked = [operation.invoked for operation in scene.history if operation.process == 1]
        assert invoked == sorted(invoked)
        assert scene.history[1 + 1].kind == "assign"

    run(main)


def test_where_the_log_has_become_shorter_the_same_process_goes_on() -> None:
    """So that the checker sees it go backwards."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        fill(partition, "v0", "v1", "v2")
        reader = make(scene)
        await _read(reader, scene, 3)
        partition.lose_all()
        fill(partition, "other")
        await _read(reader, scene, 4)
        await reader.close()
        assert polled(scene.history, process=0) == [(0, "v0"), (1, "v1"), (2, "v2"), (0, "other")]

    run(main)


def test_starting_over_is_a_new_process_that_reads_everything_again() -> None:
    """What was fetched for the old one is dropped."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        fill(partition, "v0", "v1")
        reader = make(scene)
        await _read(reader, scene, 2)
        fill(partition, "v2")
        reader.start_over()
        await _read(reader, scene, 5)
        await reader.close()
        assert polled(scene.history, process=0) == [(0, "v0"), (1, "v1")]
        assert polled(scene.history, process=1) == [(n, f"v{n}") for n in range(3)]

    run(main)


def test_partitions_that_come_later_are_taken_over() -> None:
    """Of a topic that grows, and of one that was not there."""

    async def main(scene: Scene) -> None:
        scene.cluster.create("t")
        reader = make(scene, "t", "later")
        await reader.poll()
        fill(scene.cluster.create("later").partitions[0], "v0")
        await _read(reader, scene, 1)
        await reader.close()
        assert [operation.keys for operation in scene.history if operation.kind == "assign"] == [("t-0",), ("t-0", "later-0")]

    run(main)


def test_reading_to_the_end_says_that_there_is_nothing_more() -> None:
    """A new process, everything, and then an empty poll of each partition, empty ones too."""

    async def main(scene: Scene) -> None:
        first, _ = scene.cluster.create("t", partitions=2).partitions
        fill(first, *(f"v{number}" for number in range(30)))
        reader = make(scene, partition_bytes_max=200)
        await reader.poll()
        await reader.read_to_end({"t": 2})
        assert reader.describe() == "client, process 1, is at the end: t-0 at 30, t-1 at 0"
        await reader.close()
        assert polled(scene.history, process=1) == [(n, f"v{n}") for n in range(30)]
        last = scene.history[-1]
        assert (last.process, last.outcome, last.steps) == (1, Outcome.OK, (Poll("t-0"), Poll("t-1")))
        assert len(scene.history) > 5

    run(main)


def test_fetched_batches_are_read_from_the_wanted_offset_on() -> None:
    """A batch comes whole; control batches are passed over."""
    data = (
        batch("v0", "v1")
        + batch("marker", base_offset=2, is_control=True, is_transactional=True)
        + batch("v3", base_offset=3, epoch=2)
    )
    read = read_fetched("t-0", data, offset=1, epoch=0, high_watermark=4)
    assert read == Fetched([(1, "v1"), (3, "v3")], next_offset=4, epoch=2)


def _broken(data: bytes) -> bytes:
    return data[: HEADER_SIZE + 2] + bytes([data[HEADER_SIZE + 2] ^ 1]) + data[HEADER_SIZE + 3 :]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (_broken(batch("v5", base_offset=5)), "fetched bytes"),
        (batch("v5", base_offset=5)[:-1], "fetched bytes"),
        (b"\0" * 10, "fetched bytes"),
        (batch("v4", base_offset=4), "fetched order"),
        (batch("v5", base_offset=5) + batch("v5", base_offset=5), "fetched order"),
        (batch("v5", base_offset=5, epoch=2), "fetched epochs"),
        (batch(*"abcdef", base_offset=5, epoch=3), "fetched too early"),
    ],
)
def test_bytes_that_should_not_have_been_served_are_violations(data: bytes, name: str) -> None:
    """Damaged, cut, out of place, of an older epoch, not committed yet."""
    with pytest.raises(Violation, match=f"client: {name}"):
        read_fetched("t-0", data, offset=5, epoch=3 if name == "fetched epochs" else -1, high_watermark=10)
