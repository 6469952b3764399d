"""What the clients did and were answered, written down as operations, counted, and timed."""

import itertools
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from quorumlog.checker.history import HistoryWriter, Operation, Outcome, Poll, Send

MARK_INTERVAL_S = 0.02
MARKS_MAX = 200_000  # a key; more than an hour of marks


@dataclass(frozen=True, slots=True)
class Counts:
    """Records, not operations. Every record sent ends as acknowledged, failed or unknown."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    read: int = 0


class Marks:
    """When something last happened to each key: at most one mark each 20 ms, and the oldest are forgotten."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def add(self, key: str, now: float) -> None:
        times = self._times.get(key)
        if times is None:
            times = self._times.setdefault(key, deque(maxlen=MARKS_MAX))
        if not times or now - times[-1] >= MARK_INTERVAL_S:
            times.append(now)

    def keys(self) -> list[str]:
        return sorted(self._times)

    def times(self, key: str) -> list[float]:
        """Seconds since the record's start, ascending."""
        return list(self._times.get(key, ()))

    def silence(self, key: str, begin: float, end: float) -> float:
        """The longest time without a mark between two moments, in seconds, 20 ms more or less."""
        times = self.times(key)
        within = times[bisect_left(times, begin) : bisect_left(times, end)]
        return max(later - earlier for earlier, later in itertools.pairwise([begin, *within, end]))


@dataclass(frozen=True, slots=True)
class Sent:
    """One record that was handed to a client, and how that ended."""

    send: Send
    outcome: Outcome


class Record:
    """Shared by all clients of a run; any thread may use it. The history belongs to the caller."""

    def __init__(self, history: HistoryWriter, *, timed: Iterable[str] = ()) -> None:
        """`timed`: the keys that marks are kept of."""
        self.started = time.monotonic()
        self._timed = frozenset(timed)
        self.acks = Marks()
        self.reads = Marks()
        self._history = history
        self._lock = threading.Lock()
        self._processes = itertools.count()
        self._counts = Counts()

    def now(self) -> float:
        """Seconds since the start, the clock of all operations."""
        return time.monotonic() - self.started

    def new_process(self) -> int:
        with self._lock:
            return next(self._processes)

    @property
    def counts(self) -> Counts:
        return self._counts

    def sent(self, process: int, invoked: float, completed: float | None, records: Sequence[Sent]) -> None:
        """Records handed over together. Those in a row with one outcome are one operation, so that it is true of each of them."""
        for outcome, run in itertools.groupby(records, key=lambda one: one.outcome):
            steps = tuple(one.send for one in run)
            self._count(
                sent=len(steps),
                acknowledged=len(steps) if outcome is Outcome.OK else 0,
                failed=len(steps) if outcome is Outcome.FAIL else 0,
                unknown=len(steps) if outcome is Outcome.UNKNOWN else 0,
            )
            self._history.write(Operation(process, "send", invoked, completed, outcome, steps))

    def transacted(
        self,
        process: int,
        invoked: float,
        outcome: Outcome,
        steps: Sequence[Send | Poll],
        *,
        asked: float | None,
        rebalanced: Iterable[str] = (),
    ) -> None:
        """A transaction is over, as far as its client will ever know; `asked`: when it was to commit."""
        sends = sum(isinstance(step, Send) for step in steps)
        self._count(
            sent=sends,
            acknowledged=sends if outcome is Outcome.OK else 0,
            failed=sends if outcome is Outcome.FAIL else 0,
            unknown=sends if outcome is Outcome.UNKNOWN else 0,
            read=sum(len(step.records) for step in steps if isinstance(step, Poll)),
        )
        operation = Operation(process, "txn", invoked, self.now(), outcome, tuple(steps), (), tuple(rebalanced), asked)
        self._history.write(operation)

    def acknowledged(self, key: str) -> None:
        """An acknowledgment arrived just now."""
        if key in self._timed:
            with self._lock:
                self.acks.add(key, self.now())

    def polled(self, process: int, invoked: float, polls: Iterable[Poll]) -> None:
        """One poll of a consumer returned records."""
        now, steps = self.now(), tuple(polls)
        self._count(read=sum(len(step.records) for step in steps))
        with self._lock:
            for step in steps:
                if step.key in self._timed:
                    self.reads.add(step.key, now)
        self._history.write(Operation(process, "poll", invoked, now, Outcome.OK, steps))

    def moved(self, process: int, kind: str, invoked: float, keys: Iterable[str]) -> None:
        """A consumer was assigned keys, or sought to another place in them: `kind` is "assign", "seek", or "subscribe" with
        a topic's name."""
        self._history.write(Operation(process, kind, invoked, self.now(), Outcome.OK, keys=tuple(keys)))

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + count for name, count in more.items()})
