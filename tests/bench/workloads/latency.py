"""How long a record waits, on a fixed schedule: for its acknowledgment, and until a consumer has it."""

from tests.bench.contestants import Cluster, Contestant
from tests.bench.crew import run_clients
from tests.bench.figures import CPU_S_M, MS, Figure, percentile
from tests.bench.load.schedule import TICK_S, Schedule, consume_on_schedule, produce_on_schedule
from tests.bench.meters import Meter
from tests.bench.workloads import Bench
from tests.bench.workloads.throughput import warm_up
from tests.bench.workloads.topics import PARTITIONS, new_topic

TIMEOUT_S = 180.0
VALUE_BYTES = 1_000
PERCENTS = (50, 99, 99.9)
STEADY = "1,000 records/s"
HALF = "half of the peak rate"


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    half_peak = bench.half_peak()
    with contestant.fresh() as cluster:
        warm_up(cluster, bench)
        _run(cluster, bench, per_tick=1, linger_ms=0, seconds=max(bench.scale.warm_up_s / 2, 0.5))
        figures = measure_case(cluster, bench, STEADY, per_tick=1, linger_ms=0)
        return figures + measure_case(cluster, bench, HALF, per_tick=max(1, round(half_peak * TICK_S)), linger_ms=5)


def measure_case(cluster: Cluster, bench: Bench, case: str, *, per_tick: int, linger_ms: float) -> list[Figure]:
    with Meter(cluster.pids()) as meter:
        waits = _run(cluster, bench, per_tick=per_tick, linger_ms=linger_ms, seconds=bench.scale.seconds)
    records = len(waits["acknowledged"]) * per_tick
    figures = [
        Figure(case, f"{what}, p{percent:g}", MS, 1e3 * percentile(values, percent))
        for what, values in waits.items()
        for percent in PERCENTS
    ]
    return [*figures, Figure(case, "brokers' processor time", CPU_S_M, meter.cpu_s / records * 1e6)]


def _run(cluster: Cluster, bench: Bench, *, per_tick: int, linger_ms: float, seconds: float) -> dict[str, list[float]]:
    topic = new_topic(cluster.bootstrap_servers)
    schedule = Schedule(topic, PARTITIONS, VALUE_BYTES, per_tick, seconds, linger_ms)
    clients = [(client, (cluster.bootstrap_servers, schedule)) for client in (produce_on_schedule, consume_on_schedule)]
    acknowledged, read = run_clients(bench.site.cores, clients, TIMEOUT_S)
    return {"acknowledged": acknowledged, "read": read}
