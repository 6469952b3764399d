"""A producer that goes as fast as the cluster takes it."""

import math
import sys
import time
from dataclasses import dataclass

from confluent_kafka import Producer

from tests.bench.crew import Gate
from tests.bench.load.records import CHUNK, keyed, plain

CONFIG: dict[str, object] = {
    "acks": "all",
    "log_level": 3,  # errors
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 2_000_000,
    "queue.buffering.max.kbytes": 2_000_000,
    "delivery.report.only.error": True,  # a call into Python for every record would measure Python
}
WAITING_BYTES_MAX = 128 << 20
WAITING_MAX = 500_000
FLUSH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a producer sends, until its time or its number of records is reached.

    `value_bytes` of 0 stands for real order lines, whose keys choose the partition; otherwise `in_a_row` records go to each
    partition in turn.
    """

    topic: str
    partitions: int
    value_bytes: int
    seconds: float = math.inf
    records_max: int = sys.maxsize
    lines: str | None = None
    in_a_row: int = CHUNK


@dataclass(frozen=True, slots=True)
class Sent:
    """Times are of the machine's monotonic clock."""

    records: int
    payload_bytes: int
    started: float
    ended: float
    client_cpu_s: float


def produce(gate: Gate, bootstrap: str, load: Load) -> Sent:
    """For as long as the load says; ends with the last acknowledgment. Raises RuntimeError if a record was refused or lost."""
    failed: list[object] = []
    producer = Producer({**CONFIG, "bootstrap.servers": bootstrap, "on_delivery": lambda error, _: failed.append(error)})
    producer.list_topics(load.topic, timeout=30)
    chunks = plain(load.value_bytes, load.in_a_row) if load.value_bytes else keyed(load.lines)
    waiting_max = min(WAITING_MAX, WAITING_BYTES_MAX // (load.value_bytes or 200))
    gate()
    started, cpu_before = time.monotonic(), time.process_time()
    records = payload_bytes = number = 0
    while records < load.records_max and time.monotonic() - started < load.seconds:
        while len(producer) > waiting_max:
            producer.poll(0.002)
        messages = next(chunks)
        partition = number % load.partitions if load.value_bytes else -1
        accepted = producer.produce_batch(load.topic, messages, partition=partition)
        if accepted != len(messages):
            raise RuntimeError(f"librdkafka took {accepted} of {len(messages)} records: {messages[-1]}")
        producer.poll(0)
        records, number = records + accepted, number + 1
        payload_bytes += load.value_bytes * accepted or sum(len(each["key"]) + len(each["value"]) for each in messages)
    left = producer.flush(FLUSH_TIMEOUT_S)
    if left or failed:
        raise RuntimeError(f"{left} records were not acknowledged, {len(failed)} refused: {failed[:1]}")
    return Sent(records, payload_bytes, started, time.monotonic(), time.process_time() - cpu_before)
