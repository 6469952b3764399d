"""A producer and a consumer that do nothing wrong, beside whatever a test does to the cluster."""

import statistics
import threading
import time
from types import TracebackType
from typing import Any, Self

import confluent_kafka

from tests.events import create_topic


class Bystander:
    """Sends one record after the other with acks=all, waits until it has come back, and remembers how long each took.

    It runs for the time of the `with` block. Any error, a closed connection included, is one of `complaints`.
    """

    def __init__(self, bootstrap: str, topic: str = "bystander") -> None:
        create_topic(bootstrap, topic, partitions=3)
        self.topic = topic
        self.complaints: list[str] = []
        self.round_trips_s: list[float] = []
        self._stop = threading.Event()
        quiet = {"bootstrap.servers": bootstrap, "error_cb": self._on_error, "logger": _Silent()}
        self._producer = confluent_kafka.Producer(quiet | {"acks": "all", "enable.idempotence": True, "linger.ms": 0})
        self._consumer = confluent_kafka.Consumer(
            quiet | {"group.id": "bystander", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        )
        self._consumer.assign([confluent_kafka.TopicPartition(topic, index, 0) for index in range(3)])
        self._thread = threading.Thread(target=self._run, name="bystander")

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_round_trips(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self._stop.set()
        self._thread.join(60)
        self._consumer.close()

    def wait_round_trips(self, count: int, timeout_s: float = 60.0) -> None:
        """So many more from now on."""
        target, deadline = len(self.round_trips_s) + count, time.monotonic() + timeout_s
        while len(self.round_trips_s) < target and not self.complaints:
            assert time.monotonic() < deadline, f"{len(self.round_trips_s)} of {target} round trips after {timeout_s} s"
            time.sleep(0.01)

    def judge(self, *, since: int = 0, median_s: float = 0.5, worst_s: float = 5.0) -> None:
        """It has noticed nothing: no error, and no round trip that took long."""
        assert not self.complaints, self.complaints
        took = self.round_trips_s[since:]
        assert took, "no round trip at all"
        assert statistics.median(took) < median_s, f"median {statistics.median(took):.3f} s of {len(took)}"
        assert max(took) < worst_s, f"worst {max(took):.3f} s of {len(took)}"

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set() and not self.complaints:
            started = time.monotonic()
            value = b"%d" % number
            self._producer.produce(self.topic, value, on_delivery=self._on_delivery)
            if self._producer.flush(30):
                self.complaints.append(f"record {number} was not acknowledged within 30 s")
            elif not self._comes_back(value):
                self.complaints.append(f"record {number} did not come back within 30 s")
            self.round_trips_s.append(time.monotonic() - started)
            number += 1
            self._stop.wait(0.005)

    def _comes_back(self, value: bytes) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            if message is not None and message.error() is None and message.value() == value:
                return True
        return False

    def _on_delivery(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.complaints.append(f"delivery failed: {error}")

    def _on_error(self, error: Any) -> None:
        self.complaints.append(f"client error: {error}")


class _Silent:
    def log(self, *_: object) -> None:
        """What the library logs is told to the error callback as well, where it is an error."""
