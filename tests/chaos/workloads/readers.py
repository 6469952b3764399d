"""A thread with one consumer that reads a topic all along, as one process of the history.

A tail reader stays where it is, and its client lives as long as it can. A wandering one now and then is assigned anew, goes
back a while, or begins again, with a fresh client every other time. In the end each starts over and reads everything once more.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable

from quorumlog.checker.history import Poll

from .consuming import Consumer
from .record import Record
from .values import name_in

POLL_S = 0.1
WANDER_S = (2.0, 8.0)
BACK_RECORDS_MAX = 1_000  # a key
BEGINNING_ONE_IN = 10  # goes all the way back, while the way is not too long
BEGINNING_RECORDS_MAX = 20_000
RESTART_PAUSE_S = 0.3
ENDS_S = 5.0
LAST_POLLS_MAX = 20
FRESH_CLIENT_AFTER_S = 15.0  # without progress towards the end, in the last read


class Reader(threading.Thread):
    """Owned by `Running`, which starts it and ends it with `finish`. Owns its client."""

    def __init__(
        self,
        name: str,
        record: Record,
        connect: Callable[[], Consumer],
        *,
        topic: str,
        partitions: int,
        wanders: bool,
        rng: random.Random,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self.missing: dict[str, int] = {}
        """How many records behind the last read ended; empty when it reached the end of every key."""
        self.fallen: dict[str, str] = {}
        """Keys that end before a place that was read once. The checker cannot know: what was read is not unread any more."""
        self._record = record
        self._connect = connect
        self._topic = topic
        self._process = record.new_process()
        self._wanders = wanders
        self._rng = rng
        self._positions = dict.fromkeys(range(partitions), 0)
        self._moved: set[int] = set()
        self._farthest = dict(self._positions)
        self._consumer: Consumer | None = None
        self._finishing = threading.Event()
        self._deadline = float("inf")

    def finish(self, deadline: float) -> None:
        """Start over and read to the end, until a moment of `time.monotonic`. Does not wait itself: join the thread."""
        self._deadline = deadline
        self._finishing.set()

    def run(self) -> None:
        try:
            self._read_all_along()
            self._read_everything()
        except BaseException as error:
            self.failure = error
        finally:
            self._disconnect()

    def _read_all_along(self) -> None:
        wander_at = self._next_wandering()
        while not self._finishing.is_set():
            if self._consumer is None and not self._reconnect():
                self._finishing.wait(RESTART_PAUSE_S)
                continue
            self._poll()
            if time.monotonic() >= wander_at:
                self._wander()
                wander_at = self._next_wandering()

    def _next_wandering(self) -> float:
        return time.monotonic() + self._rng.uniform(*WANDER_S) if self._wanders else float("inf")

    def _wander(self) -> None:
        """Somewhere else, on some keys or all of them, with this client or another."""
        for partition in self._positions:
            if self._rng.random() < 0.5:
                self._move(partition, self._earlier(self._positions[partition]))
        if self._rng.random() < 0.5:
            self._disconnect()
        else:
            self._assign()

    def _earlier(self, position: int) -> int:
        if position <= BEGINNING_RECORDS_MAX and self._rng.randrange(BEGINNING_ONE_IN) == 0:
            return 0
        return max(0, position - self._rng.randint(0, BACK_RECORDS_MAX))

    def _move(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset
        self._moved.add(partition)

    def _reconnect(self) -> bool:
        try:
            self._consumer = self._connect()
        except Exception:  # each library has its own for a cluster that does not answer; there will be another attempt
            return False
        return self._assign()

    def _assign(self) -> bool:
        """All keys, from the positions. Those that were not moved go on where they were, and the checker holds them to it."""
        invoked = self._record.now()
        if not self._asked(lambda consumer: consumer.assign(self._positions)):
            return False
        self._record.moved(self._process, "assign", invoked, self._keys(self._positions))
        if self._moved:
            self._record.moved(self._process, "seek", invoked, self._keys(sorted(self._moved)))
            self._moved.clear()
        return True

    def _poll(self) -> bool:
        """Whether something came."""
        invoked = self._record.now()
        found: dict[int, list[tuple[int, str]]] = {}

        def poll(consumer: Consumer) -> None:
            for partition, records in consumer.poll(POLL_S).items():
                found[partition] = [(offset, name_in(key, value)) for offset, key, value in records]

        self._asked(poll)
        if found:
            self._positions |= {partition: records[-1][0] + 1 for partition, records in found.items()}
            self._farthest |= {partition: max(self._farthest[partition], self._positions[partition]) for partition in found}
            polls = [Poll(f"{self._topic}-{partition}", tuple(records)) for partition, records in sorted(found.items())]
            self._record.polled(self._process, invoked, polls)
        return bool(found)

    def _asked(self, action: Callable[[Consumer], None]) -> bool:
        """Whether the client did it; one that raised is given up, and the next begins at the same positions."""
        if self._consumer is None:  # given up a moment ago
            return False
        try:
            action(self._consumer)
        except Exception:  # of three libraries; what was not read now will be read later, or missed by the checker
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):  # it is gone in any case
                consumer.close()

    def _read_everything(self) -> None:
        ends = self._ends()
        self.fallen = {
            f"{self._topic}-{partition}": f"ends at offset {end}, was read to {self._farthest[partition]}"
            for partition, end in ends.items()
            if end < self._farthest[partition]
        }
        for partition in self._positions:
            self._move(partition, 0)
        self._disconnect()
        self._behind(ends)
        fresh_client_at = time.monotonic() + FRESH_CLIENT_AFTER_S
        while self.missing and time.monotonic() < self._deadline:
            if self._consumer is None and not self._reconnect():
                time.sleep(RESTART_PAUSE_S)
                continue
            missing = self.missing
            self._poll()
            self._behind(ends)
            if self.missing != missing:
                fresh_client_at = time.monotonic() + FRESH_CLIENT_AFTER_S
            elif time.monotonic() > fresh_client_at:
                self._disconnect()
                fresh_client_at = time.monotonic() + FRESH_CLIENT_AFTER_S
        self._note_the_end()

    def _note_the_end(self) -> None:
        """One poll that brings nothing: it proves that this was the end."""
        for _ in range(LAST_POLLS_MAX):
            if self.missing or self._consumer is None:
                return
            invoked = self._record.now()
            if not self._poll():
                self._record.polled(self._process, invoked, [])
                return

    def _ends(self) -> dict[int, int]:
        """What there is to be read. Raises TimeoutError if the cluster does not say it in time."""
        ends: dict[int, int] = {}
        while not ends and time.monotonic() < self._deadline:
            if self._consumer is None and not self._reconnect():
                time.sleep(RESTART_PAUSE_S)
                continue
            self._asked(lambda consumer: ends.update(consumer.ends(list(self._positions), ENDS_S)))
        if len(ends) < len(self._positions):
            raise TimeoutError(f"{self.name} was not told where the keys end")
        return ends

    def _behind(self, ends: dict[int, int]) -> None:
        left = {partition: end - self._positions[partition] for partition, end in ends.items()}
        self.missing = {f"{self._topic}-{partition}": count for partition, count in left.items() if count > 0}

    def _keys(self, partitions: Iterable[int]) -> list[str]:
        return [f"{self._topic}-{partition}" for partition in partitions]
