"""Voters in one process, on virtual time, with links, disks and crashes in the test's hands."""

import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.engine import Engine
from quorumlog.raft.identity import format_quorum
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.raft.quorum import Quorum
from tests.sim.clock import SimClock
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

START_S = 1000.0
FRAMES_ON_ONE_LINK_MAX = 20_000


class MessageStormError(Exception):
    """One link holds more frames than any sane conversation needs."""


class ListMachine:
    """The simplest state: the list of commands. `observe` sees each one applied."""

    def __init__(self, observe: Callable[[int, str], None] = lambda index, item: None) -> None:
        self.items: list[str] = []
        self._observe = observe

    def apply(self, index: int, term: int, command: bytes) -> None:
        self._observe(index, command.decode())
        self.items.append(command.decode())

    def dump(self) -> bytes:
        return json.dumps(self.items).encode()

    def restore(self, index: int, data: bytes) -> None:
        self.items = json.loads(data)


class EventListener:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_active(self, term: int) -> None:
        self.events.append(("active", term))

    def on_inactive(self) -> None:
        self.events.append(("inactive",))

    def on_leader(self, leader: int | None, term: int) -> None:
        self.events.append(("leader", leader, term))


class Links:
    """First in, first out per direction; a cut loses what is under way."""

    def __init__(self) -> None:
        self.queues: dict[tuple[int, int], deque[bytes]] = defaultdict(deque)
        self.down: set[frozenset[int]] = set()

    def carry(self, source: int, destination: int, frame: bytes) -> bool:
        if frozenset((source, destination)) in self.down:
            return False
        queue = self.queues[source, destination]
        if len(queue) >= FRAMES_ON_ONE_LINK_MAX:
            raise MessageStormError(f"{len(queue)} frames from {source} to {destination}")
        queue.append(frame)
        return True

    def clear(self, a: int, b: int) -> None:
        self.queues[a, b].clear()
        self.queues[b, a].clear()


