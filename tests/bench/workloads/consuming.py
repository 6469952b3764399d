"""Reading 1-KiB records: out of the page cache, from the disk, and by four consumers at once while one producer writes."""

from dataclasses import replace

from tests.bench import caches
from tests.bench.contestants import Cluster, Contestant
from tests.bench.crew import run_clients
from tests.bench.figures import CPU_MS_MB, MB_S, MIB, RECORDS_S, Figure
from tests.bench.load.consuming import Read, Reading, consume
from tests.bench.load.offsets import ends
from tests.bench.load.producing import Load, produce
from tests.bench.meters import Meter
from tests.bench.workloads import Bench
from tests.bench.workloads.filling import VALUE_BYTES, fill
from tests.bench.workloads.throughput import warm_up
from tests.bench.workloads.topics import KEPT, PARTITIONS, new_topic

TIMEOUT_S = 300.0
GROUPS = 4


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    with contestant.fresh() as cluster:
        warm_up(cluster, bench)
        topic = new_topic(cluster.bootstrap_servers, config=KEPT)
        fill(cluster, bench, topic, PARTITIONS, bench.scale.stored_mb)
        reading = Reading(topic, tuple((0, end) for end in ends(cluster.bootstrap_servers, topic, PARTITIONS)))
        _read(cluster, bench, reading)  # warm-up
        figures = _figures("from the page cache", *_read(cluster, bench, reading))
        caches.drop(cluster.data_dirs())
        figures += _figures("from the disk", *_read(cluster, bench, reading))
        return figures + measure_while_producing(cluster, bench)


def measure_while_producing(cluster: Cluster, bench: Bench) -> list[Figure]:
    """Everybody's end is known beforehand: the producer sends a number of records, each consumer reads them all."""
    case = f"{GROUPS} consumers and a producer"
    topic = new_topic(cluster.bootstrap_servers, config=KEPT)
    each = round(bench.scale.stored_mb * 1e6 / VALUE_BYTES / 4 / PARTITIONS / 500) * 500 or 500
    load = Load(topic, PARTITIONS, VALUE_BYTES, records_max=each * PARTITIONS)
    reading = Reading(topic, ((0, each),) * PARTITIONS)
    readers = [(consume, (cluster.bootstrap_servers, replace(reading, group=f"group-{number}"))) for number in range(GROUPS)]
    with Meter(cluster.pids()) as meter:
        sent, *read = run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load)), *readers], TIMEOUT_S)
    figures = _figures(case, read, meter)
    return [*figures, Figure(case, "producer's rate", RECORDS_S, sent.records / (sent.ended - sent.started))]


def _read(cluster: Cluster, bench: Bench, reading: Reading) -> tuple[list[Read], Meter]:
    with Meter(cluster.pids()) as meter:
        read = run_clients(bench.site.cores, [(consume, (cluster.bootstrap_servers, reading))], TIMEOUT_S)
    return read, meter


def _figures(case: str, read: list[Read], meter: Meter) -> list[Figure]:
    seconds = max(each.ended for each in read) - min(each.started for each in read)
    records, megabytes = sum(each.records for each in read), sum(each.payload_bytes for each in read) / 1e6
    return [
        Figure(case, "rate", RECORDS_S, records / seconds),
        Figure(case, "bytes", MB_S, megabytes / seconds),
        Figure(case, "brokers' processor time per MB read", CPU_MS_MB, meter.cpu_s / megabytes * 1e3),
        Figure(case, "clients' processor time per MB read", CPU_MS_MB, sum(each.client_cpu_s for each in read) / megabytes * 1e3),
        Figure(case, "brokers' peak memory", MIB, meter.peak_mib),
    ]
