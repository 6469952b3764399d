"""Brokers that are no voters: they follow the metadata log, lead and hold partitions, die and come back like any other."""

import random
import time

import pytest

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import active_controller, in_sync_of, leaders_of, metric, wait_in_sync
from tests.cluster.production import ConfluentClient, produce_through
from tests.cluster.raw import create, describe, eventually
from tests.cluster.segments import wait_equal
from tests.events import create_topic, judge, made_up, numbered, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "events"
PARTITIONS = 10
VOTERS, OBSERVERS = (1, 2, 3), (4,)
SETTINGS = {"leader_rebalance_interval_s": 1}


def wait_same_metadata(cluster: LocalCluster) -> None:
    """Every node has applied the same metadata, and says the same of the topic."""
    eventually(lambda: len({metric(node.http, "quorumlog_metadata_index") for node in cluster.nodes}) == 1)
    eventually(lambda: len({str(describe(node.kafka, TOPIC)) for node in cluster.nodes}) == 1)


def test_observers_hold_lead_and_follow() -> None:
    """Three voters and a broker more. The broker dies and comes back, the Raft leader dies, the broker stops cleanly: production
    goes on, metadata follows, nothing is lost."""
    count = 40_000
    with LocalCluster(nodes=4, settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        rng = random.Random(7)
        assert set(leaders_of(cluster.bootstrap_servers, TOPIC).values()) == {*VOTERS, *OBSERVERS}
        assert active_controller(cluster) in VOTERS

        def healed() -> None:
            cluster.wait_ready()
            wait_in_sync(cluster.bootstrap_servers, TOPIC)
            wait_same_metadata(cluster)

        def observer_dies() -> None:
            cluster.kill(4)
            time.sleep(rng.uniform(0, 1))
            eventually(lambda: 4 not in leaders_of(cluster.bootstrap_servers, TOPIC).values())
            cluster.start(4)
            healed()

        def raft_leader_dies() -> None:
            victim = active_controller(cluster)
            cluster.kill(victim)
            # Metadata that only the new leader can have committed reaches the observer.
            witness = cluster.nodes[3].kafka
            eventually(lambda: victim not in leaders_of(witness, TOPIC).values())
            eventually(lambda: len(set(leaders_of(witness, TOPIC).values())) >= 2)
            cluster.start(victim)
            healed()

        def observer_stops() -> None:
            cluster.stop(4)
            assert 4 not in leaders_of(cluster.nodes[0].kafka, TOPIC).values(), "a clean stop hands over before it ends"
            cluster.start(4)
            healed()

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        faults = [observer_dies, raft_leader_dies, observer_stops]
        promises = produce_through(client, numbered(made_up(count)), count, faults)
        assert promises.failed == {}
        found = read_all(cluster.bootstrap_servers, TOPIC)
        assert judge(promises, found).is_clean
        assert len(found) == count
        for partition, isr in in_sync_of(cluster.bootstrap_servers, TOPIC).items():
            wait_equal(cluster, TOPIC, [partition], isr)
        eventually(lambda: 4 in leaders_of(cluster.bootstrap_servers, TOPIC).values())


def test_observers_are_never_asked_to_elect() -> None:
    """Without a majority of the voters there is no controller, however many brokers there are; it comes back with the voters."""
    with LocalCluster(nodes=4, settings=SETTINGS) as cluster:
        create(cluster, TOPIC, partitions=4)
        cluster.kill(1)
        cluster.kill(2)
        time.sleep(1.5)  # a leader that has lost its majority notices within its election timeout
        with pytest.raises(TimeoutError):
            active_controller(cluster, timeout_s=1.5)
        cluster.start(1)
        assert active_controller(cluster) in (1, 3)
        eventually(lambda: 2 not in leaders_of(cluster.nodes[3].kafka, TOPIC).values())
        cluster.start(2)
        wait_in_sync(cluster.bootstrap_servers, TOPIC)
        wait_same_metadata(cluster)
