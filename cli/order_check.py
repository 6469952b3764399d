"""The demo's judge: reads everything back and holds it against the ledger of what was sent."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from quorumlog.cli import kafka
from quorumlog.cli.order_stream import Ledger
from quorumlog.cli.orders import event_number

BATCH_MAX = 1000
POLL_S = 0.2
IDLE_TIMEOUT_S = 20.0
SEEN_MAX = 255


class ReadBackError(Exception):
    """The topic could not be read to its end."""


@dataclass(slots=True)
class Verdict:
    """What is wrong, in numbers; a cluster that keeps its promise has only zeros besides `read`."""

    read: int = 0
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    altered: int = 0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.twice or self.out_of_order or self.altered)


@dataclass(slots=True)
class Judge:
    """Takes the records partition by partition in their order and compares them with the ledger."""

    ledger: Ledger
    verdict: Verdict = field(default_factory=Verdict)
    _seen: bytearray = field(default_factory=bytearray)
    _latest: dict[bytes, int] = field(default_factory=dict)

    def on_record(self, key: bytes, value: bytes) -> None:
        self.verdict.read += 1
        number = self._known_number(value)
        if number is None:
            self.verdict.altered += 1
        elif self._times_seen(number) > 1:
            self.verdict.twice += 1
        elif number < self._latest.get(key, -1):
            self.verdict.out_of_order += 1
        else:
            self._latest[key] = number

    def finish(self) -> Verdict:
        """The verdict, once all records were taken: what was acknowledged must have been seen."""
        seen = self._seen.ljust(len(self.ledger), b"\0")
        acknowledged = self.ledger.is_acknowledged
        self.verdict.lost = sum(1 for number, is_due in enumerate(acknowledged) if is_due and not seen[number])
        return self.verdict

    def _known_number(self, value: bytes) -> int | None:
        """The order's number, or None if these are not the bytes that were sent under it."""
        try:
            number = event_number(value)
        except ValueError:
            return None
        is_known = 0 <= number < len(self.ledger) and self.ledger.checksums[number] == zlib.crc32(value)
        return number if is_known else None

    def _times_seen(self, number: int) -> int:
        if len(self._seen) < len(self.ledger):
            self._seen = bytearray(len(self.ledger))
        self._seen[number] = min(self._seen[number] + 1, SEEN_MAX)
        return self._seen[number]


def read_back(bootstrap_servers: str, topic: str, ledger: Ledger, on_wait: Callable[[], None] = lambda: None) -> Verdict:
    """Read the topic from its beginning to its end and judge it. Raises ReadBackError, KafkaException, what `on_wait` does."""
    consumer = kafka.consumer(bootstrap_servers, {"check.crcs": True})
    try:
        partitions = [TopicPartition(topic, number) for number in kafka.topic_metadata(consumer, topic).partitions]
        judge = Judge(ledger)
        _read_to_end(consumer, partitions, judge, on_wait)
        return judge.finish()
    finally:
        consumer.close()


def _read_to_end(consumer: Consumer, partitions: Sequence[TopicPartition], judge: Judge, on_wait: Callable[[], None]) -> None:
    ends = {partition.partition: kafka.watermarks(consumer, partition)[1] for partition in partitions}
    consumer.assign([TopicPartition(partition.topic, partition.partition, OFFSET_BEGINNING) for partition in partitions])
    waiting = {number for number, end in ends.items() if end > 0}
    last_record_s = time.monotonic()
    while waiting:
        on_wait()
        for message in consumer.consume(BATCH_MAX, POLL_S):
            error, number, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                raise KafkaException(error)
            assert number is not None and offset is not None, "a consumed message without its place"
            judge.on_record(message.key() or b"", message.value() or b"")
            last_record_s = time.monotonic()
            if offset + 1 >= ends[number]:
                waiting.discard(number)
        if time.monotonic() - last_record_s > IDLE_TIMEOUT_S:
            raise ReadBackError(f"no record for {IDLE_TIMEOUT_S:g} s, partitions {sorted(waiting)} are not read to their end")
