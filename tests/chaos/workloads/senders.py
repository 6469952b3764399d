"""A thread with one producing client, which several processes of the history share; each has one batch under way at most."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from quorumlog.checker.history import Outcome, Send

from .pieces import Piece
from .producing import DELIVERY_S, Answer, Producer
from .record import Record, Sent
from .values import seal

BATCH_MAX = 16  # records of one operation
BATCH_MEAN = (1 + BATCH_MAX) / 2
OVERDUE_S = DELIVERY_S + 10.0  # by then every client has answered, or never will
BARREN_BATCHES_MAX = 3  # in a row; then a fresh client may do better
HANDOVER_S = 3.0
IDLE_POLL_S = 0.05
RESTART_PAUSE_S = 0.3
CLOSE_S = 3.0


@dataclass(slots=True)
class Batch:
    """Records handed over together: their operation ends with the last answer."""

    invoked: float
    pieces: list[Piece]
    sends: list[Send] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        return len(self.answers) == len(self.sends) == len(self.pieces)

    def records(self) -> list[Sent]:
        """In the order of their sending; without an answer the outcome is unknown."""
        return [Sent(send, answer.outcome if answer else Outcome.UNKNOWN) for send, answer in self._answered()]

    def _answered(self) -> Iterator[tuple[Send, Answer | None]]:
        for index, send in enumerate(self.sends):
            yield send, self.answers.get(index)


class SendingProcess:
    """A process of the history. One that never got an answer ends, and another goes on in its place."""

    def __init__(self, record: Record, pieces: Iterator[Piece]) -> None:
        self._record = record
        self.pieces = pieces
        self.due = 0.0
        self.batch: Batch | None = None
        self.begin()

    def begin(self) -> None:
        self.number = self._record.new_process()
        self._sent = 0

    def next_name(self) -> str:
        self._sent += 1
        return f"p{self.number}-{self._sent}"


class Sender(threading.Thread):
    """Owned by `Running`, which starts it and ends it with `finish`. Owns its client."""

    def __init__(
        self,
        name: str,
        record: Record,
        connect: Callable[[], Producer],
        *,
        topic: str,
        pieces: list[Iterator[Piece]],
        records_per_s: float,
        rng: random.Random,
    ) -> None:
        """`pieces`: one endless source for each process; `records_per_s` is for all of them, while nothing is in their way."""
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self.unanswered = 0
        """Records without an answer when `finish` had waited long enough."""
        self._record = record
        self._connect = connect
        self._topic = topic
        self._rng = rng
        self._interval_s = BATCH_MEAN * len(pieces) / records_per_s
        self._processes = [SendingProcess(record, source) for source in pieces]
        self._producer: Producer | None = None
        self._is_bad = False
        self._barren = 0
        self._stopping = threading.Event()
        self._deadline = float("inf")

    def finish(self, deadline: float) -> None:
        """Send no more; wait for the answers until a moment of `time.monotonic`. Does not wait itself: join the thread."""
        self._deadline = deadline
        self._stopping.set()

    def run(self) -> None:
        try:
            self._send_all_along()
            self._await_answers()
        except BaseException as error:
            self.failure = error
        finally:
            self.unanswered = self._abandon([process for process in self._processes if process.batch])
            self._disconnect()

    def _send_all_along(self) -> None:
        while not self._stopping.is_set():
            if self._is_bad and not any(process.batch for process in self._processes):
                self._disconnect()
            if self._producer is None and not self._reconnect():
                self._stopping.wait(RESTART_PAUSE_S)
                continue
            wait_s = self._begin_batches() if not self._is_bad else IDLE_POLL_S
            self._poll(wait_s)

    def _await_answers(self) -> None:
        while any(process.batch for process in self._processes) and time.monotonic() < self._deadline:
            self._poll(IDLE_POLL_S)

    def _reconnect(self) -> bool:
        try:
            self._producer = self._connect()
        except Exception:  # each library has its own for a cluster that does not answer; there will be another attempt
            return False
        self._is_bad, self._barren = False, 0
        return True

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):  # it is gone in any case
                producer.close(CLOSE_S)

    def _begin_batches(self) -> float:
        """Begin whatever is due; the seconds until something else is."""
        for process in self._processes:
            now = self._record.now()
            if process.batch is None and process.due <= now:
                process.due = now + self._interval_s * self._rng.uniform(0.5, 1.5)
                self._begin_batch(process)
        nearest = min((process.due for process in self._processes if process.batch is None), default=float("inf"))
        return min(IDLE_POLL_S, max(0.0, nearest - self._record.now()))

    def _begin_batch(self, process: SendingProcess) -> None:
        assert self._producer is not None
        size = self._rng.randint(1, BATCH_MAX)
        batch = process.batch = Batch(self._record.now(), [next(process.pieces) for _ in range(size)])
        for index, piece in enumerate(batch.pieces):
            if index > 0 and self._record.now() - batch.invoked > HANDOVER_S:
                del batch.pieces[index:]  # the client blocks, record by record: the batch is what it has taken by now
                break
            name = process.next_name()
            batch.sends.append(Send(f"{self._topic}-{piece.partition}", name))
            self._producer.send(
                piece.partition if piece.is_placed else None,
                piece.key,
                seal(name, piece.key, piece.body),
                self._on_answer(process, batch, index),
            )
        if batch.is_answered and process.batch is batch:
            self._end_batch(process, batch)

    def _on_answer(self, process: SendingProcess, batch: Batch, index: int) -> Callable[[Answer], None]:
        def on_answer(answer: Answer) -> None:
            if process.batch is not batch or index in batch.answers:
                return  # it came after the operation was given up
            self._is_bad |= answer.is_fatal
            batch.answers[index] = answer
            if answer.partition is not None:
                key = f"{self._topic}-{answer.partition}"
                batch.sends[index] = Send(key, batch.sends[index].value, answer.offset)
                if answer.outcome is Outcome.OK:
                    self._record.acknowledged(key)
            if batch.is_answered:
                self._end_batch(process, batch)

        return on_answer

    def _end_batch(self, process: SendingProcess, batch: Batch) -> None:
        records = batch.records()
        self._record.sent(process.number, batch.invoked, self._record.now(), records)
        process.batch = None
        is_barren = not any(one.outcome is Outcome.OK for one in records)
        self._barren = self._barren + 1 if is_barren else 0
        self._is_bad |= self._barren >= BARREN_BATCHES_MAX

    def _poll(self, timeout_s: float) -> None:
        if self._producer is None:
            return
        self._producer.poll(timeout_s)
        now = self._record.now()
        overdue = [process for process in self._processes if process.batch and now - process.batch.invoked > OVERDUE_S]
        if overdue:
            self._is_bad = True
            self._abandon(overdue)

    def _abandon(self, processes: list[SendingProcess]) -> int:
        """Give up what is unanswered; how many records that are."""
        unanswered = 0
        for process in processes:
            batch, process.batch = process.batch, None
            assert batch is not None
            unanswered += len(batch.sends) - len(batch.answers)
            self._record.sent(process.number, batch.invoked, None, batch.records())
            process.begin()
        return unanswered
