"""Random schedules against the quorum: crashes, cuts, resets, duplicated frames, snapshots, hand-overs, reads.

    python -m tests.raft.fuzz --seeds 0..100 --nodes 3 [--off g4,g6] [--duplicate] [--crash-points]

A run is decided by its seed. It ends with everything healed, and then everyone must agree, with every acknowledged command
there. With a guard off (see unguarded.py) there must be seeds that fail: a judge who never finds anyone guilty is none.
"""

import argparse
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quorumlog.host.ports import WriteBatch
from quorumlog.raft.errors import Fatal
from quorumlog.raft.ports import ProposeOutcome
from tests.raft.cluster import Cluster, EventListener, ListMachine, MessageStormError, engine_of
from tests.raft.unguarded import quorum_without
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

COMMAND_BYTES_MAX = 60
CRASH_POINT_CHANCE = 0.01


class Violation(AssertionError):
    """What must never happen, happened."""


class CrashPoint(BaseException):
    """The process dies here."""


@dataclass(slots=True)
class CrashPoints:
    """Deaths right before and after something reaches the disk."""

    rng: random.Random
    armed: bool = False

    def pass_by(self) -> None:
        if self.armed and self.rng.random() < CRASH_POINT_CHANCE:
            raise CrashPoint


class CrashingStore(SimStore):
    def __init__(self, rng: random.Random, points: CrashPoints) -> None:
        super().__init__(rng)
        self._points = points

    def write(self, batch: WriteBatch) -> None:
        self._points.pass_by()
        super().write(batch)
        self._points.pass_by()

    def sync(self) -> None:
        super().sync()
        self._points.pass_by()


class CrashingDisk(SimDisk):
    def __init__(self, rng: random.Random, points: CrashPoints) -> None:
        super().__init__(rng)
        self._points = points

    def write_atomic(self, path: str, data: bytes) -> None:
        self._points.pass_by()
        super().write_atomic(path, data)
        self._points.pass_by()


class CountingMachine(ListMachine):
    """Counts what the run reached: a search that never restores a snapshot judges none."""

    def __init__(self, observe: Callable[[int, str], None], stats: Counter[str]) -> None:
        super().__init__(observe)
        self._stats = stats

    def dump(self) -> bytes:
        self._stats["snapshots"] += 1
        return super().dump()

    def restore(self, index: int, data: bytes) -> None:
        self._stats["restored" if self.items else "restored at start"] += 1
        super().restore(index, data)


class FuzzCluster(Cluster):
    def __init__(self, points: CrashPoints, size: int, **arguments: Any) -> None:
        self._points = points
        super().__init__(size, **arguments)

    def make_store(self, rng: random.Random) -> SimStore:
        return CrashingStore(rng, self._points)

    def make_disk(self, rng: random.Random) -> SimDisk:
        return CrashingDisk(rng, self._points)


class Judge:
    """Remembers what was promised and compares it with what is."""

    def __init__(self) -> None:
        self.applied: dict[int, str] = {}
        self.acknowledged: list[str] = []
        self.highest_acknowledged = 0
        self.leaders: dict[int, int] = {}

    def on_applied(self, index: int, item: str) -> None:
        held = self.applied.setdefault(index, item)
        if held != item:
            raise Violation(f"state machine divergence at {index}: {held} and {item}")

    def on_acknowledged(self, item: str, index: int) -> None:
        self.acknowledged.append(item)
        self.highest_acknowledged = max(self.highest_acknowledged, index)

    def on_leader(self, voter: int, term: int) -> None:
        held = self.leaders.setdefault(term, voter)
        if held != voter:
            raise Violation(f"two leaders in term {term}: {held} and {voter}")

    def on_active(self, listener: EventListener) -> None:
        count = sum(1 if event[0] == "active" else -1 for event in listener.events if event[0] in ("active", "inactive"))
        if count not in (0, 1):
            raise Violation(f"on_active and on_inactive do not alternate: {listener.events}")


