"""A model log and clients on it: histories that are right by construction, and anomalies planted in them one at a time.

Everything takes effect at one instant, in the order of the calls; the log has gaps, as transactions leave them. What a plant
breaks is the cluster of the model, or what one client was told: the rest of the history goes on from there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from quorumlog.checker.history import Operation, Outcome, Poll, Send

KEYS = ("x-0", "x-1", "y-0")
PRODUCERS = range(3)
READERS = range(10, 13)
SUBSCRIBERS = range(20, 22)
TRANSACTORS = range(30, 32)
FINAL_READERS = range(40, 42)
FIRST_PLANTER = 50
POLL_MAX = 6

Record = tuple[int, str]


@dataclass
class Cluster:
    """Logs, and clients that ask for them. `history` is what they saw."""

    rng: Random
    history: list[Operation] = field(default_factory=list)
    logs: dict[str, list[Record]] = field(default_factory=lambda: {key: [] for key in KEYS})
    places: dict[tuple[int, str], int] = field(default_factory=dict)  # (process, key) -> how many records it has read
    numbers: "count[int]" = field(default_factory=count)
    planters: "count[int]" = field(default_factory=lambda: count(FIRST_PLANTER))

    def value(self) -> str:
        return f"v{next(self.numbers)}"

    def key(self) -> str:
        return self.rng.choice(KEYS)

    def append(self, key: str, value: str) -> int:
        log = self.logs[key]
        offset = log[-1][0] + self.rng.choice((1, 1, 1, 2, 5)) if log else self.rng.choice((0, 7))
        log.append((offset, value))
        return offset

    def tell(self, process: int, kind: str, outcome: Outcome, *steps: Send | Poll, keys: tuple[str, ...] = ()) -> None:
        now = float(len(self.history))
        self.history.append(Operation(process, kind, now, now + 0.5, outcome, steps, keys))

    def send(self, process: int, key: str, value: str, outcome: Outcome = Outcome.OK) -> None:
        """Of unknown outcome: done or not done. Of an ok one the offset is sometimes not told."""
        happens = outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and self.rng.random() < 0.5)
        offset = self.append(key, value) if happens else None
        is_told = outcome is Outcome.OK and self.rng.random() < 0.8
        self.tell(process, "send", outcome, Send(key, value, offset if is_told else None))

    def two_batches(self) -> None:
        """Two producers send two records each to one key, and they interleave: int-send-skip, which is allowed."""
        key, values = self.key(), [self.value() for _ in range(4)]
        sends = [Send(key, value, self.append(key, value)) for value in values]
        self.tell(0, "send", Outcome.OK, sends[0], sends[2])
        self.tell(1, "send", Outcome.OK, sends[1], sends[3])

    def read(self, process: int, key: str) -> Poll:
        place = self.places.get((process, key), 0)
        records = self.logs[key][place : place + self.rng.randint(0, POLL_MAX)]
        self.places[process, key] = place + len(records)
        return Poll(key, tuple(records))

    def poll(self, process: int, key: str) -> None:
        """Of unknown outcome the records may or may not be told; a failed one reads nothing, and has to be done again."""
        outcome = self.rng.choice((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAIL))
        place = self.places.get((process, key), 0)
        poll = self.read(process, key)
        if outcome is Outcome.FAIL:
            self.places[process, key] = place
            self.tell(process, "poll", outcome)
        else:
            self.tell(process, "poll", outcome, *((poll,) if outcome is Outcome.OK or self.rng.random() < 0.5 else ()))

    def assign(self, process: int) -> None:
        """A key that is kept goes on or starts over, others start over."""
        keys = tuple(self.rng.sample(KEYS, self.rng.randint(1, len(KEYS))))
        for key in KEYS:
            if key not in keys or self.rng.random() < 0.3:
                self.places[process, key] = 0
        self.tell(process, "assign", Outcome.OK, keys=keys)

    def rebalance(self, process: int) -> None:
        """A subscriber is thrown back to somewhere."""
        self.places[process, self.key()] = 0

    def transact(self, process: int) -> None:
        """Consume, then produce; what an aborted one consumed is consumed again."""
        outcome = self.rng.choice((Outcome.OK, Outcome.OK, Outcome.FAIL))
        source, target, value = self.key(), self.key(), self.value()
        place = self.places.get((process, source), 0)
        poll = self.read(process, source)
        if outcome is Outcome.OK:
            self.tell(process, "txn", outcome, poll, Send(target, value, self.append(target, value)))
        else:
            self.places[process, source] = place
            self.tell(process, "txn", outcome, poll, Send(target, value))

    def step(self) -> None:
        rng = self.rng
        outcome = rng.choice((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAIL))
        actions: list[Callable[[], None]] = [
            lambda: self.send(rng.choice(PRODUCERS), self.key(), self.value(), outcome),
            lambda: self.send(rng.choice(PRODUCERS), self.key(), self.value(), outcome),
            lambda: self.poll(rng.choice(READERS), self.key()),
            lambda: self.poll(rng.choice(SUBSCRIBERS), self.key()),
            lambda: self.transact(rng.choice(TRANSACTORS)),
            lambda: self.assign(rng.choice(READERS)),
            lambda: self.rebalance(rng.choice(SUBSCRIBERS)),
            self.two_batches,
        ]
        rng.choice(actions)()

    def run(self, steps: int) -> None:
        for process in SUBSCRIBERS:
            self.tell(process, "subscribe", Outcome.OK, keys=("x", "y"))
        for _ in range(steps):
            self.step()

    def settle(self) -> None:
        """What is still under way comes to its end."""

    def read_all(self) -> None:
        """The final reads: everyone starts over and reads to the end."""
        self.settle()
        for process in FINAL_READERS:
            for key, log in self.logs.items():
                self.tell(process, "assign", Outcome.OK, keys=(key,))
                for begin in range(0, len(log), POLL_MAX):
                    self.tell(process, "poll", Outcome.OK, Poll(key, tuple(log[begin : begin + POLL_MAX])))
                self.tell(process, "poll", Outcome.OK, Poll(key))


def is_planter(process: int) -> bool:
    return process >= FIRST_PLANTER


def clean_history(seed: int, steps: int = 60, make: Callable[[Random], Cluster] = Cluster) -> list[Operation]:
    cluster = make(Random(seed))
    cluster.run(steps)
    cluster.read_all()
    return cluster.history


@dataclass(frozen=True)
class Plant:
    """How to break a cluster before its final reads, or what the clients were told after them; and what must follow from it."""

    before: Callable[[Cluster, int], None] = lambda cluster, process: None
    after: Callable[[Cluster, int], None] = lambda cluster, process: None
    implies: frozenset[str] = frozenset()
    may_imply: frozenset[str] = frozenset()


def planted_history(seed: int, plant: Plant, steps: int = 60, make: Callable[[Random], Cluster] = Cluster) -> list[Operation]:
    cluster = make(Random(seed))
    process = next(cluster.planters)
    cluster.run(steps)
    for key in KEYS:  # every log is long enough to hold the anomaly
        for _ in range(4):
            cluster.send(PRODUCERS[0], key, cluster.value())
    plant.before(cluster, process)
    cluster.run(steps // 2)
    for key in KEYS:
        cluster.send(PRODUCERS[0], key, cluster.value())
    cluster.read_all()
    plant.after(cluster, process)
    return cluster.history


def _at_random(cluster: Cluster) -> tuple[str, int]:
    """A key, and the number of a record in its log that is not the first or the last."""
    key = cluster.key()
    return key, cluster.rng.randrange(1, len(cluster.logs[key]) - 1)


def two_values(cluster: Cluster, process: int) -> None:
    key, number = _at_random(cluster)
    value = cluster.value()
    cluster.tell(process, "send", Outcome.UNKNOWN, Send(key, value))
    cluster.tell(process, "poll", Outcome.OK, Poll(key, ((cluster.logs[key][number][0], value),)))


def one_value_twice(cluster: Cluster, process: int) -> None:
    key, number = _at_random(cluster)
    cluster.append(key, cluster.logs[key][number][1])


def failed_but_there(cluster: Cluster, process: int) -> None:
    key, value = cluster.key(), cluster.value()
    cluster.append(key, value)
    cluster.tell(process, "send", Outcome.FAIL, Send(key, value))


def own_send(cluster: Cluster, process: int) -> None:
    key, value = cluster.key(), cluster.value()
    offset = cluster.append(key, value)
    cluster.tell(process, "txn", Outcome.OK, Send(key, value, offset), Poll(key, ((offset, value),)))


def lost(cluster: Cluster, process: int) -> None:
    key, value = cluster.key(), cluster.value()
    offset = cluster.append(key, value)
    cluster.logs[key].pop()
    cluster.tell(process, "send", Outcome.OK, Send(key, value, offset))
    cluster.logs[key].append((offset + 1, behind := cluster.value()))
    cluster.tell(process, "send", Outcome.OK, Send(key, behind, offset + 1))


def tail_lost(cluster: Cluster, process: int) -> None:
    key, value = cluster.key(), cluster.value()
    cluster.tell(process, "send", Outcome.OK, Send(key, value, cluster.logs[key][-1][0] + 1))
    cluster.read_all()


def told(*edit: Callable[[list[Record]], list[list[Record]]]) -> Callable[[Cluster, int], None]:
    """A reader who is told four records of a log, edited: one poll for each list."""

    def tell(cluster: Cluster, process: int) -> None:
        key = cluster.key()
        begin = cluster.rng.randrange(len(cluster.logs[key]) - 3)
        for records in edit[0](cluster.logs[key][begin : begin + 4]):
            cluster.tell(process, "poll", Outcome.OK, Poll(key, tuple(records)))

    return tell


def told_subscribed(cluster: Cluster, process: int) -> None:
    cluster.tell(process, "subscribe", Outcome.OK, keys=("x", "y"))
    told(lambda four: [four[:1], four[2:]])(cluster, process)


def reversed_batch(cluster: Cluster, process: int) -> None:
    key = cluster.key()
    sends = [Send(key, value, cluster.append(key, value)) for value in (cluster.value(), cluster.value())]
    cluster.tell(process, "send", Outcome.OK, *reversed(sends))


def reversed_sends(cluster: Cluster, process: int) -> None:
    reversed_batch(cluster, process)
    both = cluster.history.pop()
    for step in both.steps:
        cluster.tell(process, "send", Outcome.OK, step)


def crossed_writes(cluster: Cluster, process: int) -> None:
    a, b, c, d = (cluster.value() for _ in range(4))
    first, second = cluster.append("x-0", a), cluster.append("x-0", b)
    cluster.tell(process, "send", Outcome.OK, Send("x-0", a, first), Send("y-0", d, (offset := cluster.append("y-0", c)) + 1))
    cluster.logs["y-0"].append((offset + 1, d))
    cluster.tell(next(cluster.planters), "send", Outcome.OK, Send("x-0", b, second), Send("y-0", c, offset))


def crossed_reads(cluster: Cluster, process: int) -> None:
    a, b = cluster.value(), cluster.value()
    first, second = cluster.append("x-0", a), cluster.append("y-0", b)
    cluster.tell(process, "txn", Outcome.OK, Send("x-0", a, first), Poll("y-0", ((second, b),)))
    cluster.tell(next(cluster.planters), "txn", Outcome.OK, Send("y-0", b, second), Poll("x-0", ((first, a),)))


def read_and_overtaken(cluster: Cluster, process: int) -> None:
    a, b, c = cluster.value(), cluster.value(), cluster.value()
    first, second, third = cluster.append("x-0", a), cluster.append("y-0", b), cluster.append("y-0", c)
    cluster.tell(process, "txn", Outcome.OK, Send("x-0", a, first), Send("y-0", c, third))
    cluster.tell(next(cluster.planters), "txn", Outcome.OK, Poll("x-0", ((first, a),)), Send("y-0", b, second))


# A lost write is unseen too when there are final reads, and whoever reads past it skips it.
SKIPS = frozenset({"int-poll-skip", "poll-skip"})

PLANTS = {
    "inconsistent-offsets": Plant(after=two_values),
    "duplicate": Plant(before=one_value_twice),
    "aborted-read": Plant(before=failed_but_there),
    "precommitted-read": Plant(before=own_send),
    "lost-write": Plant(before=lost, implies=frozenset({"unseen"}), may_imply=SKIPS),
    "unseen": Plant(after=tail_lost),
    "int-poll-skip": Plant(after=told(lambda four: [[four[0], *four[2:]]])),
    "int-nonmonotonic-poll": Plant(after=told(lambda four: [[*four[:2], *four[1:]]])),
    "poll-skip": Plant(after=told(lambda four: [four[:1], four[2:]])),
    "nonmonotonic-poll": Plant(after=told(lambda four: [four[:3], four[1:]])),
    "int-nonmonotonic-send": Plant(before=reversed_batch),
    "nonmonotonic-send": Plant(before=reversed_sends),
    "G1c": Plant(before=crossed_reads),
}

ALLOWED_PLANTS = {
    "poll-skip": Plant(after=told_subscribed),
    "G0": Plant(before=crossed_writes),
    "G1c": Plant(before=read_and_overtaken),
}


def jumbled(history: list[Operation], rng: Random) -> list[Operation]:
    """The same history, its lines in another order."""
    return rng.sample(history, len(history))


def without_optional(history: list[Operation]) -> list[Operation]:
    """The same history as clients tell it who never learn an offset of their own."""
    return [
        replace(
            operation,
            steps=tuple(replace(step, offset=None) if isinstance(step, Send) else step for step in operation.steps),
        )
        for operation in history
    ]
