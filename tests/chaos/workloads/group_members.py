"""Members of consumer groups, on librdkafka: each a thread, which leaves now and then and comes back as another member.

    subscribe -> poll, process, commit what was processed, one commit at a time -> close -> ...

What is processed is committed afterwards, so that a record may be processed twice, and never not at all.
"""

import contextlib
import random
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from .group_watch import GroupWatch, Key
from .values import name_in

POLL_S = 0.1
RECORDS_MAX = 500
COMMIT_EVERY_S = 0.5
COMMIT_GIVEN_UP_S = 20.0  # nothing was heard of it
# An OffsetFetch that is refused as a whole (NOT_COORDINATOR) is never sent again by librdkafka 2.16, its issue 5586: the member
# heartbeats on, reads nothing, and does not even give up what it shall. Only a fresh client helps.
SILENT_S = 15.0
LIVES_S = (6.0, 20.0)
PAUSE_S = 0.3
ASK_EVERY_S = 0.5
ASK_S = 3.0


class Life:
    """A member from its first join to its leaving. Used by one thread, which serves all callbacks as it polls."""

    def __init__(self, name: str, watch: GroupWatch, topic: str, settings: dict[str, object]) -> None:
        self._name = name
        self._watch = watch
        self._next: dict[Key, int] = {}
        self._committed: dict[Key, int] = {}
        self._silent_since: dict[Key, float] = {}  # what was assigned and brought nothing yet
        self._pending: tuple[str, dict[Key, int], float] | None = None
        self._commits = 0
        self._commit_at = 0.0
        self.is_broken = False
        self._consumer = Consumer({**settings, "on_commit": self._on_commit})
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def turn(self) -> None:
        """Read for a moment, and commit when it is due."""
        message = self._consumer.poll(POLL_S)
        messages = [] if message is None else [message, *self._consumer.consume(RECORDS_MAX, 0.0)]
        for one in messages:
            self._take(one)
        now = time.monotonic()
        self.is_broken |= any(now > since + SILENT_S for since in self._silent_since.values())
        if self._pending is not None:
            self.is_broken |= now > self._commit_at + COMMIT_GIVEN_UP_S
        elif now >= self._commit_at:
            self._commit_at = now + COMMIT_EVERY_S
            self._commit()

    def close(self) -> None:
        with contextlib.suppress(KafkaException, RuntimeError):  # it is gone in any case
            self._consumer.close()
        self._watch.given_up(self._name)

    def _take(self, message: Message) -> None:
        if (error := message.error()) is not None:
            self.is_broken |= error.fatal()
            return
        key = (message.topic() or "", message.partition() or 0)
        offset = message.offset() or 0
        self._watch.processed(self._name, key, [(offset, name_in(message.key(), message.value()))])
        self._next[key] = offset + 1
        self._silent_since.pop(key, None)

    def _commit(self) -> None:
        new = {key: offset for key, offset in self._next.items() if self._committed.get(key) != offset}
        if not new:
            return
        self._commits += 1
        token = f"{self._name}.{self._commits}"
        self._pending = (token, new, self._watch.committing(token, new))
        places = [TopicPartition(topic, number, offset, token) for (topic, number), offset in new.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException:  # it was not sent
            self._pending = None

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        """One is under way at most, so it is that one. What failed may have been stored."""
        pending, self._pending = self._pending, None
        if pending is None or error is not None or any(place.error is not None for place in places):
            return
        token, offsets, asked_at = pending
        self._watch.committed(self._name, token, offsets, asked_at)
        self._committed |= offsets

    def _on_assign(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        keys = _keys(places)
        self._silent_since |= dict.fromkeys(keys, time.monotonic())
        self._watch.told(self._name, keys)

    def _on_revoke(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        """Also when they are lost: another may have them for long."""
        keys = _keys(places)
        for key in keys:
            self._next.pop(key, None)
            self._committed.pop(key, None)
            self._silent_since.pop(key, None)
        self._watch.given_up(self._name, keys)


def _keys(places: list[TopicPartition]) -> list[Key]:
    return [(place.topic, place.partition) for place in places]


class GroupMember(threading.Thread):
    """Owned by `Running`, which starts it and ends it with `finish`."""

    def __init__(
        self, place: int, watch: GroupWatch, topic: str, settings: dict[str, object], *, stays: bool, rng: random.Random
    ) -> None:
        super().__init__(name=f"member {place} of {watch.name}", daemon=True)
        self.failure: BaseException | None = None
        self._place = place
        self._watch = watch
        self._topic = topic
        self._settings = settings
        self._stays = stays
        self._rng = rng
        self._ending = threading.Event()

    def finish(self) -> None:
        """Leave for good."""
        self._ending.set()

    def run(self) -> None:
        try:
            number = 0
            while not self._ending.is_set():
                number += 1
                self._live(f"{self._watch.name}-{self._place}.{number}")
                self._ending.wait(PAUSE_S)
        except BaseException as error:
            self.failure = error

    def _live(self, name: str) -> None:
        until = float("inf") if self._stays else time.monotonic() + self._rng.uniform(*LIVES_S)
        life = Life(name, self._watch, self._topic, self._settings)
        try:
            while not (self._ending.is_set() or life.is_broken or time.monotonic() > until):
                life.turn()
        finally:
            life.close()


class Asker(threading.Thread):
    """Somebody outside the group, who asks again and again what it has committed. Owned as a member is."""

    def __init__(self, watch: GroupWatch, settings: dict[str, object]) -> None:
        super().__init__(name=f"asker of {watch.name}", daemon=True)
        self.failure: BaseException | None = None
        self._watch = watch
        self._settings = settings
        self._ending = threading.Event()

    def finish(self) -> None:
        self._ending.set()

    def run(self) -> None:
        try:
            consumer = Consumer(self._settings)
            try:
                while not self._ending.wait(ASK_EVERY_S):
                    self._ask(consumer)
                self._ask(consumer)
            finally:
                consumer.close()
        except BaseException as error:
            self.failure = error

    def _ask(self, consumer: Consumer) -> None:
        asked_at = self._watch.now()
        wanted = [TopicPartition(topic, number) for topic, number in self._watch.keys]
        try:
            found = consumer.committed(wanted, timeout=ASK_S)
        except KafkaException:  # nobody answers for now
            return
        for place in found:
            if place.error is None:
                offset = max(place.offset, -1)
                self._watch.told_committed((place.topic, place.partition), place.metadata or "", offset, asked_at)
