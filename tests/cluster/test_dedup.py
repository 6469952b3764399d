"""Events that services send again, after restarts and fail-overs: with `quorumlog.dedup.window.ms` each is in the log once."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import aiokafka
import kafka
import pytest
from confluent_kafka import Message, Producer

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import leaders_of, wait_in_sync
from tests.cluster.raw import bugs_in
from tests.events import create_topic, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "payments"
PARTITIONS = 3
EVENTS = 1_200
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 0}) as cluster:
        config = {"min.insync.replicas": "2", "quorumlog.dedup.window.ms": "3600000"}
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS, config=config)
        yield cluster
        assert not bugs_in(cluster)


class Service:
    """One life of a service that sends the events of its database: it has no idea which of them it has sent before."""

    def __init__(self, cluster: LocalCluster, **settings: object) -> None:
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all", "log_level": 0, **settings})
        self.places: dict[int, tuple[int, int]] = {}  # of each event, as it was answered
        self.failed: list[str] = []

    def send(self, numbers: range) -> None:
        for number in numbers:
            self._producer.produce(
                TOPIC,
                str(number).encode(),
                partition=number % PARTITIONS,
                headers={"event-id": f"payment-{number}"},
                on_delivery=lambda error, message, number=number: self._told(number, error, message),
            )
            self._producer.poll(0)

    def finish(self) -> dict[int, tuple[int, int]]:
        assert self._producer.flush(TIMEOUT_S) == 0
        assert self.failed == []
        return self.places

    def _told(self, number: int, error: object, message: Message) -> None:
        if error is not None:
            self.failed.append(str(error))
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.places[number] = partition, offset


def test_each_event_is_there_once(cluster: LocalCluster) -> None:
    """Sent by four lives of a service, in batches that overlap, plain and idempotent, while leaders die."""
    lives = [
        (range(EVENTS // 2), {}),
        (range(EVENTS), {"enable.idempotence": True}),
        (range(EVENTS // 3, EVENTS), {"compression.type": "zstd", "enable.idempotence": True}),
        (range(EVENTS), {"linger.ms": 0, "batch.num.messages": 1}),  # alone in its batch an event is answered exactly
    ]
    for number, (events, settings) in enumerate(lives):
        service = Service(cluster, **settings)
        middle = (events.start + events.stop) // 2
        service.send(range(events.start, middle))
        killed = leaders_of(cluster.bootstrap_servers, TOPIC)[number % PARTITIONS]
        cluster.kill(killed)
        service.send(range(middle, events.stop))
        places = service.finish()
        cluster.start(killed)
        wait_in_sync(cluster.bootstrap_servers, TOPIC)
    found = read_all(cluster.bootstrap_servers, TOPIC)
    assert len(found) == EVENTS
    assert places == {event.number: (event.partition, event.offset) for event in found}


def test_every_library_reads_over_what_was_dropped(cluster: LocalCluster) -> None:
    """Holes in batches, batches without records, also at the end of the log."""
    again = Service(cluster, **{"enable.idempotence": True})
    again.send(range(EVENTS))
    again.finish()
    expected = Counter(str(number).encode() for number in range(EVENTS))

    consumer = kafka.KafkaConsumer(
        TOPIC, bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest", consumer_timeout_ms=5_000
    )
    assert Counter(record.value for record in consumer) == expected
    consumer.close()

    async def read() -> "Counter[bytes]":
        reader = aiokafka.AIOKafkaConsumer(TOPIC, bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest")
        await reader.start()
        try:
            found: Counter[bytes] = Counter()
            while batches := await reader.getmany(timeout_ms=3_000):
                found.update(record.value for records in batches.values() for record in records)
            return found
        finally:
            await reader.stop()

    assert asyncio.run(read()) == expected
