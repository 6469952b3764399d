"""Transactional clients on two topics of their own: writers to one, movers from it to the other, and who reads both.

At the end the writers leave nothing open; each partition gets a last record that is in no transaction, so that it ends with
something to be read, whatever markers and aborted records lie before; the movers move all of that; then the other topic gets
its last records, and readers may start over.
"""

import functools
import random
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from quorumlog.checker.history import Operation, Outcome, Send

from .consuming import CONSUMERS
from .movers import Mover, not_once
from .producing import Answer, ConfluentProducer
from .readers import Reader
from .record import Record, Sent
from .transacting import TRANSACTIONS, ConfluentTransactions
from .transactors import Transactor
from .values import seal

TRANSACTIONAL, MOVED = "transactional", "moved"
WRITERS = ("confluent-kafka", "confluent-kafka", "aiokafka")
MOVERS = 2
TRANSACTIONS_PER_S = 2.0  # of one writer, while nothing is in its way
TIMEOUTS_S = (16.0, 60.0)  # librdkafka wants more than one request may take (`transacting.REQUEST_S`)
ASK_S = 4.0
LOOK_EVERY_S = 0.2
READERS = {TRANSACTIONAL: ("confluent-kafka", "aiokafka"), MOVED: ("kafka-python", "confluent-kafka")}


class TransactionalWork:
    """Owned by `Running`."""

    def __init__(self, topics: dict[str, str], record: Record, *, bootstrap: str, partitions: int, seed: int) -> None:
        """`topics`: the names of the two."""
        self.source, self.target = topics[TRANSACTIONAL], topics[MOVED]
        self.group = f"movers-of-{self.source}"
        self._record = record
        self._bootstrap = bootstrap
        self._partitions = range(partitions)
        self.transactors = [self._transactor(number, library, partitions, seed) for number, library in enumerate(WRITERS)]
        self.movers = [self._mover(number, seed) for number in range(MOVERS)]
        self.readers = [
            self._reader(topics[name], library, partitions, wanders=place == 1, rng=random.Random(f"{seed} {name} {place}"))
            for name, libraries in READERS.items()
            for place, library in enumerate(libraries)
        ]

    def _transactor(self, number: int, library: str, partitions: int, seed: int) -> Transactor:
        rng = random.Random(f"{seed} transactor {number}")
        name = f"{self.source}-writer-{number}"
        return Transactor(
            name,
            self._record,
            functools.partial(TRANSACTIONS[library], self._bootstrap, self.source, name, timeout_s=TIMEOUTS_S[number % 2]),
            functools.partial(CONSUMERS["confluent-kafka"], self._bootstrap, self.source, committed=True),
            topic=self.source,
            partitions=partitions,
            transactions_per_s=TRANSACTIONS_PER_S,
            rng=rng,
        )

    def _mover(self, number: int, seed: int) -> Mover:
        transactional_id = f"{self.target}-mover-{number}"
        return Mover(
            f"mover of {self.source} m{number}",
            self._record,
            functools.partial(ConfluentTransactions, self._bootstrap, self.target, transactional_id, timeout_s=TIMEOUTS_S[0]),
            bootstrap=self._bootstrap,
            group=self.group,
            source=self.source,
            target=self.target,
            rng=random.Random(f"{seed} mover {number}"),
        )

    def _reader(self, topic: str, library: str, partitions: int, *, wanders: bool, rng: random.Random) -> Reader:
        connect = functools.partial(CONSUMERS[library], self._bootstrap, topic, committed=True)
        name = f"{topic} read by {library}"
        return Reader(name, self._record, connect, topic=topic, partitions=partitions, wanders=wanders, rng=rng)

    @property
    def threads(self) -> list[Transactor | Mover]:
        return [*self.transactors, *self.movers]

    # --- the end

    def end(self, join: Callable[[Sequence[Transactor | Mover], float], list[str]], deadline: float) -> list[str]:
        """Until all that was written is moved, and no transaction is open in either topic; what is missing of that."""
        for transactor in self.transactors:
            transactor.finish(deadline)
        complaints = join(self.transactors, deadline) + self._close_off(self.source, deadline)
        for mover in self.movers:
            mover.hurry()
        complaints += self._all_moved(deadline)
        for mover in self.movers:
            mover.finish()
        return complaints + join(self.movers, deadline) + self._close_off(self.target, deadline)

    def unmoved(self, operations: Sequence[Operation]) -> list[str]:
        return not_once(operations, self.source, self.target)

    def _close_off(self, topic: str, deadline: float) -> list[str]:
        """No transaction is open, and each partition ends with a record of its own."""
        missing = self._until(deadline, lambda: self._unstable(topic))
        return [missing] if missing else self._send_last(topic, deadline)

    def _unstable(self, topic: str) -> str | None:
        committed, written = (self._ends(topic, isolation) for isolation in ("read_committed", "read_uncommitted"))
        if committed and committed == written:
            return None
        return f"transactions are open in {topic}: its partitions are stable up to {committed} of {written}"

    def _ends(self, topic: str, isolation: str) -> dict[int, int]:
        """Empty while nobody says it."""
        return self._asked(
            isolation,
            lambda consumer: {
                number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ASK_S)[1]
                for number in self._partitions
            },
        )

    def _all_moved(self, deadline: float) -> list[str]:
        ends: dict[int, int] = {}

        def missing() -> str | None:
            ends.update(ends or self._ends(self.source, "read_committed"))
            committed = self._asked("read_committed", self._committed)
            return None if ends and committed == ends else f"{self.group} has moved {committed} of {ends}"

        complaint = self._until(deadline, missing)
        return [complaint] if complaint else []

    def _committed(self, consumer: Consumer) -> dict[int, int]:
        found = consumer.committed([TopicPartition(self.source, number) for number in self._partitions], timeout=ASK_S)
        return {place.partition: place.offset for place in found if place.error is None}

    def _asked(self, isolation: str, ask: Callable[[Consumer], dict[int, int]]) -> dict[int, int]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": self.group,
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "log_level": 0,
            }
        )
        try:
            return ask(consumer)
        except KafkaException:
            return {}
        finally:
            consumer.close()

    @staticmethod
    def _until(deadline: float, missing: Callable[[], str | None]) -> str | None:
        while (lack := missing()) is not None and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        return lack

    def _send_last(self, topic: str, deadline: float) -> list[str]:
        process, invoked = self._record.new_process(), self._record.now()
        answers: dict[int, Answer] = {}
        producer = ConfluentProducer(self._bootstrap, topic, idempotent=True)
        for number in self._partitions:
            producer.send(
                number, None, seal(f"p{process}-{number}", None, b"the end"), functools.partial(answers.__setitem__, number)
            )
        while len(answers) < len(self._partitions) and time.monotonic() < deadline:
            producer.poll(LOOK_EVERY_S)
        producer.close(ASK_S)
        sent = [
            Sent(Send(f"{topic}-{number}", f"p{process}-{number}", answer.offset), answer.outcome)
            for number, answer in sorted(answers.items())
        ]
        self._record.sent(process, invoked, self._record.now(), sent)
        done = sum(one.outcome is Outcome.OK for one in sent)
        return [] if done == len(self._partitions) else [f"{topic} could be closed off on {done} of its partitions"]
