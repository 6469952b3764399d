"""Time from `kill -9` of a leader to the next acknowledged `acks=all` produce on its partitions.

Default client settings but for acks=all; one record every few milliseconds to each partition. In every other round the killed
node is also the active controller (the Raft leader). After each round the node comes back and is in sync again.
"""

import contextlib
import json
import statistics
import threading
import time

import click
import confluent_kafka

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import active_controller, leaders_of, wait_in_sync
from tests.events import create_topic

TOPIC = "failover"
PARTITIONS = 6
PACE_S = 0.005


class SteadyProducer:
    """Produces to every partition all the time, in a thread of its own, and notes the time of each acknowledgment."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "acks": "all"})
        self.acknowledged_at: dict[int, list[float]] = {partition: [] for partition in range(PARTITIONS)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "SteadyProducer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            for partition in self.acknowledged_at:
                with contextlib.suppress(BufferError):
                    self._producer.produce(TOPIC, b"x" * 100, partition=partition, on_delivery=self._on_delivery)
            self._producer.poll(PACE_S)

    def _on_delivery(self, error: object, message: confluent_kafka.Message) -> None:
        if error is None:
            self.acknowledged_at[message.partition()].append(time.monotonic())


def measure_round(cluster: LocalCluster, producer: SteadyProducer, *, kill_controller: bool) -> dict[str, object]:
    """Kill one leader; the longest of the waits of its partitions."""
    controller = active_controller(cluster)
    leaders = leaders_of(cluster.bootstrap_servers, TOPIC)
    victim = controller if kill_controller else min(set(leaders.values()) - {controller})
    led = [partition for partition, leader in leaders.items() if leader == victim]
    killed_at = time.monotonic()
    cluster.kill(victim)  # returns when the process is gone
    gone_at = time.monotonic()
    waits = {partition: _next_acknowledgment(producer, partition, gone_at) - killed_at for partition in led}
    cluster.start(victim)
    wait_in_sync(cluster.bootstrap_servers, TOPIC)
    return {
        "victim": victim,
        "was_controller": victim == controller,
        "partitions": len(led),
        "wait_s": round(max(waits.values()), 3) if waits else None,
    }


def _next_acknowledgment(producer: SteadyProducer, partition: int, gone_at: float, timeout_s: float = 30.0) -> float:
    """When the first record since the node was gone was acknowledged: an answer from before does not count."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answers = producer.acknowledged_at[partition]
        if answers and answers[-1] > gone_at:
            return next(at for at in answers if at > gone_at)
        time.sleep(0.002)
    raise TimeoutError(f"partition {partition} took no record for {timeout_s} s")


@click.command("failover")
@click.option("--rounds", default=20, show_default=True)
@click.option("--output", type=click.Choice(["table", "json"]), default="table")
@click.option("--median-max", type=float, help="Exit with 1 if the median is above, in seconds.")
@click.option("--worst-max", type=float, help="Exit with 1 if the worst is above, in seconds.")
def command(rounds: int, output: str, median_max: float | None, worst_max: float | None) -> None:
    """kill -9 of leaders: how long until their partitions take records again."""
    results: list[dict[str, object]] = []
    settings = {"leader_rebalance_interval_s": 1}
    with LocalCluster(nodes=3, settings=settings) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        with SteadyProducer(cluster.bootstrap_servers) as producer:
            time.sleep(1)
            for number in range(rounds):
                _wait_balanced(cluster)
                result = measure_round(cluster, producer, kill_controller=number % 2 == 1)
                results.append(result)
                if output == "table":
                    click.echo(f"round {number + 1:2}: {result}")
    waits = [float(str(result["wait_s"])) for result in results]
    summary = {
        "rounds": rounds,
        "median_s": round(statistics.median(waits), 3),
        "worst_s": max(waits),
        "median_when_controller_s": round(
            statistics.median([float(str(r["wait_s"])) for r in results if r["was_controller"]]), 3
        ),
    }
    click.echo(json.dumps({"summary": summary, "rounds": results}) if output == "json" else f"fail-over after kill -9: {summary}")
    if (median_max and summary["median_s"] > median_max) or (worst_max and summary["worst_s"] > worst_max):
        raise SystemExit(1)


def _wait_balanced(cluster: LocalCluster, timeout_s: float = 15.0) -> None:
    """Every node leads something, so that whoever is killed leads."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if len(set(leaders_of(cluster.bootstrap_servers, TOPIC).values())) == len(cluster.nodes):
            return
        time.sleep(0.1)
    raise TimeoutError(f"leadership is not spread after {timeout_s} s")
