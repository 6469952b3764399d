"""What a compaction costs: its time and memory on each node, and what producers of another topic notice of it.

Three nodes; a topic is filled with records of few keys, then compacted on all its replicas at once, while somebody else goes on
producing at an even pace. Afterwards the topic is read from its beginning: each key must be there once, with its last value.
"""

import json
import os
import signal
import statistics
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # not exported

from quorumlog.cli.compaction import REQUEST, states_of
from quorumlog.cli.configs import alter_settings
from quorumlog.testing import LocalCluster
from tests.bench.cores import Cores
from tests.bench.crew import Crew, WorkersGate
from tests.events import create_topic

FILLED, STEADY = "compacted", "steady"
STEADY_PARTITIONS = 3
LOOK_S = 0.25
SETTLE_S = 5.0
TARGET_MEMORY_MB, TARGET_RATIO = 200, 2.0


def paced(gate: WorkersGate, bootstrap: str, per_s: float) -> list[tuple[float, float]]:
    """A producer that sends a record every so often, until it is told to end: when each was sent, and how long it took."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0, "log_level": 2})
    taken: list[tuple[float, float]] = []
    gate()
    due, number = time.monotonic(), 0
    while not gate.told_to_end(0):
        producer.poll(max(0.0, due - time.monotonic()))
        if time.monotonic() >= due:
            sent = time.monotonic()
            producer.produce(
                STEADY, b"x" * 100, partition=number % STEADY_PARTITIONS, on_delivery=partial(_on_delivery, taken, sent)
            )
            due, number = due + 1 / per_s, number + 1
    producer.flush(10)
    return taken


def _on_delivery(taken: list[tuple[float, float]], sent: float, error: object, _: object) -> None:
    assert error is None, error
    taken.append((sent, time.monotonic() - sent))


def percentiles_ms(taken: list[tuple[float, float]], windows: list[tuple[float, float]]) -> dict[str, float]:
    milliseconds = sorted(1000 * took for sent, took in taken if any(since <= sent < until for since, until in windows))
    cuts = statistics.quantiles(milliseconds, n=1000, method="inclusive")
    return {
        "p50": round(cuts[499], 2),
        "p99": round(cuts[989], 2),
        "max": round(milliseconds[-1], 2),
        "count": len(milliseconds),
    }


class Turns:
    """Lets the compacting processes work for a while, and stand still for as long, in turn.

    On a machine that others use as well, only what is measured at nearly the same time can be compared.
    """

    def __init__(self, cluster: LocalCluster, seconds: float) -> None:
        self._nodes = [cluster.pid(node.node_id) for node in cluster.nodes]
        self._seconds = seconds
        self._turned = time.monotonic()
        self._is_still = False
        self.busy: list[tuple[float, float]] = []
        self.still: list[tuple[float, float]] = []

    def look(self) -> None:
        now = time.monotonic()
        if self._seconds and now - self._turned >= self._seconds:
            self.end()
            self._is_still = not self._is_still
            self._tell(signal.SIGSTOP if self._is_still else signal.SIGCONT)

    def end(self) -> None:
        """Close the present turn, and let everybody go on."""
        now = time.monotonic()
        (self.still if self._is_still else self.busy).append((self._turned, now))
        self._turned = now
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        for pid in (child for node in self._nodes if node is not None for child in _children_of(node)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Memory:
    """What each node takes, with all processes that it started: the most that was seen."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._nodes = {node.node_id: psutil.Process(cluster.pid(node.node_id)) for node in cluster.nodes}
        self.before = {node_id: self._taken(process) for node_id, process in self._nodes.items()}
        self.most = dict(self.before)
        self.most_of_children = dict.fromkeys(self.before, 0)

    def look(self) -> None:
        for node_id, process in self._nodes.items():
            children = sum(_rss(psutil.Process(pid)) for pid in _children_of(process.pid))
            self.most_of_children[node_id] = max(self.most_of_children[node_id], children)
            self.most[node_id] = max(self.most[node_id], _rss(process) + children)

    def on_top_mb(self) -> float:
        """Of the node that took the most."""
        return round(max(self.most[node] - self.before[node] for node in self.before) / 1e6, 1)

    @staticmethod
    def _taken(process: psutil.Process) -> int:
        return _rss(process) + sum(_rss(psutil.Process(pid)) for pid in _children_of(process.pid))


