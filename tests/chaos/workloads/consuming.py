"""Consumers of three client libraries under one shape: partitions by assignment, no group, used by one thread.

`earliest` decides where an offset is that the cluster does not have: a consumer that was thrown back there reads again what it
has read, and the checker calls that by its name.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import aiokafka
import confluent_kafka
import kafka

from .loops import run_bounded

Read = tuple[int, bytes | None, bytes | None]
"""Offset, key and value of a record."""

START_S = 5.0
REQUEST_S = 2.0
RECORDS_MAX = 2_000  # of one poll


class Consumer(Protocol):
    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions and no others, from these offsets on."""
        ...

    def poll(self, timeout_s: float) -> dict[int, list[Read]]: ...

    def ends(self, partitions: list[int], timeout_s: float) -> dict[int, int]:
        """The high watermarks, or the last stable offsets if it reads what is committed.

        Raises what the library raises if it cannot be told in time.
        """
        ...

    def close(self) -> None: ...


class ConfluentConsumer:
    def __init__(self, bootstrap: str, topic: str, *, committed: bool = False) -> None:
        self._topic = topic
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": "by-assignment",  # the client asks for one, and does not use it
            "enable.auto.commit": False,
            "isolation.level": _isolation(committed),
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 200,
            "fetch.error.backoff.ms": 100,
            "socket.timeout.ms": int(REQUEST_S * 1000),
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 5000,
            "log_level": 0,
        }
        self._consumer = confluent_kafka.Consumer(settings)

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign([self._place(partition, offset) for partition, offset in offsets.items()])

    def poll(self, timeout_s: float) -> dict[int, list[Read]]:
        found: defaultdict[int, list[Read]] = defaultdict(list)
        message = self._consumer.poll(timeout_s)
        messages = [] if message is None else [message, *self._consumer.consume(RECORDS_MAX, 0.0)]
        for one in messages:
            if one.error() is None:
                found[one.partition() or 0].append((one.offset() or 0, one.key(), one.value()))
        return dict(found)

    def ends(self, partitions: list[int], timeout_s: float) -> dict[int, int]:
        return {
            partition: self._consumer.get_watermark_offsets(self._place(partition), timeout=timeout_s)[1]
            for partition in partitions
        }

    def close(self) -> None:
        self._consumer.close()

    def _place(self, partition: int, offset: int = confluent_kafka.OFFSET_INVALID) -> confluent_kafka.TopicPartition:
        return confluent_kafka.TopicPartition(self._topic, partition, offset)


class KafkaPythonConsumer:
    def __init__(self, bootstrap: str, topic: str, *, committed: bool = False) -> None:
        self._topic = topic
        self._consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap.split(","),
            group_id=None,
            isolation_level=_isolation(committed),
            auto_offset_reset="earliest",
            fetch_max_wait_ms=200,
            max_poll_records=RECORDS_MAX,
            request_timeout_ms=int(REQUEST_S * 1000),
            bootstrap_timeout_ms=int(START_S * 1000),
            reconnect_backoff_max_ms=1000,
            metadata_max_age_ms=5000,
        )

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign([kafka.TopicPartition(self._topic, partition) for partition in offsets])
        for partition, offset in offsets.items():
            self._consumer.seek(kafka.TopicPartition(self._topic, partition), offset)

    def poll(self, timeout_s: float) -> dict[int, list[Read]]:
        return _by_partition(self._consumer.poll(int(timeout_s * 1000)))

    def ends(self, partitions: list[int], timeout_s: float) -> dict[int, int]:
        places = [kafka.TopicPartition(self._topic, partition) for partition in partitions]
        found = self._consumer.end_offsets(places, timeout_ms=int(timeout_s * 1000))
        return {place.partition: end for place, end in found.items()}

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=int(REQUEST_S * 1000))


class AiokafkaConsumer:
    """Its loop runs while it is polled."""

    def __init__(self, bootstrap: str, topic: str, *, committed: bool = False) -> None:
        self._topic = topic
        self._loop = asyncio.new_event_loop()
        try:
            self._run(self._start(bootstrap, _isolation(committed)), START_S)
        except BaseException:
            self._loop.close()
            raise

    async def _start(self, bootstrap: str, isolation: str) -> None:
        self._consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level=isolation,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=200,
            request_timeout_ms=int(REQUEST_S * 1000),
            metadata_max_age_ms=5000,
        )
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._run(self._assign(offsets), REQUEST_S)

    async def _assign(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign([aiokafka.TopicPartition(self._topic, partition) for partition in offsets])
        for partition, offset in offsets.items():
            self._consumer.seek(aiokafka.TopicPartition(self._topic, partition), offset)

    def poll(self, timeout_s: float) -> dict[int, list[Read]]:
        found = self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=RECORDS_MAX)
        return _by_partition(self._run(found, timeout_s + REQUEST_S))

    def ends(self, partitions: list[int], timeout_s: float) -> dict[int, int]:
        places = [aiokafka.TopicPartition(self._topic, partition) for partition in partitions]
        found = self._run(self._consumer.end_offsets(places), timeout_s)
        return {place.partition: end for place, end in found.items()}

    def close(self) -> None:
        try:
            self._run(self._consumer.stop(), REQUEST_S)
        finally:
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        return run_bounded(self._loop, work, timeout_s)


def _isolation(committed: bool) -> str:
    return "read_committed" if committed else "read_uncommitted"


def _by_partition(polled: Mapping[Any, list[Any]]) -> dict[int, list[Read]]:
    return {
        place.partition: [(one.offset, one.key, one.value) for one in records] for place, records in polled.items() if records
    }


CONSUMERS: dict[str, Callable[..., Consumer]] = {
    "confluent-kafka": ConfluentConsumer,
    "kafka-python": KafkaPythonConsumer,
    "aiokafka": AiokafkaConsumer,
}
