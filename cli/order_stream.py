"""The demo's producers: they send the orders at an even pace, and note what was acknowledged and how long they waited for it."""

import threading
import time
import zlib
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError, Message

from quorumlog.cli import kafka
from quorumlog.cli.orders import Order

PRODUCER_COUNT = 3
BURST = 20  # orders between two looks at the clock and at the acknowledgments
POLL_S = 0.002
FLUSH_TIMEOUT_S = 60.0
PRODUCER_SETTINGS = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # the Java client's: orders without a customer (an empty key) keep their order too
    "linger.ms": 5,
    "queue.buffering.max.messages": 50_000,
    "queue.buffering.max.kbytes": 32_768,
}


class Ledger:
    """What was sent and what was acknowledged, five bytes an order: its checksum, and whether it was acknowledged."""

    def __init__(self) -> None:
        self.checksums = array("I")
        self.is_acknowledged = bytearray()

    def __len__(self) -> int:
        return len(self.checksums)

    def add(self, number: int, value: bytes) -> None:
        assert number == len(self.checksums), (number, len(self.checksums))
        self.checksums.append(zlib.crc32(value))
        self.is_acknowledged.append(0)


@dataclass(slots=True)
class Wait:
    """One producer's time without an acknowledgment while it has something outstanding, in seconds."""

    outstanding: int = 0
    since_s: float = 0.0
    longest_s: float = 0.0

    def on_sent(self, now: float) -> None:
        if self.outstanding == 0:
            self.since_s = now
        self.outstanding += 1

    def on_answered(self, now: float) -> None:
        self.outstanding -= 1
        self.longest_s = max(self.longest_s, now - self.since_s)
        self.since_s = now


@dataclass(slots=True)
class FailOver:
    """When the partitions of a lost leader took orders again: seconds from the loss to an acknowledgment of a later order."""

    began_s: float
    first_order: int
    pending: set[int]
    took_s: dict[int, float] = field(default_factory=dict)

    def on_acknowledged(self, partition: int, number: int, now: float) -> None:
        if partition in self.pending and number >= self.first_order:
            self.pending.discard(partition)
            self.took_s[partition] = now - self.began_s


class OrderStream:
    """Several idempotent producers in one thread of their own. A customer belongs to one of them, so its orders keep their order.

    Its owner calls `start`, then `join` (wait for the last acknowledgment) or `abort`.
    """

    def __init__(self, bootstrap_servers: str, topic: str, orders: Iterator[Order], *, pace: float) -> None:
        """`pace` is in orders per second; if the cluster is slower, so is the stream."""
        self.ledger = Ledger()
        self.acknowledged = 0
        self.failed = 0
        self.first_error: KafkaError | None = None
        self.waits = [Wait() for _ in range(PRODUCER_COUNT)]
        self._producers = [kafka.producer(bootstrap_servers, PRODUCER_SETTINGS) for _ in range(PRODUCER_COUNT)]
        self._topic = topic
        self._orders = orders
        self._pace = pace
        self._fail_over: FailOver | None = None
        self._aborted = threading.Event()
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    @property
    def sent(self) -> int:
        return len(self.ledger)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def watch_fail_over(self, partitions: Collection[int]) -> FailOver:
        """From now on, note when each of the partitions acknowledges an order that is yet to be sent."""
        self._fail_over = FailOver(began_s=time.monotonic(), first_order=self.sent, pending=set(partitions))
        return self._fail_over

    def check(self) -> None:
        """Raises what the thread died of, if it did."""
        if self._crash is not None:
            raise self._crash

    def join(self, timeout_s: float) -> bool:
        """Wait until everything is sent and answered. False if it takes longer."""
        self._thread.join(timeout_s)
        self.check()
        return not self._thread.is_alive()

    def abort(self) -> None:
        """Stop sending, and do not wait for answers."""
        self._aborted.set()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            began_s = time.monotonic()
            for order in self._orders:
                self._send(order)
                if order.number % BURST == 0:
                    self._keep_pace(began_s)
                if self._aborted.is_set():
                    return
            self._flush()
        except BaseException as error:
            self._crash = error

    def _send(self, order: Order) -> None:
        index = zlib.crc32(order.customer.encode()) % PRODUCER_COUNT
        value = order.value
        self.ledger.add(order.number, value)
        self.waits[index].on_sent(time.monotonic())
        answered = partial(self._on_answered, index, order.number)
        while not self._aborted.is_set():
            try:
                self._producers[index].produce(self._topic, value, order.customer, on_delivery=answered)
                return
            except BufferError:
                self._poll()

    def _keep_pace(self, began_s: float) -> None:
        self._poll()
        while self.sent > self._pace * (time.monotonic() - began_s) and not self._aborted.is_set():
            self._poll()
            time.sleep(POLL_S)

    def _poll(self) -> None:
        for producer in self._producers:
            producer.poll(0)

    def _flush(self) -> None:
        deadline = time.monotonic() + FLUSH_TIMEOUT_S
        while any(wait.outstanding for wait in self.waits) and time.monotonic() < deadline and not self._aborted.is_set():
            self._poll()
            time.sleep(POLL_S)

    def _on_answered(self, index: int, number: int, error: KafkaError | None, message: Message) -> None:
        now = time.monotonic()
        self.waits[index].on_answered(now)
        if error is not None:
            self.failed += 1
            self.first_error = self.first_error or error
            return
        self.ledger.is_acknowledged[number] = 1
        self.acknowledged += 1
        if self._fail_over is not None and self._fail_over.pending:
            partition = message.partition()
            assert partition is not None, "an acknowledged message without its partition"
            self._fail_over.on_acknowledged(partition, number, now)