class Run:
    """One seed's history."""

    def __init__(self, seed: int, *, nodes: int, off: tuple[str, ...], duplicate: bool, crash_points: bool) -> None:
        self.rng = random.Random(seed)
        self.judge = Judge()
        self.points = CrashPoints(random.Random(f"{seed} points"))
        self.stats: Counter[str] = Counter()
        self._duplicate, self._crash_points = duplicate, crash_points
        self.cluster = FuzzCluster(
            self.points,
            nodes,
            seed=seed,
            quorum_class=quorum_without(*off),
            command_bytes_max=COMMAND_BYTES_MAX,
            append_batch_bytes=100,
            snapshot_every_entries=10**9,
            snapshot_chunk_bytes=100,
            snapshot_chunks_in_flight=2,
            trailing_entries=self.rng.choice([0, 0, 3, 30]),
        )
        self.cluster.make_machine = lambda voter: CountingMachine(self.judge.on_applied, self.stats)
        self.pairs = [(a, b) for a in self.cluster.voters for b in self.cluster.voters if a < b]
        self._proposed = 0

    def execute(self, steps: int) -> Counter[str]:
        self.cluster.start_all()
        chaos, load = self.rng.choice([0.3, 0.6, 1.0]), self.rng.choice([0.05, 0.2, 0.5])
        self.points.armed = self._crash_points
        for _ in range(steps):
            self._step(chaos, load)
        self.points.armed = False
        self._heal()
        self._check_end()
        self.stats["acknowledged"], self.stats["terms"] = len(self.judge.acknowledged), max(self.judge.leaders, default=0)
        return self.stats

    def _step(self, chaos: float, load: float) -> None:
        cluster, rng = self.cluster, self.rng
        cluster.clock.advance(rng.choice([0.005, 0.02, 0.06]))
        for voter in cluster.running():
            if rng.random() < 0.7:
                self._on(voter, lambda voter=voter: cluster.nodes[voter].tick())  # type: ignore[misc]
        for source, destination in sorted(cluster.links.queues):
            if cluster.links.queues[source, destination] and rng.random() < 0.55:
                self._disturb(source, destination)
                count = rng.choice([1, 1, 2, 5])
                self._on(destination, lambda s=source, d=destination, n=count: cluster.deliver(s, d, n))  # type: ignore[misc]
        if rng.random() < load:
            self._use()
        self._break(rng.random() / chaos)

    def _on(self, voter: int, action: Callable[[], None]) -> None:
        if voter not in self.cluster.nodes:
            return
        try:
            action()
        except CrashPoint:
            self.stats["crash points"] += 1
            self._kill(voter)
            return
        if self.cluster.leads(voter):
            self.judge.on_leader(voter, self.cluster.nodes[voter].status().term)
        self.judge.on_active(self.cluster.listeners[voter])

    def _disturb(self, source: int, destination: int) -> None:
        """Deliver a frame twice, or one late. gRPC does neither; Raft must not mind."""
        queue = self.cluster.links.queues[source, destination]
        if self._duplicate and self.rng.random() < 0.05:
            queue.append(queue[0])
        if self._duplicate and len(queue) > 1 and self.rng.random() < 0.05:
            place = self.rng.randrange(len(queue))
            frame = queue[place]
            del queue[place]
            queue.append(frame)

    def _use(self) -> None:
        leaders = self.cluster.leaders()
        if not leaders:
            return
        voter = self.rng.choice(leaders)
        if self.rng.random() < 0.2:
            self._on(voter, lambda: self._read(voter))
            return
        item = f"v{self._proposed}" + "." * self.rng.choice([0, 10, 40])
        self._proposed += 1

        def done(outcome: ProposeOutcome, index: int) -> None:
            if outcome is ProposeOutcome.COMMITTED:
                self.judge.on_acknowledged(item, index)

        self._on(voter, lambda: self.cluster.nodes[voter].propose(item.encode(), done))

    def _read(self, voter: int) -> None:
        seen_by_someone = self.judge.highest_acknowledged
        node = self.cluster.nodes[voter]

        def done(fresh: bool) -> None:
            self.stats["reads"] += fresh
            if fresh and node.status().applied_index < seen_by_someone:
                raise Violation(f"stale read on {voter}: applied {node.status().applied_index} of {seen_by_someone}")

        node.read_barrier(done)

    def _kill(self, voter: int) -> None:
        self.cluster.kill(voter, power=self.rng.random() < 0.5, process_gone=self.rng.random() < 0.5)
        self.stats["crashes"] += 1

    def _start(self, voter: int) -> None:
        try:
            self.cluster.start(voter)
        except CrashPoint:
            self.stats["crashes at start"] += 1
            self.cluster.crash_storage(voter, power=self.rng.random() < 0.5)

    def _break(self, fate: float) -> None:
        cluster, rng = self.cluster, self.rng
        running = cluster.running()
        down = [voter for voter in cluster.voters if voter not in cluster.nodes]
        pair = rng.choice(self.pairs)
        is_cut = frozenset(pair) in cluster.links.down
        if fate < 0.010 and running:
            self._kill(rng.choice(running))
        elif 0.010 <= fate < 0.030 and down:
            self._start(rng.choice(down))
        elif 0.030 <= fate < 0.055 and not is_cut:
            cluster.cut(*pair)
        elif 0.055 <= fate < 0.090 and cluster.links.down:
            cluster.join(*rng.choice(sorted(sorted(cut) for cut in cluster.links.down)))
        elif 0.090 <= fate < 0.100 and not is_cut:
            cluster.cut(*pair)  # a reset: what was under way is lost, the connection is back at once
            cluster.join(*pair)
        elif 0.100 <= fate < 0.115 and running:
            cluster.nodes[rng.choice(running)].snapshot_soon()
        elif 0.115 <= fate < 0.118 and running:
            self._on(voter := rng.choice(running), cluster.nodes[voter].transfer_leadership)

    def _heal(self) -> None:
        for cut in sorted(sorted(cut) for cut in self.cluster.links.down):
            self.cluster.join(*cut)
        for voter in self.cluster.voters:
            if voter not in self.cluster.nodes:
                self._start(voter)
        self._calm(30.0)

    def _calm(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.05)):
            self.cluster.clock.advance(0.05)
            for voter in self.cluster.voters:
                self._on(voter, self.cluster.nodes[voter].tick)
            for source, destination in sorted(self.cluster.links.queues):
                self._on(destination, lambda s=source, d=destination: self.cluster.deliver(s, d, 50))  # type: ignore[misc]

    def _check_end(self) -> None:
        leaders = self.cluster.leaders()
        if not leaders:
            raise Violation("no leader 30 s after everything was healed")
        outcomes = self.cluster.propose(leaders[0], "final")
        self._calm(5.0)
        for voter in self.cluster.voters:
            self._check_items(voter)
        if outcomes != [ProposeOutcome.COMMITTED]:
            raise Violation(f"not writable after healing: {outcomes}")

    def _check_items(self, voter: int) -> None:
        items = self.cluster.items(voter)
        held = set(items)
        lost = [item for item in self.judge.acknowledged if item not in held]
        if lost:
            raise Violation(f"lost: node {voter} lacks {len(lost)} of {len(self.judge.acknowledged)}, e.g. {lost[:2]}")
        if len(held) != len(items):
            raise Violation(f"applied twice on node {voter}")
        if items != self.cluster.items(self.cluster.voters[0]):
            raise Violation(f"nodes differ after healing: {voter} and {self.cluster.voters[0]}")
        if engine_of(self.cluster.nodes[voter]).applied_index < self.judge.highest_acknowledged:
            raise Violation(f"node {voter} did not catch up")


