"""A topic filled with so many megabytes of 1-KiB records, to be read or carried."""

from tests.bench.contestants import Cluster
from tests.bench.crew import run_clients
from tests.bench.holes import punch
from tests.bench.load.producing import Load, produce
from tests.bench.workloads import Bench
from tests.cluster.leaders import wait_in_sync

TIMEOUT_S = 3_600.0
SYNC_TIMEOUT_S = 120.0
VALUE_BYTES = 1024
PORTION_MB = 4_000


def fill(cluster: Cluster, bench: Bench, topic: str, partitions: int, megabytes: float) -> None:
    load = Load(topic, partitions, VALUE_BYTES, records_max=round(megabytes * 1e6 / VALUE_BYTES))
    run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))], TIMEOUT_S)


def fill_sparsely(cluster: Cluster, bench: Bench, topic: str, partitions: int, megabytes: float) -> None:
    """What is more than a disk may hold leaves holes behind: only the newest records of each partition are kept."""
    while megabytes > PORTION_MB:
        fill(cluster, bench, topic, partitions, PORTION_MB)
        wait_in_sync(cluster.bootstrap_servers, topic, timeout_s=SYNC_TIMEOUT_S)
        punch(cluster.data_dirs(), topic)
        megabytes -= PORTION_MB
    fill(cluster, bench, topic, partitions, megabytes)
