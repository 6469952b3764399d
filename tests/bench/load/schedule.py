"""A producer and a consumer on a fixed schedule: every wait counts from when the record was due, not from when it went out.

The schedule has a tick each millisecond. Of a tick's records the last is followed: it carries the time at which it was due, its
acknowledgment is awaited, and the consumer looks for it. The others make up the rate.
"""

import struct
import threading
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.crew import WorkersGate

TICK_S = 0.001
LEAD_S = 0.2
STAMP = struct.Struct(">8sd")
MARK = b"followed"
FLUSH_TIMEOUT_S = 60.0
READ_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Schedule:
    topic: str
    partitions: int
    value_bytes: int
    per_tick: int
    seconds: float
    linger_ms: float

    @property
    def followed(self) -> int:
        return round(self.seconds / TICK_S)


def produce_on_schedule(gate: WorkersGate, bootstrap: str, schedule: Schedule) -> list[float]:
    """Seconds from due to acknowledged, of every followed record. Raises RuntimeError if one is refused or lost."""
    waits: list[float] = []
    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "log_level": 3,
            "linger.ms": schedule.linger_ms,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "delivery.report.only.error": False,
        }
    )
    producer.list_topics(schedule.topic, timeout=30)
    followed = MARK + b"\0" * 8 + b"x" * (schedule.value_bytes - STAMP.size)
    others = [{"value": b"x" * schedule.value_bytes} for _ in range(schedule.per_tick - 1)]
    stop = threading.Event()
    answers = threading.Thread(target=_take_answers, args=(producer, stop))
    gate()
    answers.start()
    start = time.monotonic() + LEAD_S
    for tick in range(schedule.followed):
        due, partition = start + tick * TICK_S, tick % schedule.partitions
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        if others:
            producer.produce_batch(schedule.topic, others, partition=partition)

        def on_delivery(error: object, _: object, due: float = due) -> None:
            failed.append(error) if error else waits.append(time.monotonic() - due)

        producer.produce(schedule.topic, STAMP.pack(MARK, due) + followed[16:], partition=partition, on_delivery=on_delivery)
    left = producer.flush(FLUSH_TIMEOUT_S)
    stop.set()
    answers.join()
    if left or failed or len(waits) != schedule.followed:
        raise RuntimeError(f"{left} records unanswered, {len(failed)} refused: {failed[:1]}, {len(waits)} acknowledged")
    return waits


def _take_answers(producer: Producer, stop: threading.Event) -> None:
    while not stop.is_set():
        producer.poll(0.05)


def consume_on_schedule(gate: WorkersGate, bootstrap: str, schedule: Schedule) -> list[float]:
    """Seconds from due to read, of every followed record. Raises RuntimeError if they do not all come."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(schedule.topic, partition, 0) for partition in range(schedule.partitions)])
    consumer.poll(0.5)  # connections, and the first fetch of an empty topic
    waits: list[float] = []
    gate()
    deadline = time.monotonic() + schedule.seconds + FLUSH_TIMEOUT_S
    while len(waits) < schedule.followed and time.monotonic() < deadline:
        first = consumer.poll(0.1)
        if first is None:
            continue
        messages = [first, *consumer.consume(READ_AT_ONCE, 0)]
        now = time.monotonic()
        for message in messages:
            value = message.value() or b""
            if message.error() is None and value.startswith(MARK):
                waits.append(now - STAMP.unpack_from(value)[1])
    consumer.close()
    if len(waits) != schedule.followed:
        raise RuntimeError(f"{len(waits)} of {schedule.followed} followed records were read")
    return waits
