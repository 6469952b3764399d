"""Do two nodes on two cores carry twice what one carries on one? How a large machine is filled: a node to each core.

Replication factor 1, so that no node works for the other, and fsync before each acknowledgment as always; of three nodes one or
two have anything to do. The clients are sockets that send the same request again and again, with several under way: librdkafka
would want more of the cores than the nodes.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from confluent_kafka.admin import AdminClient, NewTopic

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.records import Record, build_batch
from tests.bench.cores import Cores
from tests.bench.crew import WorkersGate, run_clients
from tests.bench.meters import cpu_s
from tests.cluster.leaders import leaders_of
from tests.cluster.raw import RawConnection, eventually

TOPIC, VERSION = "nodes", 9
UNDER_WAY, CHECKED_EACH = 8, 200
RECORD_BYTES = 1000
WARM_UP_S = 2.0
ANSWER_TIMEOUT_S = 60.0


@click.command("nodes")
@click.option("--seconds", default=8.0)
@click.option("--rounds", default=3)
@click.option("--batch-records", default=16, help="1-KB records in each request.")
def nodes_command(seconds: float, rounds: int, batch_records: int) -> None:
    """The rate of one node on one core, and of two on two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("this takes two cores at least")
    for number in range(1, rounds + 1):
        one, one_cost = measure(cores[:1], seconds, batch_records)
        two, two_cost = measure(cores[:2], seconds, batch_records)
        click.echo(
            f"round {number}: one node {one:,.0f} records/s at {one_cost:.2f} CPU s a million, "
            f"two nodes {two:,.0f} at {two_cost:.2f}: {two / one:.2f} times as many"
        )


def measure(cores: Sequence[int], seconds: float, batch_records: int) -> tuple[float, float]:
    """(records a second, processor seconds of the nodes for a million records) of a node on each of these cores."""
    with LocalCluster(nodes=3) as cluster:
        busy = cluster.nodes[: len(cores)]
        _create_topic(cluster.bootstrap_servers, [node.node_id for node in busy])
        pids = [pid for node in busy if (pid := cluster.pid(node.node_id)) is not None]
        for pid, core in zip(pids, cores, strict=True):
            _pin(pid, core)
        clients: list[tuple[Any, tuple[Any, ...]]] = [
            (send_again_and_again, (node.kafka, partition, seconds, batch_records)) for partition, node in enumerate(busy)
        ]
        everywhere = tuple(sorted(os.sched_getaffinity(0)))
        before = cpu_s(pids)
        results = run_clients(Cores(everywhere, everywhere), clients, seconds + ANSWER_TIMEOUT_S)
        records = sum(count for _, count, _ in results) * batch_records
        rate = sum(count / took for count, _, took in results) * batch_records
        return rate, (cpu_s(pids) - before) / records * 1e6


def _create_topic(bootstrap: str, leaders: list[int]) -> None:
    """A partition on each of these nodes, and nowhere else."""
    config = {"min.insync.replicas": "1"}
    topic = NewTopic(TOPIC, num_partitions=len(leaders), replica_assignment=[[leader] for leader in leaders], config=config)
    admin = AdminClient({"bootstrap.servers": bootstrap})  # by name: it must live until the answer is there
    admin.create_topics([topic])[TOPIC].result(30)
    eventually(lambda: sorted(leaders_of(bootstrap, TOPIC).values()) == sorted(leaders), ANSWER_TIMEOUT_S)


def send_again_and_again(
    gate: WorkersGate, address: str, partition: int, seconds: float, batch_records: int
) -> tuple[int, int, float]:
    """(requests that count, all requests, seconds). Raises AssertionError if one is refused."""
    batch = build_batch([Record(offset=index, value=b"x" * RECORD_BYTES) for index in range(batch_records)])
    body = {
        "transactional_id": None,
        "acks": -1,
        "timeout_ms": 30_000,
        "topic_data": [{"name": TOPIC, "partition_data": [{"index": partition, "records": batch}]}],
    }
    with RawConnection(address, timeout_s=ANSWER_TIMEOUT_S) as node:
        warm = _send_for(node, body, WARM_UP_S)
        gate()
        started = time.monotonic()
        count = _send_for(node, body, seconds)
        return count, warm + count, time.monotonic() - started


def _send_for(node: RawConnection, body: dict[str, Any], seconds: float) -> int:
    ends, count, under_way = time.monotonic() + seconds, 0, 0
    while time.monotonic() < ends or under_way:
        while under_way < UNDER_WAY and time.monotonic() < ends:
            node.send("produce", VERSION, **body)
            under_way += 1
        answer = node.receive()
        under_way -= 1
        count += 1
        if count % CHECKED_EACH == 0:
            code = answer.responses[0].partition_responses[0].error_code
            assert code == ErrorCode.none, code
    return count


def _pin(pid: int, core: int) -> None:
    """All threads that the node has; those that it starts later do as who starts them."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
