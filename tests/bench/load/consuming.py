"""A consumer that goes as fast as it gets records."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from tests.bench.crew import Gate

READ_AT_ONCE = 10_000
SILENCE_MAX_S = 60.0
CONFIG = {
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "log_level": 3,
    # By default a partition is left alone for a second when 64 MB wait for the application: what is measured then is that second.
    "fetch.queue.backoff.ms": 1,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read: of each partition from one offset up to another."""

    topic: str
    ranges: tuple[tuple[int, int], ...]
    group: str = "unused"

    @property
    def records(self) -> int:
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True, slots=True)
class Read:
    """Times are of the machine's monotonic clock."""

    records: int
    payload_bytes: int
    started: float
    ended: float
    client_cpu_s: float


def consume(gate: Gate, bootstrap: str, reading: Reading) -> Read:
    """Read all of it. Raises RuntimeError if nothing comes for a minute."""
    consumer = Consumer({**CONFIG, "bootstrap.servers": bootstrap, "group.id": reading.group})
    consumer.list_topics(reading.topic, timeout=30)
    starts = [TopicPartition(reading.topic, index, start) for index, (start, end) in enumerate(reading.ranges) if end > start]
    gate()
    started, cpu_before = time.monotonic(), time.process_time()
    consumer.assign(starts)
    records = payload_bytes = 0
    heard = started
    while records < reading.records:
        messages = consumer.consume(READ_AT_ONCE, 0.05)
        now = time.monotonic()
        if messages:
            heard = now
        elif now - heard > SILENCE_MAX_S:
            raise RuntimeError(f"{records} of {reading.records} records came, then none for {SILENCE_MAX_S:g} s")
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            payload_bytes += len(message)
        records += len(messages)
    ended = time.monotonic()
    cpu_s = time.process_time() - cpu_before
    consumer.close()
    return Read(records, payload_bytes, started, ended, cpu_s)
