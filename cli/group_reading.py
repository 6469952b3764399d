"""Reading as a member of a consumer group: what `quorumlog consume --group` does."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

POLL_S = 0.2
BATCH_MAX = 500


@dataclass(slots=True)
class GroupReading:
    """One membership, with its limits. What was taken is committed every few seconds, and when the consumer is closed."""

    consumer: Consumer
    topic: str
    count_max: int | None
    timeout_s: float | None
    count: int = 0

    @property
    def is_short(self) -> bool:
        """True if it stopped with fewer records than were asked for, by its time-out."""
        return self.count_max is not None and self.count < self.count_max

    def messages(self) -> Iterator[Message]:
        """Records as they come, each counted as read once the next one is asked for. Raises KafkaException."""
        self.consumer.subscribe([self.topic])
        last_record_s = time.monotonic()
        while self.timeout_s is None or time.monotonic() - last_record_s <= self.timeout_s:
            for message in self.consumer.consume(self._room(), POLL_S):
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                last_record_s = time.monotonic()
                yield message
                self._count_as_read(message)
            if self.count == self.count_max:
                return

    def _count_as_read(self, message: Message) -> None:
        self.count += 1
        try:
            self.consumer.store_offsets(message=message)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            # A rebalance gave the partition to another member, which reads this record again.

    def _room(self) -> int:
        """No more than is wanted: what is taken and not printed would be read again by the group, but later."""
        return BATCH_MAX if self.count_max is None else min(BATCH_MAX, self.count_max - self.count)