def run_seed(
    seed: int,
    *,
    nodes: int = 3,
    off: tuple[str, ...] = (),
    duplicate: bool = False,
    crash_points: bool = False,
    steps: int = 1500,
) -> Counter[str]:
    """Statistics of a clean run. Raises Violation."""
    try:
        return Run(seed, nodes=nodes, off=off, duplicate=duplicate, crash_points=crash_points).execute(steps)
    except Violation:
        raise
    except (Fatal, MessageStormError, AssertionError) as error:
        raise Violation(f"{type(error).__name__}: {error}") from error


def main() -> int:
    arguments = _parse_arguments()
    first, _, last = arguments.seeds.partition("..")
    off = tuple(guard for guard in arguments.off.split(",") if guard)
    options = {"nodes": arguments.nodes, "off": off, "duplicate": arguments.duplicate, "crash_points": arguments.crash_points}
    failures: dict[int, str] = {}
    totals: Counter[str] = Counter()
    seeds = range(int(first), int(last or int(first) + 1))
    for seed in seeds:
        try:
            totals += run_seed(seed, **options)
        except Exception as error:
            failures[seed] = f"{type(error).__name__}: {error}"
    print(f"{len(seeds)} seeds with {options}: {len(failures)} violating; totals {dict(totals)}")
    for seed, failure in list(failures.items())[:10]:
        print(f"  seed {seed}: {failure[:200]}")
    return 1 if failures else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0..100", help="first..end (end excluded), or one seed")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--off", default="", help="guards to take out, comma separated")
    parser.add_argument("--duplicate", action="store_true", help="duplicate and delay frames")
    parser.add_argument("--crash-points", action="store_true", help="die around durable writes")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(main())
