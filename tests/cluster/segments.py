"""What lies in the nodes' data directories: the segment files of each replica, and whether they are the same."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from quorumlog.testing import LocalCluster
from quorumlog.wire.batches import BatchHeader, read_header


def segment_files(data_dir: Path, topic: str, partition: int) -> list[Path]:
    """A replica's segments in the order of their offsets; none if it is not here."""
    return sorted(data_dir.glob(f"logs/{topic}-{partition}-*/*.log"))


def log_bytes(data_dir: Path, topic: str, partition: int) -> bytes:
    """All batches of a replica. Where one segment ends and the next begins is each replica's own affair."""
    return b"".join(path.read_bytes() for path in segment_files(data_dir, topic, partition))


def batches(log: bytes) -> Iterator[tuple[BatchHeader, bytes]]:
    position = 0
    while position < len(log):
        header = read_header(log, position)
        yield header, log[position : position + header.size]
        position += header.size


def wait_equal(
    cluster: LocalCluster, topic: str, partitions: Iterable[int], node_ids: Iterable[int] | None = None, timeout_s: float = 10.0
) -> dict[int, bytes]:
    """Wait until the replicas on these nodes (all by default) are the same byte for byte; the bytes of each partition.

    Nobody may produce meanwhile. Retention may have left them different beginnings: then they never become equal.
    """
    wanted = {node.node_id for node in cluster.nodes} if node_ids is None else set(node_ids)
    directories = [node.data_dir for node in cluster.nodes if node.node_id in wanted]
    deadline = time.monotonic() + timeout_s
    return {partition: _wait_equal(directories, topic, partition, deadline) for partition in partitions}


def _wait_equal(directories: list[Path], topic: str, partition: int, deadline: float) -> bytes:
    while True:
        logs = [log_bytes(directory, topic, partition) for directory in directories]
        if all(log == logs[0] for log in logs):
            return logs[0]
        assert time.monotonic() < deadline, f"{topic}-{partition} differs: {[len(log) for log in logs]} bytes"
        time.sleep(0.05)