def _children_of(pid: int) -> list[int]:
    """As the kernel lists them: cheaper than a look at every process there is."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def fill(bootstrap: str, records: int, keys: int, size: int) -> dict[bytes, int]:
    """Of each key the number of its last record."""
    options = {"enable.idempotence": True, "linger.ms": 20, "batch.size": 1 << 20, "queue.buffering.max.messages": 500_000}
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2, **options})
    last, filler = {}, b"x" * max(0, size - 12)
    for number in range(records):
        key = b"key-%d" % (number * 7919 % keys)
        last[key] = number
        while True:
            try:
                producer.produce(FILLED, b"%012d" % number + filler, key, partition=0)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(300) == 0, "not everything was acknowledged"
    return last


def compacted(cluster: LocalCluster, memory: Memory, turns: Turns, timeout_s: float) -> float:
    """Seconds until every replica has done it. Looks with as little work as it can: the machine is being measured."""
    bootstrap, request, begun = cluster.bootstrap_servers, int(time.time() * 1000), time.monotonic()
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    alter_settings(admin, ConfigResource(ResourceType.TOPIC, FILLED), ((REQUEST, str(request)),), ())
    seen = 0
    while time.monotonic() < begun + timeout_s:
        memory.look()
        turns.look()
        passes = [cluster.log(node.node_id).count(f"{FILLED}-0: compacted up to") for node in cluster.nodes]
        if min(passes) > 0 and sum(passes) > seen:
            seen, ended = sum(passes), time.monotonic()
            turns.end()
            states = states_of(FILLED, bootstrap)
            if len(states) == 3 and all(one["request_met"] == request for ones in states.values() for one in ones):
                return ended - begun
        time.sleep(LOOK_S)
    raise TimeoutError(f"not compacted within {timeout_s:g} s")


def check_content(bootstrap: str, last: dict[bytes, int]) -> int:
    """Reads the topic: the number of records. Raises ClickException if a key is missing, old, or there twice."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 2})
    place = TopicPartition(FILLED, 0, OFFSET_BEGINNING)
    end = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign([place])
    found: dict[bytes, int] = {}
    count, offset = 0, -1
    while offset < end:
        for message in consumer.consume(10_000, 1.0):
            if message.error() is not None:
                raise KafkaException(message.error())
            found[message.key()] = int(message.value()[:12])
            count += 1
        offset = consumer.position([place])[0].offset
    consumer.close()
    if found != last or count != len(last):
        raise click.ClickException(f"{count} records of {len(found)} keys are left of {len(last)}, or not the last of each")
    return count


@click.command("compaction")
@click.option("--records", default=10_000_000, show_default=True)
@click.option("--keys", default=100_000, show_default=True)
@click.option("--size", default=100, show_default=True, help="Bytes of a value.")
@click.option("--segment-mb", default=256, show_default=True)
@click.option("--per-s", default=200.0, show_default=True, help="Records that the other producer sends.")
@click.option("--baseline-s", default=20.0, show_default=True, help="How long it is watched without a compaction.")
@click.option("--turns-s", default=0.0, help="Compact for so long, stand still for so long, in turn; 0: go through.")
@click.option("--timeout-s", default=1800.0, show_default=True)
def command(
    records: int, keys: int, size: int, segment_mb: int, per_s: float, baseline_s: float, turns_s: float, timeout_s: float
) -> None:
    """Memory and time of a compaction, and what producers of another topic notice of it."""
    with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 0}) as cluster:
        bootstrap = cluster.bootstrap_servers
        config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "1", "segment.bytes": str(segment_mb << 20)}
        create_topic(bootstrap, FILLED, partitions=1, config=config)
        create_topic(bootstrap, STEADY, partitions=STEADY_PARTITIONS)
        begun = time.monotonic()
        last = fill(bootstrap, records, keys, size)
        click.echo(f"filled with {records:,} records of {keys:,} keys in {time.monotonic() - begun:.0f} s", err=True)
        time.sleep(SETTLE_S)
        everywhere = tuple(range(os.cpu_count() or 1))
        with Crew(Cores(everywhere, everywhere), [(paced, (bootstrap, per_s))]) as crew:
            crew.go()
            time.sleep(SETTLE_S)
            quiet_from = time.monotonic()
            memory = Memory(cluster)
            time.sleep(baseline_s)
            busy_from = time.monotonic()
            turns = Turns(cluster, turns_s)
            taken_s = compacted(cluster, memory, turns, timeout_s)
            crew.tell_to_end()
            (taken,) = crew.results(60)
        quiet = percentiles_ms(taken, turns.still or [(quiet_from, busy_from)])
        busy = percentiles_ms(taken, turns.busy)
        left = check_content(bootstrap, last)
        result = {
            "records": records,
            "left": left,
            "compacted_on_all_s": round(taken_s, 1),
            "records_per_s_and_node": round(records / taken_s),
            "memory_on_top_mb": memory.on_top_mb(),
            "memory_of_process_mb": round(max(memory.most_of_children.values()) / 1e6, 1),
            "producer_quiet_ms": quiet,
            "producer_meanwhile_ms": busy,
            "p99_ratio": round(busy["p99"] / quiet["p99"], 2),
            "cores": os.cpu_count(),
        }
    click.echo(json.dumps(result, indent=2))
    click.echo(f"memory on top: {result['memory_on_top_mb']} MB, at most {TARGET_MEMORY_MB} wanted")
    click.echo(f"p99 of producers: {result['p99_ratio']} times that without a compaction, at most {TARGET_RATIO} wanted")
