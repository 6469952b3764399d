"""What a produced record costs the nodes: processor time, wake-ups of threads, and calls of Python, function by function.

First of free nodes, then of nodes under a profiler, with the same load: single records at a fixed rate, or as many as will go.
"""

import os
import pstats
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import click
import psutil
from confluent_kafka import Producer

from quorumlog.testing import LocalCluster
from tests.bench.meters import cpu_s
from tests.cluster.raw import eventually
from tests.events import create_topic

TOPIC, PARTITIONS = "hot", 6
WARM_UP_S, SETTLE_S = 3.0, 2.0
FLUSH_TIMEOUT_S, PROFILE_TIMEOUT_S = 60.0, 30.0
FULL_QUEUE_PAUSE_S = 0.05

Load = Callable[[str], int]  # against this cluster; how many records it sent


@click.command("hotpath")
@click.option("--rate", default=400, help="Records a second, each a request of its own; 0: as many as will go, in batches.")
@click.option("--record-bytes", default=1000)
@click.option("--seconds", default=5.0)
@click.option("--top", default=30, help="Functions that are shown.")
def hotpath_command(rate: int, record_bytes: int, seconds: float, top: int) -> None:
    """What a produced record costs three nodes, and in which functions."""

    def load(bootstrap: str) -> int:
        return produce(bootstrap, rate, b"x" * record_bytes, seconds)

    click.echo(free_cost(load))
    click.echo(profiled_cost(load, top))


def produce(bootstrap: str, rate: int, value: bytes, seconds: float) -> int:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0 if rate else 5, "log_level": 3})
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        if rate and (early := started + count / rate - time.monotonic()) > 0:
            time.sleep(early)
        try:
            producer.produce(TOPIC, value, partition=count % PARTITIONS)
            count += 1
        except BufferError:
            time.sleep(FULL_QUEUE_PAUSE_S)
        producer.poll(0)
    if producer.flush(FLUSH_TIMEOUT_S):
        raise click.ClickException("records were not acknowledged in time")
    return count


def free_cost(load: Load) -> str:
    with LocalCluster(nodes=3) as cluster:
        pids = _warm(cluster, load)
        idle = _idle_share(pids)
        before, switched, started = _times(pids), _switches(pids), time.monotonic()
        count = load(cluster.bootstrap_servers)
        user, system = (after - earlier for after, earlier in zip(_times(pids), before, strict=True))
        idle_s = idle * (time.monotonic() - started)
        switches = _switches(pids) - switched
    return (
        f"{count} records: {_us(user + system - idle_s, count)} us of processor time each in all three nodes "
        f"(user {_us(user, count)}, system {_us(system, count)}, less {_us(idle_s, count)} that idle nodes take), "
        f"{switches / count:.1f} switches of threads"
    )


def profiled_cost(load: Load, top: int) -> str:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.bench.profiled_node", f"{directory}/profile"]
        with LocalCluster(nodes=3, node_command=command) as cluster:
            pids = _warm(cluster, load)
            _signal_all(pids, signal.SIGUSR1)
            count = load(cluster.bootstrap_servers)
            _signal_all(pids, signal.SIGUSR2)
            paths = [Path(f"{directory}/profile.{pid}") for pid in pids]
            eventually(lambda: all(path.exists() for path in paths), PROFILE_TIMEOUT_S)
        return _table(pstats.Stats(*map(str, paths)), count, top)


def _warm(cluster: LocalCluster, load: Load) -> list[int]:
    create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
    time.sleep(WARM_UP_S)
    load(cluster.bootstrap_servers)
    time.sleep(SETTLE_S)
    return [pid for node in cluster.nodes if (pid := cluster.pid(node.node_id)) is not None]


def _idle_share(pids: Sequence[int]) -> float:
    """Of a core, that the nodes take while nothing is asked."""
    before = cpu_s(pids)
    time.sleep(SETTLE_S)
    return (cpu_s(pids) - before) / SETTLE_S


def _times(pids: Sequence[int]) -> tuple[float, float]:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user for one in times), sum(one.system for one in times)


def _switches(pids: Sequence[int]) -> int:
    """Of all threads so far, by their own will or not (proc(5))."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):
                total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)
    return total


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def _table(stats: pstats.Stats, count: int, top: int) -> str:
    profile = stats.stats  # type: ignore[attr-defined]  # missing in the stubs
    calls = sum(called for _, called, _, _, _ in profile.values())
    lines = [f"{calls / count:.0f} calls of Python a record; under the profiler:", "    calls  self us  with callees us"]
    for (file, line, name), (_, called, own, whole, _) in sorted(profile.items(), key=lambda item: -item[1][2])[:top]:
        place = "/".join(file.split("/")[-2:])
        lines.append(f"{called / count:9.4f} {own / count * 1e6:8.2f} {whole / count * 1e6:9.2f}  {place}:{line} {name}")
    return "\n".join(lines)


def _us(seconds: float, count: int) -> str:
    return f"{seconds / count * 1e6:.1f}"
