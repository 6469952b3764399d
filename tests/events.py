"""Events through a real client and back: what was promised, what is there, and whether the two agree.

Shared by the cluster tests, the chaos rounds and the benchmarks. Each event is a key and a value; its number, counted from
zero in the order of production, stands in the value's first 12 digits, so that nothing needs to be remembered to judge it.
"""

import csv
import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

NUMBER_DIGITS = 12
Event = tuple[bytes, bytes]


def numbered(events: Iterable[Event]) -> Iterator[Event]:
    """Put each event's number in front of its value."""
    for number, (key, value) in enumerate(events):
        yield key, b"%012d " % number + value


def order_lines(path: str, limit: int | None = None) -> Iterator[Event]:
    """The real order lines, keyed by customer, as JSON."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.DictReader(file)):
            if number == limit:
                return
            yield line["CustomerID"].encode(), json.dumps(line).encode()


def made_up(count: int, *, keys: int = 500, size: int = 100) -> Iterator[Event]:
    for number in range(count):
        yield b"key-%d" % (number * 7919 % keys), b"x" * size


def create_topic(bootstrap: str, name: str, *, partitions: int, config: dict[str, str] | None = None, replicas: int = 3) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=config or {"min.insync.replicas": "2"})
    admin.create_topics([topic], request_timeout=20)[name].result(30)


@dataclass(slots=True)
class Promises:
    """What the cluster acknowledged: event number -> (partition, offset)."""

    acknowledged: dict[int, tuple[int, int]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    acknowledged_at: list[float] = field(default_factory=list)

    @property
    def longest_silence_s(self) -> float:
        """The longest time between two acknowledgments."""
        times = self.acknowledged_at
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


class EventProducer:
    """confluent-kafka with acks=all and idempotence, remembering each acknowledgment."""

    def __init__(self, bootstrap: str, topic: str, **config: object) -> None:
        settings: dict[str, object] = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 120_000,
            "queue.buffering.max.messages": 200_000,
        }
        self.promises = Promises()
        self._topic = topic
        self._producer = confluent_kafka.Producer(settings | {name.replace("_", "."): value for name, value in config.items()})

    def send(self, key: bytes, value: bytes) -> None:
        """`value` begins with its number (see `numbered`)."""
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._on_delivery)
                return
            except BufferError:
                self._producer.poll(0.05)

    def poll(self, timeout_s: float = 0.0) -> None:
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float = 120.0) -> int:
        """Wait until everything is answered; how many were not."""
        return int(self._producer.flush(timeout_s))

    def _on_delivery(self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        number = number_of(message.value())
        if error is not None:
            self.promises.failed[number] = str(error)
            return
        self.promises.acknowledged[number] = (message.partition(), message.offset())
        self.promises.acknowledged_at.append(time.monotonic())


def produce_all(
    bootstrap: str,
    topic: str,
    events: Iterable[Event],
    *,
    on_progress: Callable[[int], None] | None = None,
    **config: object,
) -> Promises:
    """Send all, wait for all; `on_progress(count)` is called after every 1,000 sent."""
    producer = EventProducer(bootstrap, topic, **config)
    for number, (key, value) in enumerate(events):
        producer.send(key, value)
        if number % 100 == 0:
            producer.poll()
        if on_progress is not None and number % 1000 == 999:
            on_progress(number + 1)
    left = producer.flush()
    assert left == 0, f"{left} events were neither acknowledged nor refused"
    return producer.promises


def number_of(value: bytes) -> int:
    return int(value[:NUMBER_DIGITS])


@dataclass(frozen=True, slots=True)
class Found:
    partition: int
    offset: int
    key: bytes
    number: int


def read_all(bootstrap: str, topic: str, *, timeout_s: float = 120.0, **config: object) -> list[Found]:
    """Every record of the topic, each partition from its start to its present end."""
    settings: dict[str, object] = {
        "bootstrap.servers": bootstrap,
        "group.id": "events",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    consumer = confluent_kafka.Consumer(settings | {name.replace("_", "."): value for name, value in config.items()})
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        beginning = confluent_kafka.OFFSET_BEGINNING
        consumer.assign([confluent_kafka.TopicPartition(topic, index, beginning) for index in partitions])
        return _read_to_ends(consumer, set(partitions), time.monotonic() + timeout_s)
    finally:
        consumer.close()


def _read_to_ends(consumer: confluent_kafka.Consumer, open_partitions: set[int], deadline: float) -> list[Found]:
    found: list[Found] = []
    while open_partitions:
        assert time.monotonic() < deadline, f"partitions {sorted(open_partitions)} were not read to their ends"
        for message in consumer.consume(10_000, 0.5):
            error = message.error()
            if error is None:
                found.append(Found(message.partition(), message.offset(), message.key() or b"", number_of(message.value())))
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many acknowledged events are missing, are there more than once, or stand behind a later one of their key.

    Order is judged within a partition, which is where Kafka promises it: an empty key does not pick one for most clients.
    """

    acknowledged: int
    lost: int
    twice: int
    out_of_order: int
    misplaced: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.out_of_order or self.misplaced)


def judge(promises: Promises, found: Iterable[Found], *, strict_offsets: bool = True) -> Verdict:
    """Compare. An event that was not acknowledged may be there or not, but never twice."""
    places: dict[int, tuple[int, int]] = {}
    last_of_key: dict[tuple[int, bytes], int] = {}
    twice = out_of_order = 0
    for one in sorted(found, key=lambda one: (one.partition, one.offset)):
        if one.number in places:
            twice += 1
            continue
        places[one.number] = (one.partition, one.offset)
        last = last_of_key.get((one.partition, one.key), -1)
        out_of_order += one.number < last
        last_of_key[one.partition, one.key] = max(one.number, last)
    lost = sum(number not in places for number in promises.acknowledged)
    misplaced = 0
    if strict_offsets:
        misplaced = sum(
            places[number] != place for number, place in promises.acknowledged.items() if number in places and place[1] >= 0
        )
    return Verdict(len(promises.acknowledged), lost, twice, out_of_order, misplaced)
