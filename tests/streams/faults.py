"""kill -9, drawn from a seed: nodes of the cluster, chosen by what they are at that moment, and instances of the engines."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.clients.peers import Peer
from tests.clients.stage import eventually
from tests.cluster.raw import RawConnection
from tests.streams.engines import Engine, Instance

VICTIMS = ("coordinator", "engine", "controller", "node")
DEAD_S = (0.5, 3.0)
PAUSE_S = (1.0, 4.0)
IN_SYNC_TIMEOUT_S = 90.0


def drawn(chance: random.Random) -> Iterator[str]:
    """Kinds of victims: each of them once before one comes again."""
    while True:
        kinds = list(VICTIMS)
        chance.shuffle(kinds)
        yield from kinds


@dataclass(slots=True)
class Killer:
    """Kills one after the other, each of which is back, and its partitions in sync, before the next one."""

    peer: Peer
    engines: Sequence[Engine]
    chance: random.Random
    most: int
    say: Callable[[str], None]
    strikes: list[str] = field(default_factory=list)
    error: BaseException | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Whatever it has killed is back then."""
        if self._thread is not None:
            self._thread.join()

    def wrong(self) -> list[str]:
        return [] if self.error is None else [f"faults: {self.error!r}"]

    def _run(self) -> None:
        try:
            kinds = drawn(self.chance)
            while len(self.strikes) < self.most and not self.ended.wait(self.chance.uniform(*PAUSE_S)):
                self._strike(next(kinds))
        except BaseException as error:
            self.error = error

    def _strike(self, kind: str) -> None:
        dead_s = self.chance.uniform(*DEAD_S)
        if kind == "engine":
            self._kill_instance(self._instance(), dead_s)
        else:
            node_id, why = self._node(kind)
            self._kill_node(node_id, why, dead_s)

    def _instance(self) -> Instance:
        return self.chance.choice([one for engine in self.engines for one in engine.instances])

    def _kill_instance(self, instance: Instance, dead_s: float) -> None:
        self._tell(f"kill -9 {instance.name}, for {dead_s:.1f} s")
        instance.kill_for(dead_s)

    def _kill_node(self, node_id: int, why: str, dead_s: float) -> None:
        self._tell(f"kill -9 node {node_id} ({why}), for {dead_s:.1f} s")
        self.peer.kill(node_id)
        time.sleep(dead_s)
        self.peer.start(node_id)
        eventually(self._in_sync, f"everything is in sync after node {node_id} came back", IN_SYNC_TIMEOUT_S)

    def _tell(self, text: str) -> None:
        self.strikes.append(text)
        self.say(text)

    def _node(self, kind: str) -> tuple[int, str]:
        if kind == "controller":
            return controller(self.addresses[1]), "the active controller"
        if kind == "coordinator" and (found := coordinators(self.addresses, [engine.prefix for engine in self.engines])):
            name = self.chance.choice(sorted(found))
            return found[name], f"coordinator of transactions of {name}"
        return self.chance.choice(sorted(self.addresses)), "any"

    @property
    def addresses(self) -> dict[int, str]:
        return dict(enumerate(self.peer.bootstrap_servers.split(","), 1))

    def _in_sync(self) -> bool:
        topics = self.peer.admin.list_topics(timeout=30).topics.values()
        return all(len(place.isrs) == 3 for topic in topics for place in topic.partitions.values())


def coordinators(addresses: dict[int, str], prefixes: Sequence[str]) -> dict[str, int]:
    """Transactional id -> the node that coordinates it, of those that begin so."""
    found: dict[str, int] = {}
    for node_id, address in sorted(addresses.items()):
        with RawConnection(address) as node:
            states = node.ask("list_transactions", 0, state_filters=[], producer_id_filters=[]).transaction_states
        names = [state.transactional_id for state in states]
        found |= {name: node_id for name in names if name.startswith(tuple(prefixes))}
    return found


def controller(address: str) -> int:
    asked = [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]
    with RawConnection(address) as node:
        (topic,) = node.ask("describe_quorum", 0, topics=asked).topics
        return int(topic.partitions[0].leader_id)
