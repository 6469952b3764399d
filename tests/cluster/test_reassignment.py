"""Partitions move between nodes under load: throttled, taken back, over the death of a node; nothing is lost, old files go."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cluster.leaders import active_controller, metric
from tests.cluster.production import ConfluentClient, produce_through
from tests.cluster.raw import RawConnection, address_of, bugs_in, create, describe, eventually
from tests.cluster.segments import segment_files, wait_equal
from tests.events import create_topic, judge, made_up, numbered, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC, BROKER = 2, 4
SET, DELETE = 0, 1
PREFERRED, UNCLEAN = 0, 1
RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
LISTS = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=4, settings={"leader_rebalance_interval_s": 1}) as cluster:
        yield cluster
        assert not bugs_in(cluster)


def ask(cluster: LocalCluster, api: str, version: int, **body: Any) -> Any:
    """Of node 1: any node forwards to the controller."""
    with RawConnection(cluster.nodes[0].kafka) as node:
        return node.ask(api, version, **body)


def move(cluster: LocalCluster, topic: str, target: list[int] | None, *, partitions: int = 1) -> set[ErrorCode]:
    wanted = [{"partition_index": index, "replicas": target} for index in range(partitions)]
    answer = ask(
        cluster, "alter_partition_reassignments", 1, timeout_ms=20_000, topics=[{"name": topic, "partitions": wanted}]
    )  # fmt: skip
    assert answer.error_code == ErrorCode.none
    return {ErrorCode(one.error_code) for one in answer.responses[0].partitions}


def moving(cluster: LocalCluster, topic: str) -> list[Any]:
    answer = ask(cluster, "list_partition_reassignments", 0, timeout_ms=20_000, topics=None)
    return [one for listed in answer.topics if listed.name == topic for one in listed.partitions]


def settle(cluster: LocalCluster, topic: str) -> None:
    eventually(lambda: not moving(cluster, topic), timeout_s=60)


def places(cluster: LocalCluster, topic: str) -> set[tuple[int, ...]]:
    return {tuple(one.replica_nodes) for one in describe(cluster.nodes[0].kafka, topic).partitions}


def directory_of(cluster: LocalCluster, node_id: int) -> Path:
    return next(node.data_dir for node in cluster.nodes if node.node_id == node_id)


def holds(cluster: LocalCluster, node_id: int, topic: str, partition: int = 0) -> bool:
    return bool(segment_files(directory_of(cluster, node_id), topic, partition))


def throttle(cluster: LocalCluster, topic: str, rate: int | None) -> None:
    """As kafka-reassign-partitions sets and takes back what its --throttle says."""
    operation = DELETE if rate is None else SET
    rates = [{"name": name, "config_operation": operation, "value": rate and str(rate)} for name in RATES]
    lists = [{"name": name, "config_operation": operation, "value": rate and "*"} for name in LISTS]
    resources = [{"resource_type": BROKER, "resource_name": str(node.node_id), "configs": rates} for node in cluster.nodes]
    resources.append({"resource_type": TOPIC, "resource_name": topic, "configs": lists})
    answer = ask(cluster, "incremental_alter_configs", 1, resources=resources, validate_only=False)
    assert {one.error_code for one in answer.responses} == {ErrorCode.none}, answer


def test_partitions_move_under_load_and_nothing_is_lost(cluster: LocalCluster) -> None:
    """Four partitions go from nodes 1, 2, 3 to 4, 3, 2 while records come, with the controller killed in the middle, then to one
    node more, and to two. The topic is whole at the end, the same on all who hold it, and gone from the disks of the others.
    """
    topic, count, partitions = "moved", 40_000, 4
    create_topic(cluster.bootstrap_servers, topic, partitions=partitions)
    assert move(cluster, topic, [1, 2, 3], partitions=partitions) == {ErrorCode.none}
    settle(cluster, topic)
    assert places(cluster, topic) == {(1, 2, 3)}

    def to_others() -> None:
        assert move(cluster, topic, [4, 3, 2], partitions=partitions) == {ErrorCode.none}
        victim = active_controller(cluster)
        cluster.kill(victim)
        time.sleep(0.5)
        cluster.start(victim)
        settle(cluster, topic)
        assert places(cluster, topic) == {(4, 3, 2)}
        eventually(lambda: not any(holds(cluster, 1, topic, index) for index in range(partitions)))

    def to_one_more() -> None:
        assert move(cluster, topic, [4, 3, 2, 1], partitions=partitions) == {ErrorCode.none}
        settle(cluster, topic)

    def to_fewer() -> None:
        assert move(cluster, topic, [1, 3], partitions=partitions) == {ErrorCode.none}
        settle(cluster, topic)

    client = ConfluentClient(cluster.bootstrap_servers, topic)
    promises = produce_through(client, numbered(made_up(count)), count, [to_others, to_one_more, to_fewer])
    assert promises.failed == {}
    found = read_all(cluster.bootstrap_servers, topic)
    assert judge(promises, found).is_clean
    assert len(found) == count
    assert places(cluster, topic) == {(1, 3)}
    wait_equal(cluster, topic, range(partitions), (1, 3))
    eventually(lambda: not any(holds(cluster, node, topic, index) for node in (2, 4) for index in range(partitions)))
    eventually(lambda: {one.leader_id for one in describe(cluster.nodes[0].kafka, topic).partitions} == {1})


def test_a_throttled_move_is_listed_and_can_be_taken_back(cluster: LocalCluster) -> None:
    """At next to no bytes a second it stands still; taken back, the copies go; without the limit, it is over soon."""
    topic, count = "throttled", 20_000
    create(cluster, topic, replicas=1)
    assert move(cluster, topic, [1]) <= {ErrorCode.none}
    settle(cluster, topic)
    client = ConfluentClient(cluster.bootstrap_servers, topic)
    promises = produce_through(client, numbered(made_up(count)), count, [])
    throttle(cluster, topic, 1)
    assert move(cluster, topic, [4]) == {ErrorCode.none}
    (listed,) = moving(cluster, topic)
    assert (listed.replicas, listed.adding_replicas, listed.removing_replicas) == ((4, 1), (4,), (1,))
    eventually(lambda: holds(cluster, 4, topic))
    # What is only coming is not missed.
    eventually(lambda: not any(metric(node.http, "quorumlog_partitions_under_replicated") for node in cluster.nodes))
    assert len(moving(cluster, topic)) == 1
    assert move(cluster, topic, None) == {ErrorCode.none}
    assert moving(cluster, topic) == []
    eventually(lambda: not holds(cluster, 4, topic))
    assert move(cluster, topic, None) == {ErrorCode.no_reassignment_in_progress}

    assert move(cluster, topic, [4]) == {ErrorCode.none}
    assert len(moving(cluster, topic)) == 1
    throttle(cluster, topic, None)
    settle(cluster, topic)
    assert judge(promises, read_all(cluster.bootstrap_servers, topic)).is_clean
    assert describe(address_of(cluster, 4), topic).partitions[0].leader_id == 4
    eventually(lambda: not holds(cluster, 1, topic))


def test_leaders_are_elected_on_request(cluster: LocalCluster) -> None:
    """The codes of Kafka: not needed, not available; and for all partitions only those that something was done for."""
    topic = "elected"
    create(cluster, topic)
    move(cluster, topic, [2, 3, 4])
    settle(cluster, topic)

    def elect(kind: int, *partitions: int) -> dict[int, int]:
        named = [{"topic": topic, "partitions": list(partitions)}]
        answer = ask(cluster, "elect_leaders", 2, election_type=kind, topic_partitions=named, timeout_ms=20_000)
        assert answer.error_code == ErrorCode.none
        return {one.partition_id: one.error_code for one in answer.replica_election_results[0].partition_result}

    eventually(lambda: elect(PREFERRED, 0) == {0: ErrorCode.election_not_needed})
    assert elect(UNCLEAN, 0, 7) == {0: ErrorCode.election_not_needed, 7: ErrorCode.unknown_topic_or_partition}
    cluster.kill(2)
    eventually(lambda: elect(PREFERRED, 0) == {0: ErrorCode.preferred_leader_not_available})
    cluster.start(2)
    eventually(lambda: elect(PREFERRED, 0)[0] in (ErrorCode.none, ErrorCode.election_not_needed))
    assert describe(cluster.nodes[0].kafka, topic).partitions[0].leader_id == 2

    def codes_of_all() -> set[int]:
        answer = ask(cluster, "elect_leaders", 2, election_type=PREFERRED, topic_partitions=None, timeout_ms=20_000)
        return {one.error_code for result in answer.replica_election_results for one in result.partition_result}

    eventually(lambda: codes_of_all() <= {ErrorCode.none})  # once those of other topics are in sync again
