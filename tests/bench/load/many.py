"""Many small clients in one process: producers with small batches, connections that only exist, groups of one consumer."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer

from tests.bench.crew import Gate, WorkersGate
from tests.bench.load.producing import FLUSH_TIMEOUT_S, Sent
from tests.cluster.raw import RawConnection

SMALL_BATCH = 10
SILENCE_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class SmallBatches:
    """Producers that each wait for the acknowledgment of a small batch before they send the next."""

    topic: str
    partitions: int
    producers: int
    value_bytes: int
    seconds: float


def produce_small_batches(gate: Gate, bootstrap: str, load: SmallBatches) -> Sent:
    failed: list[object] = []
    config = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0, "delivery.report.only.error": True, "log_level": 3}
    producers = [Producer({**config, "on_delivery": lambda error, _: failed.append(error)}) for _ in range(load.producers)]
    for producer in producers:
        producer.list_topics(load.topic, timeout=60)
    batch = [{"value": b"x" * load.value_bytes} for _ in range(SMALL_BATCH)]
    gate()
    started, cpu_before, records = time.monotonic(), time.process_time(), 0
    while time.monotonic() - started < load.seconds:
        before = records
        for number, producer in enumerate(producers):
            if not len(producer):
                records += producer.produce_batch(load.topic, batch, partition=(number + records) % load.partitions)
            producer.poll(0)
        if records == before:
            time.sleep(0.0005)
    left = sum(producer.flush(FLUSH_TIMEOUT_S) for producer in producers)
    if left or failed:
        raise RuntimeError(f"{left} records were not acknowledged, {len(failed)} refused: {failed[:1]}")
    return Sent(records, records * load.value_bytes, started, time.monotonic(), time.process_time() - cpu_before)


def hold_connections(gate: WorkersGate, bootstrap: str, count: int) -> int:
    """Connections that have asked one thing, spread over the nodes, held until we are told to end."""
    addresses = bootstrap.split(",")
    connections = [RawConnection(addresses[number % len(addresses)]) for number in range(count)]
    for connection in connections:
        connection.ask("api_versions", 3, client_software_name="bench", client_software_version="1")
    gate()
    while not gate.told_to_end(0.2):
        pass
    for connection in connections:
        connection.close()
    return len(connections)


def join_groups(gate: Gate, bootstrap: str, topic: str, names: list[str]) -> list[float]:
    """Seconds until each group's only member had its first record. The topic has one in each partition."""
    consumers = [Consumer(_member(bootstrap, name)) for name in names]
    gate()
    started = time.monotonic()
    for consumer in consumers:
        consumer.subscribe([topic])
    waiting, waits = list(consumers), []
    while waiting and time.monotonic() - started < SILENCE_MAX_S:
        served = [consumer for consumer in waiting if (message := consumer.poll(0)) is not None and message.error() is None]
        waits += [time.monotonic() - started for _ in served]
        waiting = [consumer for consumer in waiting if consumer not in served]
        time.sleep(0.005)
    for consumer in consumers:
        consumer.close()
    if waiting:
        raise RuntimeError(f"{len(waiting)} of {len(names)} groups have read nothing in {SILENCE_MAX_S:g} s")
    return waits


def _member(bootstrap: str, group: str) -> dict[str, object]:
    return {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "log_level": 3}
