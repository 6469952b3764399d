"""Compares the replicas of stopped nodes, batch by batch and byte by byte, with the readers that a node has; changes nothing.

Where one segment ends and the next begins, and how far retention has come, is each replica's own affair.
"""

import itertools
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from quorumlog.host.disk import RealDisk
from quorumlog.host.ports import Disk, KVStore
from quorumlog.host.store import RocksStore
from quorumlog.node.storage import STORE_DIRECTORY
from quorumlog.partitions.keys import Keys, read_checkpoint, read_compaction
from quorumlog.partitions.log import LOGS_DIRECTORY, parse_directory_name
from quorumlog.partitions.scan import DamagedBatch, walk
from quorumlog.partitions.segment import Segment, base_offset_of

PartitionKey = tuple[str, str]
"""Topic and partition for the reader, and the directory's name, which holds the topic id."""


@dataclass(frozen=True, slots=True)
class Batch:
    base_offset: int
    next_offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Replica:
    """One partition on one node: what its store says, and where its segments are."""

    node_id: int
    high_watermark: int
    disk: Disk
    directory: str
    is_compacted: bool = False  # it was, here or at the leader whom it copied

    def batches(self) -> Iterator[Batch]:
        """From the beginning to the end of the log, each with its CRC checked. Raises DamagedBatch."""
        offset, leader_epoch = None, -1
        for base_offset in sorted(self._base_offsets()):
            segment = Segment(self.disk, self.directory, base_offset, created_ms=0)
            with closing(segment.file):
                segment.size = segment.file.size()
                if offset not in (None, base_offset):
                    raise DamagedBatch(segment, 0, offset or 0, f"the segment before it ends at offset {offset}")
                offset = base_offset
                for found in walk(segment, position=0, offset=base_offset, leader_epoch=leader_epoch, verify=True):
                    offset, leader_epoch = found.header.next_offset, found.header.leader_epoch
                    yield Batch(found.header.base_offset, offset, segment.read(found.position, found.header.size))

    def _base_offsets(self) -> list[int]:
        names = (base_offset_of(name) for name in self.disk.list(self.directory))
        return [base_offset for base_offset in names if base_offset is not None]


def compare(data_dirs: Mapping[int, Path], *, in_sync: bool = False, replicas_of: Mapping[str, int] | None = None) -> list[str]:
    """What is wrong with the replicas in the data directories (by node id) of nodes that do not run; empty if nothing is.

    Below the smallest high watermark of its replicas a partition must be the same on all of them. With `in_sync` each was in
    sync when its node stopped, and must be the same up to the largest. `replicas_of`: how many replicas each partition of a
    topic must have here. Raises StorageError if a node runs or its store cannot be opened.
    """
    with ExitStack() as stack:
        partitions = _partitions(data_dirs, stack)
        complaints = []
        for (name, _), replicas in sorted(partitions.items()):
            wanted = (replicas_of or {}).get(name.rpartition("-")[0], len(replicas))
            if len(replicas) != wanted:
                here = [replica.node_id for replica in replicas]
                complaints.append(f"{name}: {wanted} replicas wanted, there is one on each of the nodes {here}")
            if any(replica.is_compacted for replica in replicas):
                continue  # each has compacted at its own time: equal in what they say, not in their bytes
            marks = [replica.high_watermark for replica in replicas]
            complaints += _differences(name, replicas, max(marks) if in_sync else min(marks))
        return complaints


def _partitions(data_dirs: Mapping[int, Path], stack: ExitStack) -> dict[PartitionKey, list[Replica]]:
    found: defaultdict[PartitionKey, list[Replica]] = defaultdict(list)
    for node_id, data_dir in sorted(data_dirs.items()):
        disk = stack.enter_context(closing(RealDisk(data_dir)))
        store = _copy_of_store(data_dir, stack)
        for directory in disk.list(LOGS_DIRECTORY):
            owner = parse_directory_name(directory)
            if owner is None:
                continue
            keys = Keys(owner[1], owner[0].partition)
            checkpoint = read_checkpoint(store, keys)
            is_compacted = read_compaction(store, keys).has_gaps
            high_watermark = checkpoint.high_watermark if checkpoint else 0
            replica = Replica(node_id, high_watermark, disk, f"{LOGS_DIRECTORY}/{directory}", is_compacted)
            found[str(owner[0]), directory].append(replica)
    return found


def _copy_of_store(data_dir: Path, stack: ExitStack) -> KVStore:
    """RocksDB replays its log and writes tables when it is opened: that may happen to a copy."""
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quorumlog-store-"))) / STORE_DIRECTORY
    shutil.copytree(data_dir / STORE_DIRECTORY, copy)
    return stack.enter_context(closing(RocksStore(str(copy))))


def _differences(name: str, replicas: list[Replica], end: int) -> list[str]:
    """Compare from where the log begins that begins last, so that all have what it has."""
    complaints: list[str] = []
    logs = {replica.node_id: _Reading(name, replica, end, complaints) for replica in replicas}
    start = max(log.base_offset for log in logs.values())
    for log in logs.values():
        log.skip_to(start)
    while True:
        heads = {node_id: log.head for node_id, log in logs.items() if not log.is_broken}
        if all(head is None for head in heads.values()):
            return complaints
        for one, other in itertools.pairwise(heads):
            if heads[one] != heads[other]:
                complaints.append(f"{name}: node {one} has {_told(heads[one])}, node {other} has {_told(heads[other])}")
                return complaints
        for node_id in heads:
            logs[node_id].advance()


class _Reading:
    """One replica, read batch by batch up to an offset. What is wrong with it alone goes to the complaints."""

    def __init__(self, name: str, replica: Replica, end: int, complaints: list[str]) -> None:
        self._name = f"{name} on node {replica.node_id}"
        self._batches = replica.batches()
        self._end = end
        self._reached = 0
        self._complaints = complaints
        self.is_broken = False
        self.head: Batch | None = None
        self.advance()

    @property
    def base_offset(self) -> int:
        """Where the batch begins that is up next; the end if there is none."""
        return self._end if self.head is None else self.head.base_offset

    def skip_to(self, offset: int) -> None:
        while self.head is not None and self.head.base_offset < offset:
            self.advance()

    def advance(self) -> None:
        """Go on to the next batch below the end; `head` is None behind the last one."""
        if self._reached >= self._end:
            self.head = None
            return
        try:
            self.head = next(self._batches, None)
        except DamagedBatch as error:
            self._give_up(f"damaged at {error.reason}")
            return
        if self.head is None:
            self._give_up(f"the log ends at offset {self._reached}, below {self._end}, which is committed")
        elif self.head.base_offset >= self._end:  # retention has come further than the others have read
            self.head = None
        else:
            self._reached = self.head.next_offset

    def _give_up(self, reason: str) -> None:
        self.head, self.is_broken = None, True
        self._complaints.append(f"{self._name}: {reason}")


def _told(batch: Batch | None) -> str:
    if batch is None:
        return "no more"
    header, body = batch.data[:16].hex(" ", 4), len(batch.data)
    return f"the batch {batch.base_offset} to {batch.next_offset - 1} of {body} bytes, which begins {header}"
