"""From a fault to the next acknowledged and the next read record: nodes killed, stopped, cut off; leaders moved; nodes restarted.

Default settings on both sides. Between two faults the node comes back, is in sync again, and gets back what it led.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.asking import active_controller, elect_preferred, preferred_leaders, restore_leaders
from tests.bench.contestants import Cluster, Contestant, Networked
from tests.bench.figures import MS, Figure, S
from tests.bench.load.steady import SteadyClients, first_acknowledgment
from tests.bench.workloads import Bench
from tests.bench.workloads.topics import KEPT, PARTITIONS, new_topic
from tests.cluster.leaders import wait_in_sync

ANSWER_TIMEOUT_S = 150.0  # librdkafka gives up on a silent node after 60 s
SYNC_TIMEOUT_S = 120.0
CALM_S = 1.0
MOVE_WATCHED_S = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` returns when the fault has its effect."""

    case: str
    of_controller: bool
    strike: Callable[[int], None]
    undo: Callable[[int], None]


def faults_of_processes(cluster: Cluster) -> list[Fault]:
    return [
        Fault("kill -9 of a leader", False, cluster.kill, cluster.start),
        Fault("kill -9 of the controller", True, cluster.kill, cluster.start),
        Fault("SIGSTOP of a leader", False, cluster.pause, cluster.resume),
    ]


def pulled_cable(cluster: Networked) -> Fault:
    return Fault("cable of a leader pulled", False, cluster.cut, cluster.mend)


@dataclass(frozen=True, slots=True)
class Scene:
    """A cluster's steady clients, and who leads what while all is well."""

    bootstrap_servers: str
    clients: SteadyClients
    topic: str
    preferred: dict[int, int]

    def wait_calm(self) -> None:
        """All in sync, everybody leads what is theirs, and records flow."""
        bootstrap = self.bootstrap_servers
        wait_in_sync(bootstrap, self.topic, timeout_s=SYNC_TIMEOUT_S)
        restore_leaders(bootstrap, self.topic, self.preferred)
        self.clients.wait_read(self.preferred, time.monotonic(), ANSWER_TIMEOUT_S)
        time.sleep(CALM_S)


def measure(contestant: Contestant, bench: Bench) -> Iterator[Figure]:
    times = range(bench.scale.faults)
    with contestant.fresh() as cluster, _scene(cluster.bootstrap_servers) as scene:
        for fault in faults_of_processes(cluster):
            for _ in times:
                yield from _measure_fault(scene, fault)
        for _ in times:
            yield _measure_move(scene, cluster, "planned move of leadership")
        yield from _measure_rolling_restart(scene, cluster)
    # librdkafka waits 80 to 120 ms before it sends again what a node no longer leads: this shows the cluster's own part.
    with contestant.fresh() as cluster, _scene(cluster.bootstrap_servers, {"retry.backoff.ms": 10}) as scene:
        for _ in times:
            yield _measure_move(scene, cluster, "planned move, retry.backoff.ms=10")
    if contestant.networked is None:
        bench.say("no cable is pulled: this machine makes no network namespaces (that needs root)")
        return
    with contestant.networked() as apart, _scene(apart.bootstrap_servers) as scene:
        for _ in times:
            yield from _measure_fault(scene, pulled_cable(apart))


@contextmanager
def _scene(bootstrap: str, producer_settings: Mapping[str, int] | None = None) -> Iterator[Scene]:
    topic = new_topic(bootstrap, config=KEPT)
    wait_in_sync(bootstrap, topic, timeout_s=SYNC_TIMEOUT_S)
    with SteadyClients(bootstrap, topic, PARTITIONS, producer_settings or {}) as clients:
        yield Scene(bootstrap, clients, topic, preferred_leaders(bootstrap, topic))


def _measure_fault(scene: Scene, fault: Fault) -> list[Figure]:
    """What the victim led, and, where it was the controller, what others led: its replicas there were in sync as well.

    Clients that were there may notice only by their own timeouts that a node is silent; a new one shows when the cluster
    is ready.
    """
    scene.wait_calm()
    victim = _victim(scene, of_controller=fault.of_controller)
    led = [partition for partition, leader in scene.preferred.items() if leader == victim]
    others = [partition for partition, leader in scene.preferred.items() if leader != victim]
    struck_at = time.monotonic()
    fault.strike(victim)
    case = f"{fault.case}, which led" if fault.of_controller else fault.case
    addresses = _without(scene.bootstrap_servers, victim)
    new = first_acknowledgment(addresses, scene.topic, led, ANSWER_TIMEOUT_S) - struck_at
    figures = [Figure(case, "to a new client's acknowledgment", S, new), *_waits(scene, case, led, struck_at)]
    if fault.of_controller:
        figures += _waits(scene, f"{fault.case}, others led", others, struck_at)
    fault.undo(victim)
    return figures


def _waits(scene: Scene, case: str, partitions: list[int], since: float) -> list[Figure]:
    return [
        Figure(case, "to the next acknowledgment", S, scene.clients.wait_acknowledged(partitions, since, ANSWER_TIMEOUT_S)),
        Figure(case, "to the next record read", S, scene.clients.wait_read(partitions, since, ANSWER_TIMEOUT_S)),
    ]


def _without(bootstrap: str, node: int) -> str:
    """The addresses of the others; nodes have the ids 1 to 3 in their order."""
    return ",".join(address for node_id, address in enumerate(bootstrap.split(","), 1) if node_id != node)


def _victim(scene: Scene, *, of_controller: bool) -> int:
    controller = active_controller(scene.bootstrap_servers)
    candidates = sorted(set(scene.preferred.values()) - {controller})
    return controller if of_controller else candidates[0]


def _measure_move(scene: Scene, cluster: Cluster, case: str) -> Figure:
    """A node has restarted and led nothing; it gets back its leadership while records flow."""
    scene.wait_calm()
    node = _victim(scene, of_controller=False)
    cluster.stop(node)
    cluster.start(node)
    wait_in_sync(scene.bootstrap_servers, scene.topic, timeout_s=SYNC_TIMEOUT_S)
    scene.clients.wait_read(scene.preferred, time.monotonic(), ANSWER_TIMEOUT_S)
    time.sleep(CALM_S)
    moved_at = time.monotonic()
    elect_preferred(scene.bootstrap_servers, scene.topic, scene.preferred)
    time.sleep(MOVE_WATCHED_S)
    silence = scene.clients.longest_silence(moved_at, moved_at + MOVE_WATCHED_S)
    return Figure(case, "longest time without acknowledgment", MS, 1e3 * silence)


def _measure_rolling_restart(scene: Scene, cluster: Cluster) -> list[Figure]:
    scene.wait_calm()
    started = time.monotonic()
    for node in sorted(set(scene.preferred.values())):
        cluster.stop(node)
        cluster.start(node)
        wait_in_sync(scene.bootstrap_servers, scene.topic, timeout_s=SYNC_TIMEOUT_S)
    ended = time.monotonic()
    case = "rolling restart"
    return [
        Figure(case, "whole", S, ended - started),
        Figure(case, "longest time without acknowledgment", S, scene.clients.longest_silence(started, ended)),
    ]
