"""The model log with transactions that take their time: several are open at once, over several keys, beside all other clients.

A transaction is decided at one instant, and known on each of its keys by a marker of its own, some time later. Who reads, reads
below the first record whose transaction has no marker there yet; what was aborted is gone with its marker.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from quorumlog.checker.history import Operation, Outcome, Poll, Send
from tests.checker.model import KEYS, POLL_MAX, SKIPS, Cluster, Plant

WRITERS = range(60, 64)


@dataclass
class Transaction:
    """One that is open, or decided and not over on each of its keys. `values`: by key, where there is no marker yet."""

    begun: float
    steps: list[Send | Poll] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    is_commit: bool = False


class TransactionalCluster(Cluster):
    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.instant = 0
        self.open: dict[int, Transaction] = {}  # by process
        self.decided: list[Transaction] = []
        self.ends = dict.fromkeys(KEYS, 0)  # what was aborted keeps its offsets

    def now(self) -> float:
        self.instant += 1
        return float(self.instant)

    def tell(self, process: int, kind: str, outcome: Outcome, *steps: Send | Poll, keys: tuple[str, ...] = ()) -> None:
        now = self.now()
        self.history.append(Operation(process, kind, now, now + 0.5, outcome, steps, keys))

    def append(self, key: str, value: str) -> int:
        offset = self.ends[key] + self.rng.choice((0, 0, 0, 1, 4))
        self.ends[key] = offset + 1
        self.logs[key].append((offset, value))
        return offset

    # --- transactions

    def begin(self, process: int) -> Transaction:
        self.open[process] = Transaction(self.now())
        return self.open[process]

    def write(self, process: int, key: str) -> str:
        transaction, value = self.open[process], self.value()
        offset = self.append(key, value)
        transaction.steps.append(Send(key, value, offset if self.rng.random() < 0.8 else None))
        transaction.values.setdefault(key, []).append(value)
        return value

    def end(self, process: int, outcome: Outcome, *, is_commit: bool) -> Transaction:
        """Decided now; `is_commit` is what the cluster does, the outcome what the client is told."""
        transaction = self.open.pop(process)
        transaction.is_commit = is_commit
        asked = None if outcome is Outcome.FAIL else self.now()
        completed = None if outcome is Outcome.UNKNOWN else self.now()
        steps = tuple(transaction.steps)
        self.history.append(Operation(process, "txn", transaction.begun, completed, outcome, steps, ending=asked))
        self.decided.append(transaction)
        return transaction

    def mark(self, transaction: Transaction, key: str) -> None:
        """The marker comes to one of its keys."""
        values = transaction.values.pop(key)
        if not transaction.is_commit:
            self.logs[key] = [record for record in self.logs[key] if record[1] not in values]

    def stable(self, key: str) -> int:
        """How many records of a log can be read."""
        pending = {value for transaction in (*self.open.values(), *self.decided) for value in transaction.values.get(key, ())}
        log = self.logs[key]
        return next((place for place, (_, value) in enumerate(log) if value in pending), len(log))

    def read(self, process: int, key: str) -> Poll:
        place = self.places.get((process, key), 0)
        records = self.logs[key][place : min(place + self.rng.randint(0, POLL_MAX), self.stable(key))]
        self.places[process, key] = place + len(records)
        return Poll(key, tuple(records))

    # --- what happens

    def step(self) -> None:
        if self.rng.random() < 0.4:
            super().step()
            return
        process = self.rng.choice(WRITERS)
        if self.decided and self.rng.random() < 0.4:
            self.mark_some()
        elif process not in self.open:
            self.begin(process)
        else:
            self.go_on(process)

    def go_on(self, process: int) -> None:
        chance = self.rng.random()
        if chance < 0.5:
            self.write(process, self.key())
        elif chance < 0.65:
            self.open[process].steps.append(self.read(process, self.key()))
        else:
            self.end_somehow(process)

    def end_somehow(self, process: int) -> None:
        outcome = self.rng.choice((Outcome.OK, Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN))
        is_commit = outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and self.rng.random() < 0.5)
        self.end(process, outcome, is_commit=is_commit)

    def mark_some(self) -> None:
        transaction = self.rng.choice(self.decided)
        if transaction.values:
            self.mark(transaction, self.rng.choice(sorted(transaction.values)))
        else:
            self.decided.remove(transaction)

    def settle(self) -> None:
        """Whoever is left is aborted: its process told nobody of it, or told that it failed."""
        for process in list(self.open):
            self.end(process, Outcome.FAIL, is_commit=False)
        for transaction in self.decided:
            for key in sorted(transaction.values):
                self.mark(transaction, key)
        self.decided.clear()


# --- plants: what the cluster of the model does to one transaction


def _written(cluster: Cluster, process: int) -> tuple[TransactionalCluster, tuple[str, str]]:
    """Values in two keys, of a transaction that is open; what is open besides is over, so that a log goes on behind them."""
    assert isinstance(cluster, TransactionalCluster)
    cluster.settle()
    keys = cluster.rng.sample(KEYS, 2)
    cluster.begin(process)
    for key in keys:
        cluster.write(process, key)
    return cluster, (keys[0], keys[1])


def _half(outcome: Outcome) -> Callable[[Cluster, int], None]:
    """On one key it commits, on the other it aborts; what the client is told is the same for both."""

    def tear(cluster: Cluster, process: int) -> None:
        torn, (first, second) = _written(cluster, process)
        transaction = torn.end(process, outcome, is_commit=True)
        torn.mark(transaction, first)
        transaction.is_commit = False
        torn.mark(transaction, second)

    return tear


def _lost(cluster: Cluster, process: int) -> None:
    """Acknowledged, and aborted on every key."""
    losing, _ = _written(cluster, process)
    transaction = losing.end(process, Outcome.OK, is_commit=True)
    transaction.is_commit = False


def _committed_all_the_same(cluster: Cluster, process: int) -> None:
    leaking, _ = _written(cluster, process)
    leaking.end(process, Outcome.FAIL, is_commit=True)


def _seen_early(cluster: Cluster, process: int) -> None:
    """Somebody reads beyond what is stable."""
    early, (key, _) = _written(cluster, process)
    early.tell(next(early.planters), "poll", Outcome.OK, Poll(key, (early.logs[key][-1],)))
    early.end(process, Outcome.OK, is_commit=True)


def _seen_by_each_other(cluster: Cluster, process: int) -> None:
    both, (first, second) = _written(cluster, process)
    other = next(both.planters)
    both.begin(other)
    both.write(other, second)
    both.open[process].steps.append(Poll(second, (both.logs[second][-1],)))
    both.open[other].steps.append(Poll(first, (both.logs[first][-1],)))
    both.end(process, Outcome.OK, is_commit=True)
    both.end(other, Outcome.OK, is_commit=True)


MISSING = frozenset({"lost-write"}) | SKIPS

TRANSACTIONAL_PLANTS = {
    "half of an unknown one": (
        "torn-transaction",
        Plant(before=_half(Outcome.UNKNOWN), may_imply=MISSING),
    ),
    "half of an acknowledged one": (
        "torn-transaction",
        Plant(before=_half(Outcome.OK), implies=frozenset({"unseen"}), may_imply=MISSING),
    ),
    "an acknowledged one that is lost": ("unseen", Plant(before=_lost, may_imply=MISSING)),
    "an aborted one that is there": ("aborted-read", Plant(before=_committed_all_the_same)),
    "one that is read while it is open": ("intermediate-read", Plant(before=_seen_early)),
    "two that read each other": ("G1c", Plant(before=_seen_by_each_other, implies=frozenset({"intermediate-read"}))),
}
