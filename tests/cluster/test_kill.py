"""kill -9 of nodes while real clients produce: nothing that was acknowledged is lost, doubled or out of order."""

import functools
import random
import time
from collections.abc import Callable

import pytest

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import active_controller, in_sync_of, leaders_of, wait_in_sync
from tests.cluster.production import (
    AiokafkaClient,
    Client,
    ConfluentClient,
    Fault,
    KafkaPythonClient,
    produce_through,
)
from tests.events import Promises, create_topic, judge, made_up, numbered, order_lines, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "orders"
PARTITIONS = 6
REAL_LINES = 541_909
SETTINGS = {"leader_rebalance_interval_s": 1}  # so that every node leads again soon after it is back


def check(cluster: LocalCluster, promises: Promises, count: int) -> None:
    """Every event was acknowledged, and is there once, in order per key, at the place that was told."""
    assert promises.failed == {}
    assert len(promises.acknowledged) == count
    found = read_all(cluster.bootstrap_servers, TOPIC)
    verdict = judge(promises, found)
    assert verdict.is_clean, verdict
    assert len(found) == count, "an idempotent producer's events are there once, and nothing else is"


class Crash:
    """Kills a leader, starts it again after a while, waits until all is in sync. Remembers whom it killed, and what that was."""

    def __init__(self, cluster: LocalCluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self.killed: list[int] = []
        self.controllers_killed = 0

    def leader(self) -> None:
        leaders = sorted(set(leaders_of(self._cluster.bootstrap_servers, TOPIC).values()))
        self._kill(self._rng.choice(leaders))

    def controller(self) -> None:
        self._kill(active_controller(self._cluster))

    def follower(self) -> None:
        """A node that leads none of partition 0's records: for its leader it is a follower."""
        leader = leaders_of(self._cluster.bootstrap_servers, TOPIC)[0]
        self._kill(self._rng.choice([node.node_id for node in self._cluster.nodes if node.node_id != leader]))

    def _kill(self, victim: int) -> None:
        self.controllers_killed += active_controller(self._cluster) == victim
        self.killed.append(victim)
        self._cluster.kill(victim)
        time.sleep(self._rng.uniform(0, 1))
        self._cluster.start(victim)
        wait_in_sync(self._cluster.bootstrap_servers, TOPIC)


@pytest.mark.realdata
@pytest.mark.timeout(240)
def test_all_real_order_lines_survive_five_kills(real_events: str) -> None:
    """All real order lines by an idempotent producer; five leaders die on the way, the active controller among them."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        crash = Crash(cluster, random.Random(2))
        faults: list[Fault] = [crash.leader, crash.controller, crash.leader, crash.leader, crash.controller]
        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        promises = produce_through(client, numbered(order_lines(real_events)), REAL_LINES, faults)
        assert len(crash.killed) == 5
        assert crash.controllers_killed >= 2
        check(cluster, promises, REAL_LINES)


@pytest.mark.realdata
@pytest.mark.parametrize("make_client", [AiokafkaClient, KafkaPythonClient])
def test_other_clients_lose_nothing_either(real_events: str, make_client: Callable[[str, str], Client]) -> None:
    """aiokafka and kafka-python, both idempotent, produce while a leader and the active controller die."""
    count = 30_000
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        crash = Crash(cluster, random.Random(3))
        client = make_client(cluster.bootstrap_servers, TOPIC)
        lines = numbered(order_lines(real_events, limit=count))
        promises = produce_through(client, lines, count, [crash.leader, crash.controller])
        assert len(crash.killed) == 2
        check(cluster, promises, count)


def test_death_of_followers_stops_nobody() -> None:
    """Followers die, one over and over while it catches up: leaders go on, what is half there is never taken for whole."""
    count = 40_000
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        rng = random.Random(4)
        crash = Crash(cluster, rng)

        def crash_loop() -> None:
            for _ in range(3):
                cluster.kill(3)
                cluster.start(3, wait=False)
                time.sleep(rng.uniform(0.5, 1.5))
            cluster.wait_ready()
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        promises = produce_through(client, numbered(made_up(count)), count, [crash.follower, crash_loop])
        check(cluster, promises, count)
        assert promises.longest_silence_s < 10.0


def test_more_than_a_minority_dies_at_once() -> None:
    """Two nodes die at the same moment, and later all three: producers wait, and go on where they stood when all are back."""
    count = 40_000
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)

        def crash(victims: tuple[int, ...]) -> None:
            for victim in victims:
                cluster.kill(victim)
            time.sleep(1.5)
            for victim in victims:
                cluster.start(victim, wait=False)
            cluster.wait_ready()
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        faults = [functools.partial(crash, (2, 3)), functools.partial(crash, (1, 2, 3))]
        promises = produce_through(client, numbered(made_up(count)), count, faults)
        check(cluster, promises, count)
        assert all(isr == [1, 2, 3] for isr in in_sync_of(cluster.bootstrap_servers, TOPIC).values())
