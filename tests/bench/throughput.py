"""Records per second and latency of one librdkafka producer against a fresh three-node cluster, everything on this machine.

The same load as the project's yardstick: 100-byte and 1-KiB records with acks=all, then latency on a fixed schedule of 1,000
records a second, so that waiting is counted (no coordinated omission). Says what the brokers' processor time was.
"""

import json
import time

import click
import psutil
from confluent_kafka import Producer

from quorumlog.testing import LocalCluster
from tests.events import create_topic

TOPIC = "throughput"


def run_throughput(bootstrap: str, partitions: int, count: int, size: int) -> int:
    """Records per second, from the first produce to the last acknowledgment."""
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )
    value, started = b"x" * size, time.perf_counter()
    for number in range(count):
        while True:
            try:
                producer.produce(
                    TOPIC,
                    value,
                    partition=number // 500 % partitions,
                    on_delivery=_collect(failed) if number % 1000 == 0 else None,
                )
                break
            except BufferError:
                producer.poll(0.01)
        if not number & 1023:
            producer.poll(0)
    left = producer.flush(120)
    assert not left, f"{left} records were not acknowledged"
    assert not failed, failed[:3]
    return round(count / (time.perf_counter() - started))


def run_latency(bootstrap: str, partitions: int, rate: int, seconds: int) -> dict[str, float]:
    producer, waits, failed = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0}), [], []
    start, number = time.perf_counter() + 0.5, 0
    while number < rate * seconds:
        due, now = start + number / rate, time.perf_counter()
        if now < due:
            producer.poll(min(due - now, 0.0005))
            continue

        def on_delivery(error: object, _message: object, due: float = due) -> None:
            failed.append(error) if error else waits.append(time.perf_counter() - due)

        producer.produce(TOPIC, b"x" * 1000, partition=number % partitions, on_delivery=on_delivery)
        number += 1
    producer.flush(60)
    assert not failed, failed[:3]
    waits.sort()
    return {f"p{q}_ms": round(1e3 * waits[int(len(waits) * q / 100)], 2) for q in (50, 99, 99.9)}


def _collect(failed: list[object]):  # type: ignore[no-untyped-def]
    return lambda error, _message: failed.append(error) if error else None


@click.command("throughput")
@click.option("--partitions", default=4, show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Multiplies the number of records.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting for every node.")
def command(partitions: int, scale: float, settings: tuple[str, ...]) -> None:
    """How much one producer gets through, and how quickly."""
    with LocalCluster(nodes=3, settings=dict(one.split("=", 1) for one in settings)) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=partitions)
        processes = [psutil.Process(cluster.pid(node.node_id)) for node in cluster.nodes]
        run_throughput(cluster.bootstrap_servers, partitions, round(50_000 * scale), 1024)
        before = [sum(process.cpu_times()[:2]) for process in processes]
        result = {
            "records_s_100B": run_throughput(cluster.bootstrap_servers, partitions, round(1_000_000 * scale), 100),
            "records_s_1KiB": run_throughput(cluster.bootstrap_servers, partitions, round(300_000 * scale), 1024),
            **run_latency(cluster.bootstrap_servers, partitions, 1000, 5),
            "cpu_s": [round(sum(process.cpu_times()[:2]) - was, 2) for process, was in zip(processes, before, strict=True)],
            "rss_mb": [process.memory_info().rss >> 20 for process in processes],
        }
    click.echo(json.dumps(result))
