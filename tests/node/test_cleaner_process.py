"""The process that compacts, with a real directory: what comes of it, and how it ends."""

import asyncio
import os
import random
from io import BytesIO
from pathlib import Path

import pytest

from quorumlog.host.disk import RealDisk
from quorumlog.host.worker import ThreadWorker
from quorumlog.node.cleaner_frames import Closed, done_of, job_head, job_of, read_frame, tell, write_frame
from quorumlog.node.cleaner_link import ProcessCleaner
from quorumlog.node.cleaners import CleaningFailed
from quorumlog.partitions.aborted import AbortedTransaction
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog, CleaningJob, ProducerEnd, Source
from quorumlog.partitions.compaction import Cleaning
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.scan import DamagedBatch
from tests.partitions.compaction_stage import close_segment, put, records, with_config
from tests.partitions.stage import Host
from tests.sim.store import SimStore


def stage(path: Path) -> tuple[Host, Partition]:
    host = Host(config=with_config(segment_bytes=4096))
    host.disk = RealDisk(path, create=True)  # type: ignore[assignment]
    host.store = SimStore(random.Random(1))
    partition = host.leader()
    for i in range(200):
        put(partition, [(b"k%d" % (i % 7), b"%d" % i)], producer_id=3, producer_epoch=0, base_sequence=i)
    close_segment(partition, host)
    return host, partition


def begun(partition: Partition, map_bytes: int = 1 << 20) -> Cleaning:
    return partition.begin_cleaning(1000, map_bytes=map_bytes, map_load=0.9)


def test_it_compacts_as_the_node_itself_would(tmp_path: Path) -> None:
    """Groups come one by one and are swapped in meanwhile; the process takes the next job, too, until it is stopped."""
    host, partition = stage(tmp_path)

    async def main() -> None:
        cleaner = ProcessCleaner(str(tmp_path), ThreadWorker("test"))
        for _ in range(2):
            cleaning = begun(partition)
            cleaner.begin(cleaning.job, bytes_per_s=1e300)
            while not isinstance(done := await cleaner.next(), CleanedLog):
                finish = partition.swap_in(cleaning, done)
                assert finish is not None
                finish()
            partition.end_cleaning(cleaning, done, 1000)
        pid = cleaner.pid
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        await cleaner.close()
        assert cleaner.pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(main())
    assert [record.value for record in records(partition)] == [b"%d" % i for i in range(193, 200)]
    partition.close()
    again = host.open()
    assert again.recovery.clean
    assert len(records(again)) == 7
    host.disk.close()  # type: ignore[attr-defined]


def test_it_says_what_is_damaged_and_never_makes_a_segment_that_is_gone(tmp_path: Path) -> None:
    """The node decides about both."""
    host, partition = stage(tmp_path)
    names = host.segment_names()
    path = tmp_path / host.directory / names[1]
    with open(path, "r+b") as file:
        file.seek(70)
        file.write(b"\xff\xff")

    async def main() -> None:
        cleaner = ProcessCleaner(str(tmp_path), ThreadWorker("test"))
        cleaning = begun(partition)
        cleaner.begin(cleaning.job, bytes_per_s=1e300)
        with pytest.raises(DamagedBatch) as met:
            await cleaner.next()
        assert met.value.segment.base_offset == int(names[1][:20])
        assert partition.cleaning_met_damage(cleaning, met.value)
        path.unlink()
        cleaner.begin(cleaning.job, bytes_per_s=1e300)
        with pytest.raises(CleaningFailed, match="is gone"):
            await cleaner.next()
        assert not path.exists()
        await cleaner.close()

    asyncio.run(main())
    host.disk.close()  # type: ignore[attr-defined]


def test_a_stop_in_the_middle_ends_it(tmp_path: Path) -> None:
    """However slowly it was told to work, and whoever waits for it."""
    host, partition = stage(tmp_path)

    async def main() -> None:
        cleaner = ProcessCleaner(str(tmp_path), ThreadWorker("test"))
        cleaner.begin(begun(partition).job, bytes_per_s=1.0)
        waiting = asyncio.create_task(cleaner.next())
        while cleaner.pid is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await cleaner.stop()
        with pytest.raises(CleaningFailed):
            await waiting
        with pytest.raises(CleaningFailed):
            await cleaner.next()
        await cleaner.close()

    asyncio.run(main())
    host.disk.close()  # type: ignore[attr-defined]


def test_frames_carry_blocks_and_numbers_as_they_are() -> None:
    """What one end writes the other reads."""
    group = CleanedGroup(5, 9, 100, -1, 7, ((5, b"abc"), (6, b""), (8, b"\x00")), (6,), True)
    log = CleanedLog(9, 1, 2, 3, 4)
    pipe = BytesIO()
    for done in (group, log):
        tell(lambda head, rest: write_frame(pipe, head, rest), done)
    job = CleaningJob(
        directory="d",
        sources=(Source(0, 5, 10, 1),),
        first_dirty=2,
        has_gaps=True,
        now_ms=1,
        delete_retention_ms=2,
        segment_bytes=3,
        index_interval_bytes=4,
        decompressed_bytes_max=5,
        map_bytes=6,
        map_load=0.9,
        epoch_starts=(0, 3),
        producers=(ProducerEnd(7, 1, 4),),
        aborted=(AbortedTransaction(1, 2, 3, 0),),
    )
    write_frame(pipe, job_head(job, 2.5))
    pipe.seek(0)
    assert [done_of(*read_frame(pipe)) for _ in range(2)] == [group, log]
    assert job_of(read_frame(pipe)[0]) == job
    with pytest.raises(Closed):
        read_frame(pipe)
