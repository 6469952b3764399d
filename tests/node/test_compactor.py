"""The shell around compaction, with real partitions on a simulated disk and virtual time: whose turn it is, and what follows."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.node.cleaners import InlineCleaner
from quorumlog.node.compactor import SPARED_S, Compactor
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.log import directory_name
from quorumlog.partitions.partition import Partition
from quorumlog.wire.ids import TopicPartition
from tests.node.virtual import LoopClock, run
from tests.partitions.compaction_stage import COMPACT, put, records
from tests.partitions.stage import SETTINGS, Host, state_of
from tests.sim.runners import SlowWorker

Drive = Callable[["Stage"], Any]


class Flusher:
    def __init__(self, stage: "Stage") -> None:
        self._stage = stage

    def mark(self, partition: Partition) -> None:
        self._stage.flush(partition)


class Stage:
    """Some partitions of a node, as `Replicas` would hold them, and the compactor."""

    def __init__(self, **settings: str) -> None:
        self.host = Host(config=COMPACT)
        self.by_id: dict[tuple[UUID, int], Partition] = {}
        self.flusher = Flusher(self)
        self.settings = {
            "log.cleaner.threads": "1",
            "log.cleaner.backoff.ms": "1000",
            "log.cleaner.dedupe.buffer.size": "1048576",
            "log.cleaner.io.buffer.load.factor": "0.9",
            "log.cleaner.io.max.bytes.per.second": "1e300",
        } | {name.replace("_", "."): value for name, value in settings.items()}
        self.fatal: list[BaseException] = []
        self.damaged: list[Partition] = []
        self.tasks = Tasks(self.fatal.append)
        self.pause_s = 0.01
        self.compactor = Compactor(
            self,  # type: ignore[arg-type]
            self.host.store,
            LoopClock(),
            self.tasks,
            make_cleaner=lambda: InlineCleaner(self.host.disk, lambda: self.pause_s),
            make_worker=lambda _: SlowWorker(random.Random(1), lambda: 0.001),
            setting=self.settings.__getitem__,
        )

    def check_damage(self, partition: Partition) -> None:
        self.damaged.append(partition)

    def add(self, number: int, *, values: int, config: TopicConfig = COMPACT) -> Partition:
        topic_id = UUID(int=number)
        partition = Partition.open(
            TopicPartition(f"t{number}", 0), topic_id, node_id=1, disk=self.host.disk, store=self.host.store, config=config,
            settings=SETTINGS, now=0.0, wall_ms=1000,
        )  # fmt: skip
        partition.apply_state(state_of(leader=1, leader_epoch=1, partition_epoch=1, topic_id=topic_id), 0.0)
        self.by_id[topic_id, 0] = partition
        for value in range(values):
            put(partition, [(b"k", b"%d" % value * 20)])
        self.flush(partition)
        return partition

    def flush(self, partition: Partition) -> None:
        self.host.flush(partition)

    async def close(self) -> None:
        await self.compactor.close()
        await self.tasks.close()
        assert not self.fatal


def driven(drive: Drive, **settings: str) -> None:
    async def main() -> None:
        stage = Stage(**settings)
        await drive(stage)
        await stage.close()

    run(main())


def test_dirty_logs_are_compacted_one_after_the_other() -> None:
    """After the first pause, the dirtiest first; what is not compacted by its settings is left alone."""

    async def drive(stage: Stage) -> None:
        ended = []
        stage.compactor.on_done = lambda partition, _: ended.append(partition)  # type: ignore[method-assign]
        deleting = stage.add(1, values=60, config=replace(COMPACT, cleanup_policy="delete"))
        both = [stage.add(number, values=60) for number in (2, 3)]
        whole = [len(records(partition)) for partition in (deleting, *both)]
        assert whole == [60, 60, 60]
        stage.compactor.start()
        await asyncio.sleep(0.9)
        assert ended == []
        await asyncio.sleep(2)
        assert ended[:2] == both
        assert len(records(deleting)) == 60
        assert all(len(records(partition)) < 20 for partition in both)

    driven(drive)


def test_a_request_is_met_at_once() -> None:
    """Nobody waits for the pause to end, and the active segment is closed for it."""

    async def drive(stage: Stage) -> None:
        partition = stage.add(1, values=3, config=replace(COMPACT, min_cleanable_dirty_ratio=1.0))
        stage.compactor.start()
        await asyncio.sleep(0.01)
        partition.apply_config(replace(COMPACT, quorumlog_compaction_request=7))
        stage.compactor.wake()
        await asyncio.sleep(0.5)
        assert partition.compaction.request_met == 7
        assert [record.offset for record in records(partition)] == [2]
        assert stage.compactor.passes == 1

    driven(drive, log_cleaner_backoff_ms="100000")


def test_a_log_that_fails_lets_others_go_first() -> None:
    """And is tried again after a while; a damaged one is reported."""

    async def drive(stage: Stage) -> None:
        broken, damaged, sound = (stage.add(number, values=60) for number in (1, 2, 3))
        directory = directory_name(damaged.tp, damaged.topic_id)
        stage.host.disk.corrupt(f"{directory}/{stage.host.disk.list(directory)[1]}", 70)
        stage.host.disk.fail_next("append", path=directory_name(broken.tp, broken.topic_id))
        stage.compactor.start()
        await asyncio.sleep(5)
        assert len(records(broken)) == 60
        assert stage.damaged == [damaged]
        assert len(records(sound)) < 20
        assert stage.compactor.failures == 2
        await asyncio.sleep(SPARED_S + 5)
        assert len(records(broken)) < 20

    driven(drive)


def test_a_log_that_goes_is_let_go_of_first() -> None:
    """Who deletes it waits until nothing works on it, and nothing is left beside its segments."""

    async def drive(stage: Stage) -> None:
        stage.pause_s = 1.0
        partition = stage.add(1, values=60)
        stage.compactor.start()
        await asyncio.sleep(3.5)
        assert any(runner.partition is partition for runner in stage.compactor._runners)
        del stage.by_id[partition.topic_id, 0]
        partition.retire()
        await stage.compactor.stopped(partition)
        directory = directory_name(partition.tp, partition.topic_id)
        assert not [name for name in stage.host.disk.list(directory) if not name.endswith(".log")]
        partition.delete()
        await asyncio.sleep(10)
        assert stage.compactor.passes == 0

    driven(drive)


def test_another_rate_counts_at_once() -> None:
    """What was begun at a crawl is begun again, and that is no failure."""

    async def drive(stage: Stage) -> None:
        partition = stage.add(1, values=60)
        stage.compactor.start()
        await asyncio.sleep(50)
        assert stage.compactor.passes == 0
        stage.settings["log.cleaner.io.max.bytes.per.second"] = "1e300"
        stage.compactor.wake()
        await asyncio.sleep(1300)
        assert len(records(partition)) < 20
        assert (stage.compactor.passes, stage.compactor.failures) == (1, 0)

    driven(drive, log_cleaner_io_max_bytes_per_second="1")


def test_as_many_logs_at_a_time_as_there_are_threads() -> None:
    """The number may change while the node runs, and with it the memory that each pass gets."""

    async def drive(stage: Stage) -> None:
        stage.pause_s = 1.0
        for number in range(1, 5):
            stage.add(number, values=60)
        stage.compactor.start()
        await asyncio.sleep(2)
        assert [runner.partition is not None for runner in stage.compactor._runners] == [True]
        stage.settings["log.cleaner.threads"] = "3"
        await asyncio.sleep(60)
        assert len(stage.compactor._runners) == 3
        for partition in stage.by_id.values():
            for value in range(60):
                put(partition, [(b"k", b"%d" % value * 20)])
            stage.flush(partition)
        await asyncio.sleep(3)
        assert sum(runner.partition is not None for runner in stage.compactor._runners) == 3
        stage.settings["log.cleaner.threads"] = "0"
        await asyncio.sleep(60)
        assert all(runner.partition is None for runner in stage.compactor._runners)

    driven(drive)
