"""Who serves whom: consumers read from the replica in their own rack (KIP-392), and leadership goes back to where it belongs."""

import contextlib
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from quorumlog.node.config import RACK_AWARE_SELECTOR
from quorumlog.testing import LocalCluster
from tests.cluster.raw import (
    RawConnection,
    address_of,
    create,
    describe,
    eventually,
    fetch,
    fetch_body,
    leader_of,
    other_than,
    produce_values,
    to_leader,
    values_of,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    settings = {"rack": "rack-{node_id}", "replica_selector_class": RACK_AWARE_SELECTOR, "leader_rebalance_interval_s": 1}
    with LocalCluster(nodes=3, settings=settings) as cluster:
        yield cluster


@contextlib.contextmanager
def reader(cluster: LocalCluster, topic: str, rack: str) -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "none", "client.rack": rack})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        yield consumer
    finally:
        consumer.close()


def values(consumer: Consumer, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while len(found) < count:
        message = consumer.poll(20)
        assert message is not None, found
        assert message.error() is None, message.error()
        found.append(message.value())
    return found


def fetches_of(cluster: LocalCluster, node_id: int, topic: str) -> bool:
    with RawConnection(address_of(cluster, node_id)) as node:
        return fetch(node, topic, 0).error_code == 0


def test_the_leader_names_the_replica_and_the_replica_answers(cluster: LocalCluster) -> None:
    """From version 11 on, with the rack of a follower; the follower has the records, and wakes who waits for more."""
    create(cluster, "near")
    leader = leader_of(cluster, "near")
    follower = other_than(cluster, leader)
    with to_leader(cluster, "near") as node, RawConnection(address_of(cluster, follower)) as other:
        produce_values(node, "near", b"0", b"1")
        eventually(lambda: fetch(node, "near", 0, rack_id=f"rack-{follower}").preferred_read_replica == follower)
        assert not fetch(node, "near", 0, rack_id=f"rack-{follower}").records
        assert fetch(node, "near", 0, rack_id=f"rack-{leader}").records
        eventually(lambda: values_of(fetch(other, "near", 0).records) == [(0, b"0"), (1, b"1")])
        other.send("fetch", 12, **fetch_body("near", 2, max_wait_ms=20_000))
        produce_values(node, "near", b"2")
        assert values_of(other.receive().responses[0].partitions[0].records) == [(2, b"2")]


def test_a_consumer_moves_there_and_back(cluster: LocalCluster) -> None:
    """Every record once and in order: before, with, and after the death of the follower it reads from."""
    create(cluster, "moved")
    leader = leader_of(cluster, "moved")
    follower = other_than(cluster, leader)
    with to_leader(cluster, "moved") as node, reader(cluster, "moved", f"rack-{follower}") as consumer:
        produce_values(node, "moved", *(b"%d" % i for i in range(10)))
        found = values(consumer, 10)
        eventually(lambda: fetches_of(cluster, follower, "moved"))
        produce_values(node, "moved", *(b"%d" % i for i in range(10, 20)))
        found += values(consumer, 10)
        cluster.kill(follower)
        produce_values(node, "moved", *(b"%d" % i for i in range(20, 30)))
        found += values(consumer, 10)
        cluster.start(follower)
    assert found == [b"%d" % i for i in range(30)]


def test_the_preferred_replica_leads_again(cluster: LocalCluster) -> None:
    """Its node dies, another leads; once it is back and in sync, the controller gives leadership back by itself."""
    create(cluster, "preferred")
    preferred = leader_of(cluster, "preferred")
    assert describe(address_of(cluster, preferred), "preferred").partitions[0].replica_nodes[0] == preferred
    cluster.kill(preferred)
    other = address_of(cluster, other_than(cluster, preferred))
    eventually(lambda: describe(other, "preferred").partitions[0].leader_id not in (preferred, -1))
    cluster.start(preferred)
    eventually(lambda: describe(other, "preferred").partitions[0].leader_id == preferred)
    with RawConnection(address_of(cluster, preferred)) as node:
        resources = [{"resource_type": 4, "resource_name": str(preferred), "configuration_keys": None}]
        described = node.ask("describe_configs", 4, resources=resources).results[0].configs
    shown = {entry.name: entry.value for entry in described}
    assert (shown["auto.leader.rebalance.enable"], shown["leader.imbalance.check.interval.seconds"]) == ("true", "1")
