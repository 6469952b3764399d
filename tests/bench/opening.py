"""How long a node takes to open what is on its disk: many partitions of many segments, after a clean stop and after `kill -9`.

The logs are made here, with the production code: each segment begins with sound batches and is then stretched by a hole to its
size, as a sparse file. Rolled segments are believed by what the store says of them, so nothing ever reads the holes.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import click
from rich.progress import track

from quorumlog.host.disk import RealDisk
from quorumlog.host.store import RocksStore
from quorumlog.metadata.image import PartitionState
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.node.storage import open_storage
from quorumlog.partitions.partition import Partition, PartitionSettings
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.records import Record, build_batch
from tests.partitions.stage import flush_round

NODE, WALL_MS = 1, 1_700_000_000_000
CONFIG = TopicConfig(segment_bytes=1 << 30)
BATCH = build_batch([Record(offset, WALL_MS, b"key", b"x" * 1000) for offset in range(20)])


class Stored:
    """A node's disk and store, and what is on them."""

    def __init__(self, disk: RealDisk, store: RocksStore, partitions: int) -> None:
        self._disk = disk
        self._store = store
        self._count = partitions

    def open_all(self) -> list[Partition]:
        return [self._open(number) for number in range(self._count)]

    def _open(self, number: int) -> Partition:
        return Partition.open(
            TopicPartition("stored", number),
            UUID(int=1),
            node_id=NODE,
            disk=self._disk,
            store=self._store,
            config=CONFIG,
            settings=PartitionSettings(),
            now=0.0,
            wall_ms=WALL_MS,
        )

    def fill(self, number: int, segments: int, segment_bytes: int) -> None:
        """One partition, closed."""
        partition = self._open(number)
        self.lead(partition)
        for _ in range(segments):
            self.append(partition, 1)
            active = partition._log.active
            os.truncate(Path(self._disk.root) / active.path, segment_bytes)
            active.size = segment_bytes
            partition._log.roll(WALL_MS)
        partition.close()

    def lead(self, partition: Partition) -> None:
        epoch = partition.leader_epoch + 1
        state = PartitionState(UUID(int=1), partition.tp.partition, (NODE,), (NODE,), (), NODE, epoch, epoch)
        partition.apply_state(state, 0.0)

    def append(self, partition: Partition, batches: int) -> None:
        for _ in range(batches):
            partition.append(BATCH, acks=1, now=0.0, wall_ms=WALL_MS)

    def flush(self, partition: Partition) -> None:
        flush_round(partition, self._store)


@contextmanager
def stored(directory: Path, partitions: int, *, create: bool = False) -> Iterator[Stored]:
    with open_storage(str(directory), create=create) as (disk, store):
        yield Stored(disk, store, partitions)


@click.command("opening")
@click.option("--gigabytes", default=50.0)
@click.option("--partitions", default=1_000)
@click.option("--segments", default=5, help="Of each partition.")
@click.option("--tail-batches", default=20, help="20-KB batches that no snapshot covers, in each partition, when it is killed.")
def command(gigabytes: float, partitions: int, segments: int, tail_batches: int) -> None:
    """The time in which one node opens so many gigabytes of (sparse) segments."""
    with tempfile.TemporaryDirectory(prefix="quorumlog-opening-") as place:
        directory = Path(place) / "node"
        with stored(directory, partitions, create=True) as node:
            segment_bytes = int(gigabytes * 1e9 / partitions / segments)
            for number in track(range(partitions), "making logs", transient=True):
                node.fill(number, segments, segment_bytes)
        with stored(directory, partitions) as node:
            opened, seconds = _timed(node)
            _tell("after a clean stop", opened, seconds)
            for partition in track(opened, "writing their ends", transient=True):
                node.lead(partition)
                node.append(partition, tail_batches)
                node.flush(partition)
            # As kill -9 leaves it: nothing is closed, no last snapshot is written.
        with stored(directory, partitions) as node:
            _tell("after kill -9", *_timed(node))


def _timed(node: Stored) -> tuple[list[Partition], float]:
    started = time.perf_counter()
    opened = node.open_all()
    return opened, time.perf_counter() - started


def _tell(case: str, opened: list[Partition], seconds: float) -> None:
    size = sum(partition.size for partition in opened) / 1e9
    read = sum(partition.recovery.scanned_bytes for partition in opened) / 1e6
    assert not any(partition.damage for partition in opened)
    click.echo(f"{case}: {size:.1f} GB in {len(opened)} partitions opened in {seconds:.2f} s, {read:.0f} MB of them read")
