"""Threads with one transactional id each: they write to several partitions in one transaction, and read what others wrote.

Of ten transactions about seven commit and one aborts; now and then an instance is gone in the midst of one, and another takes its
id, or another takes it while the first goes on and asks to commit: it is shut out by then, and must not succeed.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from quorumlog.checker.history import Outcome, Poll, Send

from .consuming import Consumer
from .producing import Answer
from .record import Record
from .transacting import Transactions, Unusable
from .values import name_in, seal

logger = logging.getLogger(__name__)

ENDS = ("commit",) * 14 + ("abort",) * 3 + ("leave",) * 2 + ("usurp",)
VALUES_MAX = 5  # to one partition
BODY_BYTES = 60
PAUSE_S = 0.3
READ_ONE_IN = 3
READ_S = 0.2


@dataclass(slots=True)
class Attempt:
    """One transaction: an operation of the history, when it is over."""

    invoked: float
    steps: list[Send | Poll] = field(default_factory=list)
    asked: float | None = None

    def answered(self, step: int) -> Callable[[Answer], None]:
        """Fills in the offset of one send."""

        def on_answer(answer: Answer) -> None:
            send = self.steps[step]
            if answer.outcome is Outcome.OK and isinstance(send, Send):
                self.steps[step] = Send(send.key, send.value, answer.offset)

        return on_answer


class Transactor(threading.Thread):
    """Owned by `TransactionalWork`, which starts it and ends it with `finish`. Owns its clients."""

    def __init__(
        self,
        name: str,
        record: Record,
        connect: Callable[[], Transactions],
        read_with: Callable[[], Consumer],
        *,
        topic: str,
        partitions: int,
        transactions_per_s: float,
        rng: random.Random,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self._record = record
        self._connect = connect
        self._read_with = read_with
        self._topic = topic
        self._partitions = range(partitions)
        self._interval_s = 1 / transactions_per_s
        self._rng = rng
        self._process = record.new_process()
        self._sent = 0
        self._client: Transactions | None = None
        self._reader: Consumer | None = None
        self._positions = dict.fromkeys(self._partitions, 0)
        self._stopping = threading.Event()
        self._deadline = float("inf")

    def finish(self, deadline: float) -> None:
        """Begin no more transactions, and leave none open, until a moment of `time.monotonic`. Does not wait: join the thread."""
        self._deadline = deadline
        self._stopping.set()

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._interval_s * self._rng.uniform(0.5, 1.5)):
                if self._reconnected():
                    self._transact(self._rng.choice(ENDS))
            while not self._reconnected() and time.monotonic() < self._deadline:  # shuts out, and so ends, what was left open
                time.sleep(PAUSE_S)
        except BaseException as error:
            logger.exception("%s broke", self.name)
            self.failure = error
        finally:
            self._drop()
            self._close_reader()

    def _reconnected(self) -> bool:
        if self._client is None:
            try:
                self._client = self._connect()
            except Unusable:  # the cluster does not answer, or somebody else took the id at the same time
                self._stopping.wait(PAUSE_S)
        return self._client is not None

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.leave()

    # --- one transaction

    def _transact(self, ends: str) -> None:
        client = self._client
        assert client is not None
        reads = self._rng.randrange(READ_ONE_IN) == 0 and self._has_reader()
        reads_first = self._rng.random() < 0.5
        attempt = Attempt(self._record.now())
        try:
            client.begin()
        except Unusable:
            self._drop()
            return
        if reads and reads_first:
            self._read(attempt)
        self._write(client, attempt)
        if reads and not reads_first:
            self._read(attempt)
        outcome = self._end(client, attempt, ends)
        self._record.transacted(self._process, attempt.invoked, outcome, attempt.steps, asked=attempt.asked)

    def _write(self, client: Transactions, attempt: Attempt) -> None:
        chosen = self._rng.sample(self._partitions, self._rng.randint(1, len(self._partitions)))
        for partition in chosen:
            for _ in range(self._rng.randint(1, VALUES_MAX)):
                self._sent += 1
                name = f"t{self._process}-{self._sent}"
                attempt.steps.append(Send(f"{self._topic}-{partition}", name))
                body = self._rng.randbytes(BODY_BYTES // 2).hex().encode()
                client.send(partition, seal(name, None, body), attempt.answered(len(attempt.steps) - 1))
        if self._rng.random() < 0.5:
            client.flush()

    def _end(self, client: Transactions, attempt: Attempt, ends: str) -> Outcome:
        if ends == "leave":
            self._drop()
            return Outcome.FAIL
        if ends == "abort":
            if not client.abort():
                self._drop()
            return Outcome.FAIL
        is_shut_out = ends == "usurp" and self._usurp()
        if ends == "usurp" and not is_shut_out:
            return Outcome.FAIL
        attempt.asked = self._record.now()
        outcome = client.commit()
        if is_shut_out:
            client.leave()
            return Outcome.OK if outcome is Outcome.OK else Outcome.FAIL
        if outcome is not Outcome.OK and not (outcome is Outcome.FAIL and client.abort()):
            self._drop()
        return outcome

    def _usurp(self) -> bool:
        """Another instance takes the id, and is the one who goes on; False if it could not be made, or not for certain."""
        try:
            usurper = self._connect()
        except Unusable:
            self._drop()
            return False
        self._client = usurper
        return True

    # --- reading within

    def _has_reader(self) -> bool:
        if self._reader is None:
            invoked = self._record.now()
            try:
                self._reader = self._read_with()
                self._reader.assign(self._positions)
            except Exception:  # there will be another attempt
                self._close_reader()
                return False
            self._record.moved(self._process, "assign", invoked, [self._key(partition) for partition in self._partitions])
        return True

    def _read(self, attempt: Attempt) -> None:
        """What is committed of all partitions, behind what was read before."""
        assert self._reader is not None
        try:
            found = self._reader.poll(READ_S)
        except Exception:  # there will be another reader, who goes on at these positions
            self._close_reader()
            return
        for partition, records in sorted(found.items()):
            self._positions[partition] = records[-1][0] + 1
            named = tuple((offset, name_in(key, value)) for offset, key, value in records)
            attempt.steps.append(Poll(self._key(partition), named))

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(Exception):  # it is gone in any case
                reader.close()

    def _key(self, partition: int) -> str:
        return f"{self._topic}-{partition}"
