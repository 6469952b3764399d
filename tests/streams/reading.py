"""What an engine wrote, as a consumer of committed records sees it."""

import json
import time

import confluent_kafka

from tests.streams.judging import Told

END_TIMEOUT_S = 60.0
BATCH = 10_000


class Reader:
    """Reads a topic from its start, all partitions by itself. `close` it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.told: list[Told] = []
        self._at_end: set[int] = set()  # partitions that have been read to an end
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"judge-of-{topic}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        self._partitions = sorted(self._consumer.list_topics(topic, timeout=60).topics[topic].partitions)
        places = [confluent_kafka.TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING) for number in self._partitions]
        self._consumer.assign(places)

    def close(self) -> None:
        self._consumer.close()

    def take(self, timeout_s: float = 0.1) -> int:
        """Read on, for as long; how many records were there."""
        count = 0
        for message in self._consumer.consume(BATCH, timeout_s):
            error = message.error()
            if error is None:
                self._keep(message)
                count += 1
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                self._at_end.add(message.partition() or 0)
        return count

    def to_ends(self) -> None:
        """Read on until each partition has been read to its end, which must not move any more. Raises TimeoutError."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while len(self._at_end) < len(self._partitions):
            if time.monotonic() > deadline:
                raise TimeoutError(f"read only {sorted(self._at_end)} of {self.topic} to the end in {END_TIMEOUT_S:.0f} s")
            self.take(0.5)

    def _keep(self, message: confluent_kafka.Message) -> None:
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None and value is not None, (
            f"{self.topic}-{partition} at {offset} has no value"
        )
        self.told.append(Told(partition, offset, (message.key() or b"").decode(), json.loads(value)))
