"""A record to every partition every few milliseconds, and a consumer of them: how long is nothing acknowledged, nothing read?

Clients have their default settings but for acks=all. Each record carries the time of its production, so that an answer to
something older than a fault does not count as one after it.
"""

import contextlib
import itertools
import struct
import threading
import time
from collections.abc import Iterable, Mapping

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

PACE_S = 0.01
POLL_S = 0.002
STAMP = struct.Struct(">d")
FLUSH_TIMEOUT_S = 30.0
READ_AT_ONCE = 1_000
NEW_CLIENT_MS = 500

Moment = tuple[float, float]  # when a record was produced, and when it was acknowledged or read


class SteadyClients:
    """Both, in threads of their own, within the `with` block."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, producer_settings: Mapping[str, int]) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 2, **producer_settings})
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 2}
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self.acknowledged: dict[int, list[Moment]] = {partition: [] for partition in range(partitions)}
        self.read: dict[int, list[Moment]] = {partition: [] for partition in range(partitions)}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._produce, self._consume)]

    def __enter__(self) -> "SteadyClients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._consumer.close()

    def wait_acknowledged(self, partitions: Iterable[int], since: float, timeout_s: float) -> float:
        """Seconds from `since` until each partition has acknowledged a record that was produced later."""
        return self._wait(self.acknowledged, partitions, since, timeout_s)

    def wait_read(self, partitions: Iterable[int], since: float, timeout_s: float) -> float:
        """Seconds from `since` until a record of each partition was read that was produced later."""
        return self._wait(self.read, partitions, since, timeout_s)

    def longest_silence(self, since: float, until: float) -> float:
        """The longest time without an acknowledgment, of the worst partition."""
        return max(_longest_gap([at for _, at in moments], since, until) for moments in self.acknowledged.values())

    def _wait(self, moments: dict[int, list[Moment]], partitions: Iterable[int], since: float, timeout_s: float) -> float:
        deadline = time.monotonic() + timeout_s
        return max(_first_after(moments[partition], partition, since, deadline) for partition in partitions) - since

    def _produce(self) -> None:
        while not self._stop.is_set():
            for partition in self.acknowledged:
                self._send(partition)
            self._producer.poll(PACE_S)

    def _send(self, partition: int) -> None:
        produced = time.monotonic()

        def on_delivery(error: object, _: object) -> None:
            if error is None:
                self.acknowledged[partition].append((produced, time.monotonic()))

        with contextlib.suppress(BufferError):  # the queue is full while nobody answers
            self._producer.produce(self._topic, STAMP.pack(produced), partition=partition, on_delivery=on_delivery)

    def _consume(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.1)
            messages = [first, *self._consumer.consume(READ_AT_ONCE, 0)] if first else []
            now = time.monotonic()
            for message in messages:
                self._note(message, now)

    def _note(self, message: confluent_kafka.Message, now: float) -> None:
        partition, value = message.partition(), message.value()
        if message.error() is None and partition is not None and value is not None:
            self.read[partition].append((STAMP.unpack(value)[0], now))


def first_acknowledgment(bootstrap: str, topic: str, partitions: Iterable[int], timeout_s: float) -> float:
    """When each partition had acknowledged a record of clients that knew nothing: new ones until one succeeds."""
    waiting, deadline = set(partitions), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": NEW_CLIENT_MS, "log_level": 2})

        def on_delivery(error: object, message: confluent_kafka.Message) -> None:
            if error is None:
                waiting.discard(message.partition() or 0)

        for partition in sorted(waiting):
            producer.produce(topic, STAMP.pack(time.monotonic()), partition=partition, on_delivery=on_delivery)
        producer.flush(2 * NEW_CLIENT_MS / 1e3)
        if not waiting:
            return time.monotonic()
    raise TimeoutError(f"partitions {sorted(waiting)} have acknowledged nothing to new clients in {timeout_s:g} s")


def _first_after(moments: list[Moment], partition: int, since: float, deadline: float) -> float:
    seen = 0
    while time.monotonic() < deadline:
        for produced, at in moments[seen:]:
            seen += 1
            if produced > since:
                return at
        time.sleep(POLL_S)
    raise TimeoutError(f"partition {partition} has not answered in time")


def _longest_gap(times: list[float], since: float, until: float) -> float:
    within = [since, *(at for at in times if since <= at <= until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(within))
