"""What a client on the host was promised, and whether the cluster keeps it."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import confluent_kafka

KEYS = 20
PARTITIONS = 6


class BrokenPromiseError(Exception):
    """A promise that the cluster did not keep; the sentence says which."""


Place = tuple[int | None, int | None]
"""Partition and offset, as the client types them."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the consumer was given."""

    key: str | bytes | None
    number: int
    place: Place


def compare(acknowledged: Mapping[int, Place], records: Iterable[Record]) -> None:
    """Every acknowledged record is there once, where it was acknowledged, in order per key; BrokenPromiseError if not."""
    found: dict[int, Place] = {}
    last_of_key: dict[str | bytes | None, int] = defaultdict(lambda: -1)
    for record in records:
        if record.number in found:
            raise BrokenPromiseError(f"record {record.number} is there twice, at {found[record.number]} and {record.place}")
        if record.number < last_of_key[record.key]:
            raise BrokenPromiseError(f"record {record.number} of {record.key!r} follows record {last_of_key[record.key]}")
        found[record.number], last_of_key[record.key] = record.place, record.number
    differing = sorted(number for number in {*acknowledged, *found} if acknowledged.get(number) != found.get(number))
    if differing:
        raise BrokenPromiseError(
            f"{len(differing)} records are not where they were acknowledged, the first of them {differing[:5]}"
        )


class Ledger:
    """Produces numbered records with acks=all and remembers every acknowledgment; one idempotent producer for its whole life."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topic = topic
        self.acknowledged: dict[int, Place] = {}
        """Where each record was stored, by its number."""
        self.refused: list[str] = []
        self.longest_wait_seconds = 0.0
        """From handing a record to the client to its acknowledgment."""
        self._sent_at: list[float] = []
        settings = {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": 60_000,
        }
        # Nodes die here by intent: the client's lines about lost connections would hide the story.
        self._producer = confluent_kafka.Producer(settings | {"log_level": 2})

    def produce(self, count: int, per_second: int) -> None:
        """Sends the next records at an even pace and waits for every acknowledgment; BrokenPromiseError if one does not come."""
        started = time.monotonic()
        for position in range(count):
            number = len(self._sent_at)
            self._sent_at.append(time.monotonic())
            self._producer.produce(self.topic, key=f"key-{number % KEYS}", value=str(number), on_delivery=self._on_delivery)
            self._producer.poll(max(0.0, started + position / per_second - time.monotonic()))
        self._producer.flush(70)
        missing = len(self._sent_at) - len(self.acknowledged)
        if self.refused or missing:
            raise BrokenPromiseError(f"{missing} of {len(self._sent_at)} records were not acknowledged: {self.refused[:3]}")

    def verify(self) -> None:
        """Reads everything and compares. BrokenPromiseError if it is not what was acknowledged."""
        compare(self.acknowledged, self._read_all())

    def _on_delivery(self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        number = int(message.value() or b"")
        if error is not None:
            self.refused.append(f"record {number}: {error}")
            return
        self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - self._sent_at[number])
        self.acknowledged[number] = (message.partition(), message.offset())

    def _read_all(self) -> list[Record]:
        """Every record, each partition from its beginning to its present end. BrokenPromiseError after 60 seconds."""
        settings = {
            "bootstrap.servers": self.bootstrap_servers,
            "group.id": "compose-test",
            "enable.auto.commit": False,
            "log_level": 2,
        }
        consumer = confluent_kafka.Consumer(settings | {"enable.partition.eof": True})
        try:
            beginning = confluent_kafka.OFFSET_BEGINNING
            consumer.assign([confluent_kafka.TopicPartition(self.topic, number, beginning) for number in range(PARTITIONS)])
            return self._read_to_ends(consumer, deadline=time.monotonic() + 60)
        finally:
            consumer.close()

    @staticmethod
    def _read_to_ends(consumer: confluent_kafka.Consumer, deadline: float) -> list[Record]:
        records: list[Record] = []
        ended: set[int | None] = set()
        while len(ended) < PARTITIONS:
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"after 60 s only partitions {sorted(map(str, ended))} were read to their ends")
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                records.append(Record(message.key(), int(message.value() or b""), (message.partition(), message.offset())))
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                print(f"  consumer: {error}")
        return records
