"""Many of everything: 100 producers with small batches, 1,000 partitions, 1,000 idle connections, 200 groups."""

from tests.bench.contestants import Cluster, Contestant
from tests.bench.crew import Crew, run_clients
from tests.bench.figures import MIB, Figure, S, percentile
from tests.bench.load.many import SmallBatches, hold_connections, join_groups, produce_small_batches
from tests.bench.load.producing import Load, produce
from tests.bench.meters import Meter, resident_mib
from tests.bench.workloads import Bench
from tests.bench.workloads.costs import compared, cost_figures
from tests.bench.workloads.latency import measure_case as measure_latency
from tests.bench.workloads.throughput import TIMEOUT_S, figures_of, warm_up
from tests.bench.workloads.topics import PARTITIONS, new_topic

PROCESSES = 4
ROWS = {"500 in a row": 500, "20 in a row": 20}


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    with contestant.fresh() as cluster:
        warm_up(cluster, bench)
        figures = measure_producers(cluster, bench)
        figures += measure_partitions(cluster, bench)
        figures += measure_connections(cluster, bench)
        return figures + measure_groups(cluster, bench)


def measure_producers(cluster: Cluster, bench: Bench) -> list[Figure]:
    count = bench.scale.producers
    topic = new_topic(cluster.bootstrap_servers)
    load = SmallBatches(topic, PARTITIONS, count // PROCESSES, 100, bench.scale.seconds)
    with Meter(cluster.pids()) as meter:
        clients = [(produce_small_batches, (cluster.bootstrap_servers, load))] * PROCESSES
        sent = run_clients(bench.site.cores, clients, TIMEOUT_S)
    return figures_of(f"{count} producers, 10 records of 100 B at a time", sent, meter)


def measure_partitions(cluster: Cluster, bench: Bench) -> list[Figure]:
    """The same load written evenly to 6 partitions and to many: what does a partition more cost?"""
    many = bench.scale.partitions
    topics = {PARTITIONS: new_topic(cluster.bootstrap_servers), many: new_topic(cluster.bootstrap_servers, many)}
    figures = []
    for row, in_a_row in ROWS.items():
        found: dict[int, list[Figure]] = {}
        for partitions, topic in topics.items():
            load = Load(topic, partitions, 1024, bench.scale.seconds, in_a_row=in_a_row)
            with Meter(cluster.pids()) as meter:
                sent = run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, load))], TIMEOUT_S)
            found[partitions] = cost_figures(f"1 KiB to {partitions:,} partitions, {row}", sent, meter)
            figures += found[partitions]
        figures += compared(f"{many:,} partitions instead of {PARTITIONS}, {row}", found[PARTITIONS], found[many])
    return figures


def measure_connections(cluster: Cluster, bench: Bench) -> list[Figure]:
    """What connections cost that only exist: memory, and the latency of whoever works."""
    count = bench.scale.connections
    before = resident_mib(cluster.pids())
    with Crew(bench.site.cores, [(hold_connections, (cluster.bootstrap_servers, count))]) as crew:
        crew.go()
        held = resident_mib(cluster.pids()) - before
        figures = measure_latency(cluster, bench, f"1,000 records/s, {count:,} idle connections", per_tick=1, linger_ms=0)
        crew.tell_to_end()
        crew.results(TIMEOUT_S)
    return [*figures, Figure(f"{count:,} idle connections", "brokers' memory more", MIB, held)]


def measure_groups(cluster: Cluster, bench: Bench) -> list[Figure]:
    count = bench.scale.groups
    topic = new_topic(cluster.bootstrap_servers, 1)
    run_clients(bench.site.cores, [(produce, (cluster.bootstrap_servers, Load(topic, 1, 100, records_max=1)))], TIMEOUT_S)
    names = [f"group-{number}" for number in range(count)]
    clients = [(join_groups, (cluster.bootstrap_servers, topic, names[first::PROCESSES])) for first in range(PROCESSES)]
    with Meter(cluster.pids()) as meter:
        waits = [wait for each in run_clients(bench.site.cores, clients, TIMEOUT_S) for wait in each]
    case = f"{count} groups at once"
    return [
        Figure(case, "to the first record, p50", S, percentile(waits, 50)),
        Figure(case, "to the first record, last group", S, max(waits)),
        Figure(case, "brokers' processor time", S, meter.cpu_s),
    ]
