"""Threads that read one topic as members of a group and write what they make of each record to another, each exactly once.

    poll -> begin -> send -> send_offsets_to_transaction -> commit      (or abort, and read again)

What comes out of a record is its name and the attempt's: so it can be told of each record read from the other topic what it was
made of, and in which transaction. Group and transactions have different coordinators, which die as they like; a member who
cannot go on, or gets nothing for long, is replaced by a fresh one with the same transactional id.
"""

import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from quorumlog.checker.history import Operation, Outcome, Poll, Send

from .groups import CLASSIC, settings_of
from .record import Record
from .transacting import ConfluentTransactions, Unusable
from .transactors import Attempt
from .values import name_in, seal

logger = logging.getLogger(__name__)

MADE_OF = ">"
ENDS = ("commit",) * 16 + ("abort",) * 3 + ("leave",)
POLL_S = 0.1
BATCH_MAX = 40
SILENT_S = 15.0  # then somebody else may be told more (librdkafka's issue 5586, see group_members.py)
LIVES_S = (8.0, 30.0)
PAUSE_S = 0.3
SEEK_S = 3.0
SHOWN_MAX = 5


class Life:
    """A member with its transactional producer, until one of them cannot go on. Used by one thread, within whose polls all
    callbacks come."""

    def __init__(
        self,
        name: str,
        record: Record,
        client: ConfluentTransactions,
        settings: Mapping[str, object],
        *,
        source: str,
        target: str,
    ) -> None:
        self._name = name
        self._record = record
        self._client = client
        self._source, self._target = source, target
        self._process = record.new_process()
        self._moves = 0
        self._batch: dict[int, list[tuple[int, str]]] = {}
        self._rebalanced: set[int] = set()
        self.heard_at = time.monotonic()
        invoked = record.now()
        self._consumer = Consumer(dict(settings))
        self._consumer.subscribe([source], on_assign=self._on_given, on_revoke=self._on_taken, on_lost=self._on_taken)
        record.moved(self._process, "subscribe", invoked, [source])

    def turn(self, draw: Callable[[], str]) -> bool:
        """Move what there is, if there is anything; whether this life goes on. `draw` says how the transaction is to end."""
        invoked = self._record.now()
        self._batch.clear()
        if not self._poll():
            return False
        if not self._batch:
            return True
        self.heard_at = time.monotonic()
        attempt = Attempt(invoked)
        return self._move(attempt, draw())

    def close(self) -> None:
        """The member leaves its group; a transaction that is open stays open."""
        self._client.leave()
        with contextlib.suppress(KafkaException, RuntimeError):  # it is gone in any case
            self._consumer.close()

    def _poll(self) -> bool:
        timeout_s = POLL_S
        for _ in range(BATCH_MAX):
            message = self._consumer.poll(timeout_s)
            if message is None:
                break
            timeout_s = 0.0
            if (error := message.error()) is not None:
                if error.fatal():
                    return False
                continue
            record = (message.offset() or 0, name_in(message.key(), message.value()))
            self._batch.setdefault(message.partition() or 0, []).append(record)
        return True

    def _move(self, attempt: Attempt, ends: str) -> bool:
        self._moves += 1
        for partition, records in sorted(self._batch.items()):
            attempt.steps.append(Poll(f"{self._source}-{partition}", tuple(records)))
        try:
            self._client.begin()
        except Unusable:
            return False
        for partition, records in sorted(self._batch.items()):
            for _, name in records:
                made = f"{name}{MADE_OF}{self._name}.{self._moves}"
                attempt.steps.append(Send(f"{self._target}-{partition}", made))
                self._client.send(partition, seal(made, None, b""), attempt.answered(len(attempt.steps) - 1))
        outcome, goes_on = self._end(attempt, ends)
        rebalanced = [f"{self._source}-{partition}" for partition in sorted(self._rebalanced)]
        self._rebalanced.clear()
        steps = attempt.steps
        self._record.transacted(self._process, attempt.invoked, outcome, steps, asked=attempt.asked, rebalanced=rebalanced)
        return goes_on

    def _end(self, attempt: Attempt, ends: str) -> tuple[Outcome, bool]:
        offsets = [TopicPartition(self._source, partition, records[-1][0] + 1) for partition, records in self._batch.items()]
        try:
            is_complete = self._client.commit_offsets(offsets, self._consumer.consumer_group_metadata())
        except Unusable:
            return Outcome.FAIL, False
        if ends == "leave":
            return Outcome.FAIL, False
        if ends == "abort" or not is_complete:
            return Outcome.FAIL, self._client.abort() and self._go_back()
        attempt.asked = self._record.now()
        outcome = self._client.commit()
        return outcome, outcome is Outcome.OK

    def _go_back(self) -> bool:
        """To where the transaction began: what was aborted is read again."""
        try:
            for partition, records in self._batch.items():
                self._consumer.seek(TopicPartition(self._source, partition, records[0][0]))
        except KafkaException:  # it has been taken from us, perhaps
            return False
        return True

    def _on_given(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        self._rebalanced |= {place.partition for place in places}
        self.heard_at = time.monotonic()

    def _on_taken(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        """What was read of it is another's now."""
        for place in places:
            self._rebalanced.add(place.partition)
            self._batch.pop(place.partition, None)


class Mover(threading.Thread):
    """Owned by `TransactionalWork`, which starts it and ends it with `finish`."""

    def __init__(
        self,
        name: str,
        record: Record,
        connect: Callable[[], ConfluentTransactions],
        *,
        bootstrap: str,
        group: str,
        source: str,
        target: str,
        rng: random.Random,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self._record = record
        self._connect = connect
        self._settings = {**settings_of(bootstrap, group, CLASSIC), "isolation.level": "read_committed"}
        self._source, self._target = source, target
        self._rng = rng
        self._hurrying = threading.Event()
        self._ending = threading.Event()

    def hurry(self) -> None:
        """Commit everything from now on."""
        self._hurrying.set()

    def finish(self) -> None:
        self._ending.set()

    def run(self) -> None:
        try:
            lives = 0
            while not self._ending.is_set():
                lives += 1
                self._live(f"{self.name.rpartition(' ')[2]}.{lives}")
                self._ending.wait(PAUSE_S)
        except BaseException as error:
            logger.exception("%s broke", self.name)
            self.failure = error

    def _live(self, name: str) -> None:
        try:
            client = self._connect()
        except Unusable:
            return
        life = Life(name, self._record, client, self._settings, source=self._source, target=self._target)
        until = time.monotonic() + self._rng.uniform(*LIVES_S)
        try:
            goes_on = True
            while goes_on and not self._ending.is_set() and (self._hurrying.is_set() or time.monotonic() < until):
                goes_on = life.turn(self._draw) and time.monotonic() < life.heard_at + SILENT_S
        finally:
            life.close()

    def _draw(self) -> str:
        return "commit" if self._hurrying.is_set() else self._rng.choice(ENDS)


def not_once(operations: Sequence[Operation], source: str, target: str) -> list[str]:
    """Which records of `source` were not moved to `target` exactly once, by what readers saw of both, movers included."""
    given = set(_read(operations, source).values())
    made = Counter(name.partition(MADE_OF)[0] for name in _read(operations, target).values() if MADE_OF in name)
    lost = sorted(given - made.keys())
    twice = sorted(name for name, count in made.items() if count > 1)
    unknown = sorted(made.keys() - given)
    found = (("were never moved", lost), ("were moved more than once", twice), ("came from nowhere", unknown))
    return [f"{len(names)} records of {source} {what}: {names[:SHOWN_MAX]}" for what, names in found if names]


def _read(operations: Iterable[Operation], topic: str) -> dict[tuple[str, int], str]:
    """Each record of a topic that an ok operation read, once."""
    records: dict[tuple[str, int], str] = {}
    for operation in operations:
        for step in operation.steps if operation.outcome is Outcome.OK else ():
            if isinstance(step, Poll) and step.key.rpartition("-")[0] == topic:
                records |= {(step.key, offset): value for offset, value in step.records}
    return records
