"""A group of one consumer that goes back and forth in a topic as it likes: two clients in one shape."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import kafka
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

PATIENCE_S = 120.0
Records = Iterator[tuple[int, int]]  # (partition, offset)


class Rewinder(Protocol):
    """Member of a group that has all partitions of the topic."""

    def to_offset(self, offset: int) -> None:
        """In each partition."""
        ...

    def to_time(self, timestamp_ms: int) -> None: ...
    def to_start(self) -> None: ...
    def to_end(self) -> None: ...
    def positions(self) -> list[int]: ...
    def poll(self) -> Records: ...
    def commit(self, offset: int) -> None: ...
    def committed(self) -> list[int]: ...
    def close(self) -> None: ...


def read(rewinder: Rewinder, partitions: Sequence[int], count: int) -> dict[int, list[int]]:
    """The offsets of the next so many records of each partition."""
    found: dict[int, list[int]] = {partition: [] for partition in partitions}
    deadline = time.monotonic() + PATIENCE_S
    while any(len(offsets) < count for offsets in found.values()):
        assert time.monotonic() < deadline, f"of {count} records came {found}"
        for partition, offset in rewinder.poll():
            found[partition].append(offset)
    return {partition: offsets[:count] for partition, offsets in found.items()}


class ConfluentRewinder:
    def __init__(self, bootstrap: str, group: str, topic: str, protocol: str, partitions: Sequence[int]) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "group.protocol": protocol,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        self._places = [TopicPartition(topic, partition) for partition in partitions]
        self._consumer.subscribe([topic])
        self._early: list[tuple[int, int]] = []  # what came before all was assigned
        _wait(lambda: self._early.extend(list(self.poll())), lambda: len(self._consumer.assignment()) == len(partitions))

    def to_offset(self, offset: int) -> None:
        self._seek([TopicPartition(place.topic, place.partition, offset) for place in self._places])

    def to_time(self, timestamp_ms: int) -> None:
        asked = [TopicPartition(place.topic, place.partition, timestamp_ms) for place in self._places]
        self._seek(self._consumer.offsets_for_times(asked, timeout=30))

    def to_start(self) -> None:
        self.to_offset(OFFSET_BEGINNING)

    def to_end(self) -> None:
        self.to_offset(OFFSET_END)

    def _seek(self, places: Sequence[TopicPartition]) -> None:
        """Refused for a moment, while the client begins to fetch what it was assigned."""
        for place in places:
            _wait(lambda: time.sleep(0.02), lambda place=place: self._sought(place))  # type: ignore[misc]

    def _sought(self, place: TopicPartition) -> bool:
        try:
            self._consumer.seek(place)
        except KafkaException:
            return False
        return True

    def positions(self) -> list[int]:
        """Where it stands is known only by reading: at the end, by asking where that is."""
        return [self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in self._places]

    def poll(self) -> Records:
        while self._early:
            yield self._early.pop(0)
        for message in self._consumer.consume(500, timeout=0.05):
            assert message.error() is None, message.error()
            yield message.partition(), message.offset()  # type: ignore[misc]

    def commit(self, offset: int) -> None:
        places = [TopicPartition(place.topic, place.partition, offset) for place in self._places]
        self._consumer.commit(offsets=places, asynchronous=False)

    def committed(self) -> list[int]:
        return [place.offset for place in self._consumer.committed(self._places, timeout=30)]

    def close(self) -> None:
        self._consumer.close()


class KafkaPythonRewinder:
    def __init__(self, bootstrap: str, group: str, topic: str, partitions: Sequence[int]) -> None:
        self._consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap.split(","), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._places = [kafka.TopicPartition(topic, partition) for partition in partitions]
        self._consumer.partitions_for_topic(topic)  # or it joins twice, and may lose its assignment (3.0.12)
        self._consumer.subscribe([topic])
        self._early: list[tuple[int, int]] = []  # what came before all was assigned
        self._poll_ms = 1_000  # a poll that ends before the join does is how it loses it
        _wait(lambda: self._early.extend(list(self.poll())), lambda: len(self._consumer.assignment()) == len(partitions))
        self._poll_ms = 50

    def to_offset(self, offset: int) -> None:
        for place in self._places:
            self._consumer.seek(place, offset)

    def to_time(self, timestamp_ms: int) -> None:
        for place, found in self._consumer.offsets_for_times(dict.fromkeys(self._places, timestamp_ms)).items():
            self._consumer.seek(place, found.offset)

    def to_start(self) -> None:
        self._consumer.seek_to_beginning(*self._places)

    def to_end(self) -> None:
        self._consumer.seek_to_end(*self._places)

    def positions(self) -> list[int]:
        return [self._consumer.position(place) for place in self._places]

    def poll(self) -> Records:
        while self._early:
            yield self._early.pop(0)
        for place, records in self._consumer.poll(timeout_ms=self._poll_ms).items():
            for record in records:
                yield place.partition, record.offset

    def commit(self, offset: int) -> None:
        self._consumer.commit({place: kafka.OffsetAndMetadata(offset, "", -1) for place in self._places})

    def committed(self) -> list[int]:
        return [self._consumer.committed(place) for place in self._places]

    def close(self) -> None:
        self._consumer.close(autocommit=False)


def _wait(step: Callable[[], Any], done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"not done within {PATIENCE_S} s"
        step()
