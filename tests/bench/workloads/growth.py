"""Does a megabyte cost more in a long log, and with many partitions? And what does a topic cost?

The long log is kept in segments of 8 MiB, so that it has as many of them as one a hundred times as long has of
the usual 1 GiB.
"""

import os
from pathlib import Path
from time import monotonic

from tests.bench.contestants import Cluster, Contestant
from tests.bench.crew import run_clients
from tests.bench.figures import BYTES, PER_S, Figure, S
from tests.bench.load.consuming import Reading, consume
from tests.bench.load.offsets import ends
from tests.bench.load.producing import Load, produce
from tests.bench.meters import Meter
from tests.bench.workloads import Bench
from tests.bench.workloads.costs import compared, cost_figures
from tests.bench.workloads.filling import VALUE_BYTES, fill_sparsely
from tests.bench.workloads.throughput import TIMEOUT_S, warm_up
from tests.bench.workloads.topics import KEPT, PARTITIONS, new_topic
from tests.cluster.raw import RawConnection, eventually

SMALL_SEGMENTS = KEPT | {"segment.bytes": str(8 << 20)}
FEW = 10
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are (stat(2))
READ_MB = 100.0


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    with contestant.fresh() as cluster:
        warm_up(cluster, bench)
        figures = measure_log(cluster, bench)
        return figures + measure_creation(cluster, bench) + measure_partitions(cluster, bench)


def measure_log(cluster: Cluster, bench: Bench) -> list[Figure]:
    """Append to a log and read its end while it is short, and when it is long."""
    short_mb, long_mb = bench.scale.short_mb, bench.scale.long_mb
    topic = new_topic(cluster.bootstrap_servers, config=SMALL_SEGMENTS)
    appended, read = [], []
    for before, megabytes in ((0, short_mb), (short_mb, long_mb)):
        fill_sparsely(cluster, bench, topic, PARTITIONS, megabytes - before)
        name = f"log of {megabytes / 1e3:g} GB"
        appended.append(append_figures(cluster, bench, f"append, {name}", topic, PARTITIONS))
        read.append(read_figures(cluster, bench, f"read, {name}", topic))
    times = f"{long_mb / 1e3:g} GB instead of {short_mb / 1e3:g}"
    ratios = [*compared(f"append, {times}", *appended), *compared(f"read, {times}", *read)]
    return [figure for figures in (*appended, *read, ratios) for figure in figures]


def append_figures(cluster: Cluster, bench: Bench, case: str, topic: str, partitions: int) -> list[Figure]:
    load = Load(topic, partitions, VALUE_BYTES, bench.scale.seconds)
    with Meter(cluster.pids()) as meter:
        sent = run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))], TIMEOUT_S)
    return cost_figures(case, sent, meter)


def read_figures(cluster: Cluster, bench: Bench, case: str, topic: str) -> list[Figure]:
    """The newest records of each partition."""
    count = round(min(READ_MB, bench.scale.short_mb) * 1e6 / VALUE_BYTES / PARTITIONS)
    last = ends(cluster.bootstrap_servers, topic, PARTITIONS)
    reading = Reading(topic, tuple((max(end - count, 0), end) for end in last))
    with Meter(cluster.pids()) as meter:
        read = run_clients(bench.site.cores, [(consume, (cluster.bootstrap_servers, reading))], TIMEOUT_S)
    return cost_figures(case, read, meter)


def measure_creation(cluster: Cluster, bench: Bench) -> list[Figure]:
    """One topic of one partition after the other, each request answered before the next."""
    started = monotonic()
    for _ in range(bench.scale.topics):
        new_topic(cluster.bootstrap_servers, 1, KEPT)
    return [Figure("topics created one by one", "rate", PER_S, bench.scale.topics / (monotonic() - started))]


def measure_partitions(cluster: Cluster, bench: Bench) -> list[Figure]:
    """The same load written evenly to few partitions and to many; what many take to make, on disk and in a client's metadata."""
    many = bench.scale.grown_partitions
    few = append_figures(cluster, bench, f"append, {FEW} partitions", new_topic(cluster.bootstrap_servers, FEW, KEPT), FEW)
    disk, metadata, started = disk_bytes(cluster), metadata_bytes(cluster), monotonic()
    topic = new_topic(cluster.bootstrap_servers, many, KEPT)
    took = monotonic() - started
    case = f"a topic of {many:,} partitions"
    made = [
        Figure(case, "creation", S, took),
        Figure(case, "disk of all nodes, a partition", BYTES, (disk_bytes(cluster) - disk) / many),
        Figure(case, "metadata that a client is sent, a partition", BYTES, _more_metadata(cluster, metadata) / many),
    ]
    grown = append_figures(cluster, bench, f"append, {many:,} partitions", topic, many)
    return [*made, *few, *grown, *compared(f"append, {many:,} partitions instead of {FEW}", few, grown)]


def _more_metadata(cluster: Cluster, before: int) -> int:
    """The node that is asked may hear of the topic a little later than the one that made it."""
    return eventually(lambda: metadata_bytes(cluster) - before or None)


def metadata_bytes(cluster: Cluster) -> int:
    """The size of the answer that tells a client all topics."""
    with RawConnection(cluster.bootstrap_servers.split(",")[0], timeout_s=60) as node:
        node.send("metadata", 12, topics=None)
        return len(node.receive_frame() or b"")


def disk_bytes(cluster: Cluster) -> int:
    """What the files take; what they are long is no measure, for an index may be mostly a hole."""
    os.sync()
    return sum(_blocks(path) for directory in cluster.data_dirs() for path in directory.rglob("*")) * BLOCK_BYTES


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks
    except FileNotFoundError:
        return 0
