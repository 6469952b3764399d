"""Production that goes on while faults are made: three clients under one shape, and the loop that strikes in the middle."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import aiokafka
import kafka

from tests.events import Event, EventProducer, Promises, number_of

Fault = Callable[[], None]
CHUNK = 500  # events that cross into aiokafka's loop together
IN_FLIGHT_MAX = 20_000


class Client(Protocol):
    """A producer that remembers what it was promised."""

    promises: Promises

    def send(self, key: bytes, value: bytes) -> None: ...
    def poll(self, timeout_s: float = 0.0) -> None: ...
    def flush(self, timeout_s: float = 120.0) -> int: ...
    def close(self) -> None: ...


class ConfluentClient(EventProducer):
    """confluent-kafka, idempotent."""

    def close(self) -> None:
        """librdkafka ends with its last reference."""


class KafkaPythonClient:
    """kafka-python, idempotent."""

    def __init__(self, bootstrap: str, topic: str, **config: object) -> None:
        self.promises = Promises()
        self._topic = topic
        settings: dict[str, object] = {"acks": "all", "enable_idempotence": True, "linger_ms": 5, "max_block_ms": 120_000}
        self._producer = kafka.KafkaProducer(bootstrap_servers=bootstrap.split(","), **(settings | config))
        self._unanswered = threading.BoundedSemaphore(IN_FLIGHT_MAX)

    def send(self, key: bytes, value: bytes) -> None:
        assert self._unanswered.acquire(timeout=120), "no answer for two minutes"
        number = number_of(value)
        sent = self._producer.send(self._topic, value, key=key)
        sent.add_callback(self._on_stored, number)
        sent.add_errback(self._on_failed, number)

    def poll(self, timeout_s: float = 0.0) -> None:
        """It answers from a thread of its own."""
        threading.Event().wait(timeout_s)

    def flush(self, timeout_s: float = 120.0) -> int:
        self._producer.flush(timeout_s)
        return 0

    def close(self) -> None:
        self._producer.close(10)

    def _on_stored(self, number: int, metadata: Any) -> None:
        self.promises.acknowledged[number] = (metadata.partition, metadata.offset)
        self._unanswered.release()

    def _on_failed(self, number: int, error: BaseException) -> None:
        self.promises.failed[number] = repr(error)
        self._unanswered.release()


class AiokafkaClient:
    """aiokafka, idempotent, on a loop in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.promises = Promises()
        self._topic = topic
        self._chunk: list[Event] = []
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start(bootstrap), 30)

    def send(self, key: bytes, value: bytes) -> None:
        self._chunk.append((key, value))
        if len(self._chunk) == CHUNK:
            self._send_chunk()

    def poll(self, timeout_s: float = 0.0) -> None:
        """It answers from its loop."""
        threading.Event().wait(timeout_s)

    def flush(self, timeout_s: float = 120.0) -> int:
        self._send_chunk()
        self._run(self._producer.flush(), timeout_s)
        return len(self._unanswered)

    def close(self) -> None:
        self._run(self._producer.stop(), 30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _start(self, bootstrap: str) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, request_timeout_ms=60_000
        )
        await self._producer.start()

    def _send_chunk(self) -> None:
        chunk, self._chunk = self._chunk, []
        self._run(self._send_all(chunk), 120)

    async def _send_all(self, chunk: Sequence[Event]) -> None:
        for key, value in chunk:
            sent = await self._producer.send(self._topic, value, key=key)
            self._unanswered.add(sent)
            sent.add_done_callback(functools.partial(self._on_answer, number_of(value)))

    def _on_answer(self, number: int, answer: "asyncio.Future[Any]") -> None:
        self._unanswered.discard(answer)
        if answer.exception() is not None:
            self.promises.failed[number] = repr(answer.exception())
        else:
            self.promises.acknowledged[number] = (answer.result().partition, answer.result().offset)


def produce_through(client: Client, events: Iterable[Event], count: int, faults: Sequence[Fault]) -> Promises:
    """Send `count` events and make the faults on the way, evenly spread, each while records are in flight.

    Production waits at the place of a fault only if the one before is not healed yet. Raises what a fault raises.
    """
    places = {count * turn // (len(faults) + 1): fault for turn, fault in enumerate(faults, 1)}
    under_way: Future[None] | None = None
    with ThreadPoolExecutor(1) as hands:
        for number, (key, value) in enumerate(events):
            if number in places:
                _wait(client, under_way)
                under_way = hands.submit(places[number])
            client.send(key, value)
            if number % 100 == 0:
                client.poll()
        _wait(client, under_way)
        left = client.flush()
    assert left == 0, f"{left} events were neither acknowledged nor refused"
    client.close()
    return client.promises


def _wait(client: Client, under_way: "Future[None] | None") -> None:
    while under_way is not None and not under_way.done():
        client.poll(0.05)
    if under_way is not None:
        under_way.result()
