"""Records per second with acks=all: of 1 KiB and 100 bytes, of one producer and of four, and real order lines by key."""

from tests.bench.contestants import Cluster, Contestant
from tests.bench.crew import run_clients
from tests.bench.figures import CPU_MS_MB, CPU_S_M, MB_S, MIB, RECORDS, RECORDS_S, Figure
from tests.bench.load.offsets import starts
from tests.bench.load.producing import Load, Sent, produce
from tests.bench.meters import Meter, resident_mib
from tests.bench.workloads import Bench
from tests.bench.workloads.topics import PARTITIONS, new_topic

TIMEOUT_S = 180.0
ONE_KIB = "1 KiB, one producer"
LONG = 4  # times the length of the others: past the first rolls of segments, and past the first round of retention

# Bytes of a value (0: real order lines), producers, length.
CASES = {
    ONE_KIB: (1024, 1, LONG),
    "1 KiB, four producers": (1024, 4, 1),
    "100 B, one producer": (100, 1, 1),
    "order lines by key": (0, 1, 1),
}


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    with contestant.fresh() as cluster:
        figures = [Figure("after the start", "resident memory", MIB, resident_mib(cluster.pids()))]
        warm_up(cluster, bench)
        for case, (value_bytes, producers, length) in CASES.items():
            seconds = length * bench.scale.seconds
            figures += measure_case(cluster, bench, case, value_bytes=value_bytes, producers=producers, seconds=seconds)
        return figures


def warm_up(cluster: Cluster, bench: Bench) -> None:
    """Compilers, connections and caches come to rest: what is produced here does not count."""
    topic = new_topic(cluster.bootstrap_servers)
    for value_bytes in (1024, 100):
        load = Load(topic, PARTITIONS, value_bytes, bench.scale.warm_up_s / 2)
        run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))], TIMEOUT_S)


def measure_case(cluster: Cluster, bench: Bench, case: str, *, value_bytes: int, producers: int, seconds: float) -> list[Figure]:
    topic = new_topic(cluster.bootstrap_servers)
    load = Load(topic, PARTITIONS, value_bytes, seconds, lines=bench.lines)
    with Meter(cluster.pids()) as meter:
        sent = run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))] * producers, TIMEOUT_S)
    removed = sum(starts(cluster.bootstrap_servers, topic, PARTITIONS))
    return [*figures_of(case, sent, meter), Figure(case, "removed by retention meanwhile", RECORDS, removed)]


def figures_of(case: str, sent: list[Sent], meter: Meter) -> list[Figure]:
    """From the first record of the first producer to the last acknowledgment of the last one."""
    seconds = max(each.ended for each in sent) - min(each.started for each in sent)
    records, megabytes = sum(each.records for each in sent), sum(each.payload_bytes for each in sent) / 1e6
    return [
        Figure(case, "rate", RECORDS_S, records / seconds),
        Figure(case, "bytes", MB_S, megabytes / seconds),
        Figure(case, "brokers' processor time", CPU_S_M, meter.cpu_s / records * 1e6),
        Figure(case, "brokers' processor time per MB", CPU_MS_MB, meter.cpu_s / megabytes * 1e3),
        Figure(case, "brokers' peak memory", MIB, meter.peak_mib),
        Figure(case, "clients' processor time", CPU_S_M, sum(each.client_cpu_s for each in sent) / records * 1e6),
    ]