class Cluster:
    """Formatted voters, started and fully linked. `nodes` holds the running ones."""

    def __init__(self, size: int = 3, *, seed: int = 1, quorum_class: type[Quorum] = Quorum, **settings: Any) -> None:
        self.voters = tuple(range(1, size + 1))
        self.clock = SimClock(start_s=START_S)
        self.links = Links()
        self.nodes: dict[int, Quorum] = {}
        self.machines: dict[int, ListMachine] = {}
        self.listeners: dict[int, EventListener] = {}
        self.stores = {voter: self.make_store(random.Random(f"{seed} store {voter}")) for voter in self.voters}
        self.disks = {voter: self.make_disk(random.Random(f"{seed} disk {voter}")) for voter in self.voters}
        self.make_machine: Callable[[int], ListMachine] = lambda voter: ListMachine()
        self._seed, self._starts = seed, 0
        self._quorum_class, self._settings = quorum_class, settings
        for voter in self.voters:
            format_quorum(self.stores[voter], cluster_id="c", node_id=voter, storage_id=f"s{voter}", voters=self.voters)

    def make_store(self, rng: random.Random) -> SimStore:
        return SimStore(rng)

    def make_disk(self, rng: random.Random) -> SimDisk:
        return SimDisk(rng)

    def start_all(self) -> "Cluster":
        for voter in self.voters:
            self.start(voter)
        return self

    def start(self, voter: int) -> Quorum:
        self._starts += 1
        self.stores[voter].reopen()
        self.machines[voter], self.listeners[voter] = self.make_machine(voter), EventListener()
        node = self._quorum_class(
            QuorumConfig(node_id=voter, voters=self.voters, **self._settings),
            store=self.stores[voter],
            disk=self.disks[voter],
            machine=self.machines[voter],
            listener=self.listeners[voter],
            send=lambda peer, frame: peer in self.nodes and self.links.carry(voter, peer, frame),
            clock=self.clock,
            rng=random.Random(f"{self._seed} node {voter} {self._starts}"),
        )
        self.nodes[voter] = node
        for other in self.running():
            if other != voter and frozenset((voter, other)) not in self.links.down:
                self._connect(voter, other)
        return node

    def _connect(self, a: int, b: int) -> None:
        self.nodes[a].on_peer_connected(b)
        self.nodes[b].on_peer_connected(a)

    def running(self) -> list[int]:
        return sorted(self.nodes)

    def kill(self, voter: int, *, power: bool = False, process_gone: bool = False) -> None:
        """End a process: what it wrote stays, with `power` only what it synced."""
        self.nodes.pop(voter)
        self.crash_storage(voter, power=power)
        for other in self.running():
            self.links.clear(voter, other)
            self.nodes[other].on_peer_disconnected(voter, process_gone=process_gone)

    def crash_storage(self, voter: int, *, power: bool) -> None:
        self.stores[voter].crash(power=power)
        self.disks[voter].crash(power=power)

    def cut(self, a: int, b: int) -> None:
        self.links.down.add(frozenset((a, b)))
        self.links.clear(a, b)
        for own, peer in ((a, b), (b, a)):
            if own in self.nodes:
                self.nodes[own].on_peer_disconnected(peer, process_gone=False)

    def join(self, a: int, b: int) -> None:
        self.links.down.discard(frozenset((a, b)))
        if a in self.nodes and b in self.nodes:
            self._connect(a, b)

    def isolate(self, voter: int) -> None:
        for other in self.voters:
            if other != voter:
                self.cut(voter, other)

    def deliver(self, source: int, destination: int, count: int = 1 << 30) -> None:
        queue = self.links.queues[source, destination]
        while count > 0 and queue and destination in self.nodes:
            self.nodes[destination].on_message(source, queue.popleft())
            count -= 1

    def deliver_all(self) -> None:
        for source, destination in sorted(self.links.queues):
            self.deliver(source, destination)

    def tick(self, *voters: int, seconds: float = 0.11) -> None:
        self.clock.advance(seconds)
        for voter in voters or self.running():
            self.nodes[voter].tick()

    def settle(self, rounds: int = 12, *voters: int) -> None:
        """Heartbeats and answers back and forth, everything delivered."""
        for _ in range(rounds):
            self.tick(*voters)
            self.deliver_all()

    def run(self, seconds: float, step_s: float = 0.02) -> None:
        for _ in range(round(seconds / step_s)):
            self.tick(seconds=step_s)
            self.deliver_all()

    def elect(self, candidate: int, among: Iterable[int], after_s: float = 1.2) -> bool:
        """Let the candidate's election timer fire in `after_s` seconds, and only it and `among` speak."""
        self.clock.advance(after_s)
        engine_of(self.nodes[candidate])._SyncObj__raftElectionDeadline = float("-inf")
        for _ in range(4):
            self.nodes[candidate].tick()
            for voter in among:
                self.deliver(candidate, voter)
            for voter in among:
                self.deliver(voter, candidate)
            if self.leads(candidate):
                return True
        return False

    def leads(self, voter: int) -> bool:
        return engine_of(self.nodes[voter]).is_leader

    def leaders(self) -> list[int]:
        return [voter for voter in self.running() if self.leads(voter)]

    def propose(self, voter: int, item: str, **arguments: Any) -> list[ProposeOutcome]:
        """The outcome appears in the returned list once it is known."""
        outcomes: list[ProposeOutcome] = []
        self.nodes[voter].propose(item.encode(), lambda outcome, index: outcomes.append(outcome), **arguments)
        return outcomes

    def items(self, voter: int) -> list[str]:
        return self.machines[voter].items

    def log_of(self, voter: int) -> list[tuple[int, int]]:
        """Index and term of each entry kept."""
        journal = engine_of(self.nodes[voter])._journal
        return [(entry.index, entry.term) for entry in journal[:]]


def engine_of(quorum: Quorum) -> Engine:
    return quorum._engine
