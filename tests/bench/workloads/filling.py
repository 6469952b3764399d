"""A topic filled with so many megabytes of 1-KiB records, to be read or carried."""

from tests.bench.contestants import Cluster
from tests.bench.crew import run_clients
from tests.bench.load.producing import Load, Sent, produce
from tests.bench.workloads import Bench

TIMEOUT_S = 3_600.0
VALUE_BYTES = 1024


def fill(cluster: Cluster, bench: Bench, topic: str, partitions: int, megabytes: float) -> Sent:
    load = Load(topic, partitions, VALUE_BYTES, records_max=round(megabytes * 1e6 / VALUE_BYTES))
    sent: Sent = run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))], TIMEOUT_S)[0]
    return sent
