"""Kafka's rules for topics, settings and offsets, request by request: what a client library would hide is looked at here."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from quorumlog.testing import LocalCluster
from quorumlog.wire.batches import read_header
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.records import Record, build_batch
from tests.cluster.raw import (
    RawConnection,
    address_of,
    batch,
    bugs_in,
    create,
    describe,
    eventually,
    fetch,
    leader_of,
    other_than,
    produce,
    produce_values,
    to_leader,
    values_of,
)

pytestmark = pytest.mark.process

TOPIC, BROKER, GROUP = 2, 4, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
OF_TOPIC, ALL_BROKERS, DEFAULT, OF_GROUP = 1, 3, 5, 8  # sources of a setting


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings={"retention_check_interval_ms": 200, "leader_rebalance_interval_s": 0}) as cluster:
        yield cluster
        assert not bugs_in(cluster)


@pytest.fixture(params=[1, 2, 3])
def node(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[RawConnection]:
    """Each node in turn: any of them forwards to the controller."""
    with RawConnection(address_of(cluster, request.param)) as connection:
        yield connection


@pytest.fixture
def first(cluster: LocalCluster) -> Iterator[RawConnection]:
    with RawConnection(cluster.nodes[0].kafka) as connection:
        yield connection


def create_topic(node: RawConnection, name: str, version: int = 7, *, validate_only: bool = False, **how: Any) -> Any:
    """The result for one topic."""
    topic = {"name": name, "num_partitions": 1, "replication_factor": 1} | how
    return node.ask("create_topics", version, topics=[topic], timeout_ms=20_000, validate_only=validate_only).topics[0]


def describe_configs(node: RawConnection, name: str, kind: int = TOPIC, version: int = 4, **how: Any) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": how.pop("names", None)}
    return node.ask("describe_configs", version, resources=[resource], **how).results[0]


def alter(node: RawConnection, name: str, *changes: tuple[str, int, str | None], kind: int = TOPIC, **how: Any) -> Any:
    configs = [{"name": key, "config_operation": operation, "value": value} for key, operation, value in changes]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return node.ask("incremental_alter_configs", 1, resources=[resource], **how).responses[0]


def list_offsets(
    node: RawConnection, topic: str, timestamp: int, version: int = 7, *, partition: int = 0, epoch: int = -1
) -> Any:
    wanted = {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": epoch}
    topics = [{"name": topic, "partitions": [wanted]}]
    return node.ask("list_offsets", version, replica_id=-1, topics=topics).topics[0].partitions[0]


def delete_records(node: RawConnection, topic: str, offset: int, *, partition: int = 0, version: int = 2) -> Any:
    topics = [{"name": topic, "partitions": [{"partition_index": partition, "offset": offset}]}]
    return node.ask("delete_records", version, topics=topics, timeout_ms=5000).topics[0].partitions[0]


def end_of_epoch(node: RawConnection, topic: str, epoch: int, *, current: int = -1, partition: int = 0, version: int = 4) -> Any:
    wanted = {"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}
    topics = [{"topic": topic, "partitions": [wanted]}]
    return node.ask("offset_for_leader_epoch", version, replica_id=-1, topics=topics).topics[0].partitions[0]


# --- CreateTopics


def test_a_new_topic_shows_at_once_on_the_node_that_answered(node: RawConnection) -> None:
    """Every node forwards to the controller, and answers when its own metadata has the topic."""
    name = f"visible-{node.socket.getpeername()[1]}"
    created = create_topic(
        node, name, num_partitions=4, replication_factor=3, configs=[{"name": "retention.ms", "value": "1000"}]
    )
    assert (created.error_code, created.num_partitions, created.replication_factor) == (ErrorCode.none, 4, 3)
    assert created.topic_id != NO_TOPIC_ID
    seen = node.ask("metadata", 12, topics=[{"name": name}], allow_auto_topic_creation=False).topics[0]
    assert (seen.error_code, seen.topic_id, len(seen.partitions)) == (ErrorCode.none, created.topic_id, 4)
    for partition in seen.partitions:
        assert sorted(partition.replica_nodes) == sorted(partition.isr_nodes) == [1, 2, 3]
        assert partition.leader_id == partition.replica_nodes[0]
    retention = next(config for config in created.configs if config.name == "retention.ms")
    assert (retention.value, retention.config_source) == ("1000", OF_TOPIC)


@pytest.mark.parametrize("version", range(2, 8))
def test_every_version_creates_and_deletes(first: RawConnection, version: int) -> None:
    """Old clients create and delete as new ones do."""
    created = create_topic(first, f"created-by-{version}", version)
    assert created.error_code == ErrorCode.none
    assert (created.topic_id != NO_TOPIC_ID) is (version == 7)
    assert created.num_partitions == (1 if version >= 5 else -1)
    how = {"topics": [{"name": f"created-by-{version}"}]} if version - 1 >= 6 else {"topic_names": [f"created-by-{version}"]}
    (deleted,) = first.ask("delete_topics", version - 1, timeout_ms=20_000, **how).responses
    assert (deleted.name, deleted.error_code) == (f"created-by-{version}", ErrorCode.none)


@pytest.mark.parametrize(
    ("how", "code", "named"),
    [
        ({"name": ""}, ErrorCode.invalid_topic_exception, "length 0"),
        ({"name": "."}, ErrorCode.invalid_topic_exception, "'.'"),
        ({"name": ".."}, ErrorCode.invalid_topic_exception, "'..'"),
        ({"name": "white space"}, ErrorCode.invalid_topic_exception, "white space"),
        ({"name": "x" * 250}, ErrorCode.invalid_topic_exception, "250"),
        ({"num_partitions": 0}, ErrorCode.invalid_partitions, "0"),
        ({"num_partitions": -5}, ErrorCode.invalid_partitions, "-5"),
        ({"replication_factor": 0}, ErrorCode.invalid_replication_factor, "0"),
        ({"replication_factor": 4}, ErrorCode.invalid_replication_factor, "4"),
        ({"configs": [{"name": "no.such", "value": "1"}]}, ErrorCode.invalid_config, "max.message.bytes"),
        ({"configs": [{"name": "retention.ms", "value": "soon"}]}, ErrorCode.invalid_config, "soon"),
        ({"configs": [{"name": "retention.ms", "value": None}]}, ErrorCode.invalid_config, "retention.ms"),
        ({"configs": [{"name": "cleanup.policy", "value": "shred"}]}, ErrorCode.invalid_config, "compact, delete"),
        ({"assignments": [{"partition_index": 0, "broker_ids": [1]}]}, ErrorCode.invalid_request, "-1"),
    ],
)
def test_what_cannot_be_created_is_refused_by_name(
    first: RawConnection, how: dict[str, Any], code: ErrorCode, named: str
) -> None:
    """The code is Kafka's, and the message says what was seen and what is allowed; nothing is created."""
    refused = create_topic(first, how.get("name", "refused"), **{key: value for key, value in how.items() if key != "name"})
    assert refused.error_code == code
    assert named in refused.error_message
    assert describe_all(first).isdisjoint({"refused", how.get("name")})


@pytest.mark.parametrize(
    "given",
    [
        [(0, [1, 1])],
        [(0, [1]), (2, [1])],
        [(0, [1]), (1, [1, 2])],
        [(0, [99])],
        [(0, [])],
        [(-1, [1])],
        [(0, [1]), (0, [1])],
    ],
)
def test_wrong_assignments_are_refused(first: RawConnection, given: list[tuple[int, list[int]]]) -> None:
    """Replicas that a client chooses must exist, differ, and be as many for each partition from 0 on."""
    assignments = [{"partition_index": index, "broker_ids": brokers} for index, brokers in given]
    refused = create_topic(first, "assigned", num_partitions=-1, replication_factor=-1, assignments=assignments)
    assert refused.error_code == ErrorCode.invalid_replica_assignment


def test_replicas_go_where_the_client_says(first: RawConnection) -> None:
    """The first of the assigned brokers leads."""
    assignments = [{"partition_index": 0, "broker_ids": [3, 1]}, {"partition_index": 1, "broker_ids": [2, 3]}]
    created = create_topic(first, "chosen", num_partitions=-1, replication_factor=-1, assignments=assignments)
    assert created.error_code == ErrorCode.none
    seen = first.ask("metadata", 12, topics=[{"name": "chosen"}]).topics[0]
    found = {one.partition_index: (one.leader_id, tuple(one.replica_nodes)) for one in seen.partitions}
    assert found == {0: (3, (3, 1)), 1: (2, (2, 3))}


def test_a_name_that_is_taken_is_refused(cluster: LocalCluster, first: RawConnection) -> None:
    """Also one that differs only in dots and underscores, and a name that stands twice in one request."""
    create(cluster, "taken.name")
    assert create_topic(first, "taken.name").error_code == ErrorCode.topic_already_exists
    assert create_topic(first, "taken_name").error_code == ErrorCode.invalid_topic_exception
    twin = {"name": "twin", "num_partitions": 1, "replication_factor": 1}
    answer = first.ask("create_topics", 7, topics=[twin, twin, twin | {"name": "single"}], timeout_ms=20_000)
    codes = {(topic.name, ErrorCode(topic.error_code)) for topic in answer.topics}
    assert codes == {("twin", ErrorCode.invalid_request), ("single", ErrorCode.none)}


def test_to_validate_only_creates_nothing(first: RawConnection) -> None:
    """The answer is as if it had been created, but for the id."""
    settings = [{"name": "retention.ms", "value": "77"}]
    tried = create_topic(first, "tried", num_partitions=-1, replication_factor=-1, configs=settings, validate_only=True)
    assert {entry.name: entry.value for entry in tried.configs if entry.config_source == OF_TOPIC} == {"retention.ms": "77"}
    assert (tried.error_code, tried.num_partitions, tried.replication_factor) == (ErrorCode.none, 1, 3)
    assert tried.topic_id == NO_TOPIC_ID
    assert create_topic(first, "tried", num_partitions=0, validate_only=True).error_code == ErrorCode.invalid_partitions
    assert "tried" not in describe_all(first)


def describe_all(node: RawConnection) -> set[str]:
    return {topic.name for topic in node.ask("metadata", 12, topics=None).topics}


# --- DeleteTopics


def test_a_topic_goes_by_name_or_by_id(cluster: LocalCluster, node: RawConnection) -> None:
    """Any node takes the request, and afterwards does not know the topic."""
    by_name, by_id = (create(cluster, f"goes-by-{how}-{node.socket.getpeername()[1]}") for how in ("name", "id"))
    topics = [{"name": by_name.name}, {"name": None, "topic_id": by_id.topic_id}]
    deleted = node.ask("delete_topics", 6, topics=topics, timeout_ms=20_000).responses
    found = {(topic.name, topic.topic_id, ErrorCode(topic.error_code)) for topic in deleted}
    assert found == {(topic.name, topic.topic_id, ErrorCode.none) for topic in (by_name, by_id)}
    seen = node.ask("metadata", 12, topics=[{"name": by_name.name}], allow_auto_topic_creation=False).topics[0]
    assert seen.error_code == ErrorCode.unknown_topic_or_partition
    seen = node.ask("metadata", 12, topics=[{"name": None, "topic_id": by_id.topic_id}]).topics[0]
    assert seen.error_code == ErrorCode.unknown_topic_id


def test_a_deletion_must_say_what_it_means(cluster: LocalCluster, first: RawConnection) -> None:
    """Kafka refuses what is unknown, named twice, named both ways or not at all, each by itself; the topic meant stays."""
    kept = create(cluster, "kept")
    unknown = UUID(int=5)
    topics = [
        {"name": "nowhere"},
        {"name": None, "topic_id": unknown},
        {"name": "kept", "topic_id": kept.topic_id},
        {"name": None},
        {"name": "twice"},
        {"name": "twice"},
        {"name": None, "topic_id": UUID(int=6)},
        {"name": None, "topic_id": UUID(int=6)},
    ]
    deleted = first.ask("delete_topics", 6, topics=topics, timeout_ms=20_000).responses
    found = {(topic.name, topic.topic_id): ErrorCode(topic.error_code) for topic in deleted}
    assert found == {
        ("nowhere", NO_TOPIC_ID): ErrorCode.unknown_topic_or_partition,
        (None, unknown): ErrorCode.unknown_topic_id,
        ("kept", kept.topic_id): ErrorCode.invalid_request,
        (None, NO_TOPIC_ID): ErrorCode.invalid_request,
        ("twice", NO_TOPIC_ID): ErrorCode.invalid_request,
        (None, UUID(int=6)): ErrorCode.invalid_request,
    }
    assert "kept" in describe_all(first)


def test_a_topic_named_both_ways_in_one_deletion_stays(cluster: LocalCluster, first: RawConnection) -> None:
    """By its name and by its id in the same request is a repeat too."""
    kept = create(cluster, "kept-too")
    topics = [{"name": "kept-too"}, {"name": None, "topic_id": kept.topic_id}]
    deleted = first.ask("delete_topics", 6, topics=topics, timeout_ms=20_000).responses
    assert ErrorCode.invalid_request in {topic.error_code for topic in deleted}


# --- CreatePartitions


def test_a_topic_grows(cluster: LocalCluster, node: RawConnection) -> None:
    """The new partitions show at once on the node that answered, with as many replicas as the others."""
    name = f"grows-{node.socket.getpeername()[1]}"
    create(cluster, name, partitions=2)
    tried = node.ask("create_partitions", 3, topics=[{"name": name, "count": 5, "assignments": None}], validate_only=True)
    assert tried.results[0].error_code == ErrorCode.none
    chosen = [{"broker_ids": [2, 3, 1]}]
    for topic in ({"name": name, "count": 4, "assignments": None}, {"name": name, "count": 5, "assignments": chosen}):
        grown = node.ask("create_partitions", 3, topics=[topic], timeout_ms=20_000)
        assert grown.results[0].error_code == ErrorCode.none, grown.results[0].error_message
    partitions = node.ask("metadata", 12, topics=[{"name": name}]).topics[0].partitions
    assert [partition.partition_index for partition in partitions] == [0, 1, 2, 3, 4]
    assert all(len(partition.replica_nodes) == 3 for partition in partitions)
    assert tuple(partitions[4].replica_nodes) == (2, 3, 1)


@pytest.mark.parametrize("version", range(4))
def test_a_wrong_growth_is_refused(cluster: LocalCluster, first: RawConnection, version: int) -> None:
    """Fewer, as many, unknown, twice, or to brokers that do not exist."""
    create(cluster, f"grown-{version}", partitions=2, replicas=2)
    name = f"grown-{version}"
    cases = [
        ({"name": name, "count": 2, "assignments": None}, ErrorCode.invalid_partitions),
        ({"name": name, "count": 1, "assignments": None}, ErrorCode.invalid_partitions),
        ({"name": name, "count": -1, "assignments": None}, ErrorCode.invalid_partitions),
        ({"name": "nowhere", "count": 3, "assignments": None}, ErrorCode.unknown_topic_or_partition),
        ({"name": name, "count": 3, "assignments": [{"broker_ids": [1, 9]}]}, ErrorCode.invalid_replica_assignment),
        ({"name": name, "count": 3, "assignments": [{"broker_ids": [1]}]}, ErrorCode.invalid_replica_assignment),
        ({"name": name, "count": 4, "assignments": [{"broker_ids": [1, 2]}]}, ErrorCode.invalid_replica_assignment),
    ]
    for topic, code in cases:
        (result,) = first.ask("create_partitions", version, topics=[topic], timeout_ms=5000).results
        assert (result.name, result.error_code) == (topic["name"], code), topic
        assert result.error_message
    twice = [{"name": name, "count": 3, "assignments": None}] * 2
    results = first.ask("create_partitions", version, topics=twice, timeout_ms=5000).results
    assert {result.error_code for result in results} == {ErrorCode.invalid_request}
    assert len(describe(cluster.nodes[0].kafka, name).partitions) == 2


# --- DescribeConfigs, IncrementalAlterConfigs


@pytest.mark.parametrize("version", range(1, 5))
def test_settings_of_a_topic_tell_where_they_come_from(cluster: LocalCluster, first: RawConnection, version: int) -> None:
    """Defaults are there with what was set, and their synonyms if they are wanted."""
    create(cluster, f"set-{version}", retention_ms="12345")
    seen = describe_configs(first, f"set-{version}", version=version, include_synonyms=True, include_documentation=True)
    entries = {entry.name: entry for entry in seen.configs}
    assert (seen.error_code, seen.resource_type, seen.resource_name) == (ErrorCode.none, TOPIC, f"set-{version}")
    assert (entries["retention.ms"].value, entries["retention.ms"].config_source) == ("12345", OF_TOPIC)
    assert (entries["min.insync.replicas"].value, entries["min.insync.replicas"].config_source) == ("2", ALL_BROKERS)
    assert (entries["segment.ms"].value, entries["segment.ms"].config_source) == ("604800000", DEFAULT)
    assert [one.name for one in entries["retention.ms"].synonyms] == ["retention.ms"]
    assert bool(entries["retention.ms"].documentation) is (version >= 3)
    assert not describe_configs(first, f"set-{version}", version=version).configs[0].synonyms


def test_an_empty_list_of_settings_means_all(cluster: LocalCluster, first: RawConnection) -> None:
    """Kafka takes it like null; names that it does not know it passes over."""
    create(cluster, "listed")
    every = {entry.name for entry in describe_configs(first, "listed", names=None).configs}
    assert {entry.name for entry in describe_configs(first, "listed", names=[]).configs} == every
    some = describe_configs(first, "listed", names=["retention.ms", "no.such"]).configs
    assert [entry.name for entry in some] == ["retention.ms"]


def test_what_has_no_settings_is_refused_by_itself(cluster: LocalCluster, first: RawConnection) -> None:
    """One wrong resource does not spoil the others, to describe or to alter."""
    create(cluster, "right")
    wanted = [(TOPIC, "right"), (TOPIC, "nowhere"), (TOPIC, "not a name"), (BROKER, "2"), (BROKER, "x"), (77, "right")]
    codes = [
        ErrorCode.none,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.invalid_topic_exception,
        ErrorCode.invalid_request,
        ErrorCode.invalid_request,
        ErrorCode.invalid_request,
    ]
    resources: list[dict[str, Any]] = [{"resource_type": kind, "resource_name": name} for kind, name in wanted]
    results = first.ask("describe_configs", 4, resources=resources).results
    assert [(one.resource_type, one.resource_name) for one in results] == wanted
    assert [one.error_code for one in results] == codes
    change = [{"name": "retention.ms", "config_operation": SET, "value": "777"}]
    resources = [{"resource_type": kind, "resource_name": name, "configs": change} for kind, name in wanted[:2] + wanted[5:]]
    answer = first.ask("incremental_alter_configs", 1, resources=resources).responses
    found = {(one.resource_type, one.resource_name): ErrorCode(one.error_code) for one in answer}
    assert found == {wanted[0]: codes[0], wanted[1]: codes[1], wanted[5]: codes[5]}
    assert describe_configs(first, "right", names=["retention.ms"]).configs[0].value == "777"


def test_settings_of_a_broker(first: RawConnection) -> None:
    """A broker tells its own settings, those that need a restart as read-only."""
    entries = {entry.name: entry for entry in describe_configs(first, "1", BROKER).configs}
    assert entries["num.partitions"].read_only
    assert not entries["log.retention.ms"].read_only
    assert entries["min.insync.replicas"].value == "2"


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (("no.such", SET, "1"), ErrorCode.invalid_config, "retention.ms"),
        (("retention.ms", SET, "-2"), ErrorCode.invalid_config, "-2"),
        (("retention.ms", SET, None), ErrorCode.invalid_request, "retention.ms"),
        (("retention.ms", 9, "1"), ErrorCode.invalid_request, "9"),
        (("retention.ms", APPEND, "1"), ErrorCode.invalid_config, "list"),
        (("cleanup.policy", APPEND, "shred"), ErrorCode.invalid_config, "cleanup.policy"),
        (("min.insync.replicas", SET, "0"), ErrorCode.invalid_config, "1"),
    ],
)
def test_a_wrong_setting_changes_nothing(
    cluster: LocalCluster, node: RawConnection, change: tuple[str, int, str | None], code: ErrorCode, named: str
) -> None:
    """The message names what is allowed, and the other changes of the same resource are not made either."""
    name = f"unchanged-{change[0]}-{change[1]}-{change[2]}"
    if name not in describe_all(node):
        create(cluster, name)
    answer = alter(node, name, ("max.message.bytes", SET, "5000"), change)
    assert answer.error_code == code, answer.error_message
    assert named in answer.error_message
    assert describe_configs(node, name, names=["max.message.bytes"]).configs[0].config_source != OF_TOPIC


def test_settings_are_set_tried_and_removed(cluster: LocalCluster, node: RawConnection) -> None:
    """From any node, seen at once there; to validate only changes nothing."""
    name = f"altered-{node.socket.getpeername()[1]}"
    create(cluster, name)
    assert alter(node, name, ("retention.ms", SET, "5"), validate_only=True).error_code == ErrorCode.none
    assert describe_configs(node, name, names=["retention.ms"]).configs[0].value == "604800000"
    assert alter(node, name, ("retention.ms", SET, "5")).error_code == ErrorCode.none
    assert describe_configs(node, name, names=["retention.ms"]).configs[0].value == "5"
    assert alter(node, name, ("retention.ms", DELETE, None)).error_code == ErrorCode.none
    assert describe_configs(node, name, names=["retention.ms"]).configs[0].config_source == DEFAULT


def test_the_size_of_a_batch_is_bounded_as_soon_as_that_is_altered(cluster: LocalCluster) -> None:
    """max.message.bytes holds for the next batch, down and up again."""
    create(cluster, "sized")
    small, large = batch(b"x" * 100), batch(b"x" * 2000)
    with to_leader(cluster, "sized") as node:
        assert produce(node, "sized", large).error_code == ErrorCode.none
        alter(node, "sized", ("max.message.bytes", SET, "1000"))
        refused = produce(node, "sized", large)
        assert refused.error_code == ErrorCode.message_too_large
        assert "1000" in refused.error_message
        assert produce(node, "sized", small).error_code == ErrorCode.none
        alter(node, "sized", ("max.message.bytes", DELETE, None))
        assert produce(node, "sized", large).error_code == ErrorCode.none


def test_retention_follows_its_setting(cluster: LocalCluster) -> None:
    """Records older than retention.ms go soon after it was lowered."""
    create(cluster, "fading", retention_ms="-1")
    with to_leader(cluster, "fading") as node:
        old = build_batch([Record(timestamp=1_000_000, value=b"old")])
        assert produce(node, "fading", old).error_code == ErrorCode.none
        time.sleep(0.5)
        assert list_offsets(node, "fading", EARLIEST).offset == 0
        alter(node, "fading", ("retention.ms", SET, "60000"))
        eventually(lambda: list_offsets(node, "fading", EARLIEST).offset == 1)
        produce_values(node, "fading", b"new")
        time.sleep(0.5)
        assert list_offsets(node, "fading", EARLIEST).offset == 1


def test_the_least_in_sync_set_follows_its_setting(cluster: LocalCluster) -> None:
    """With a node down, three of three are too few, two are not; the node comes back and three are enough again."""
    create(cluster, "insync")
    down = other_than(cluster, leader_of(cluster, "insync"))
    cluster.kill(down)
    with to_leader(cluster, "insync") as node:
        eventually(lambda: len(describe(cluster.nodes[node_index(cluster, down)].kafka, "insync").partitions[0].isr_nodes) == 2)
        assert produce(node, "insync", batch(b"two are enough")).error_code == ErrorCode.none
        assert alter(node, "insync", ("min.insync.replicas", SET, "3")).error_code == ErrorCode.none
        assert produce(node, "insync", batch(b"too few")).error_code == ErrorCode.not_enough_replicas
        assert produce(node, "insync", batch(b"one asked"), acks=1).error_code == ErrorCode.none
        cluster.start(down)
        eventually(lambda: produce(node, "insync", batch(b"three")).error_code == ErrorCode.none)


def node_index(cluster: LocalCluster, down: int) -> int:
    """A node that runs."""
    return next(index for index, node in enumerate(cluster.nodes) if node.node_id != down)


def test_a_compacted_topic_names_the_records_that_it_cannot_take(cluster: LocalCluster) -> None:
    """Those without a key; whoever sends with keys is served. What is stored is in the topic's compression."""
    create(cluster, "compacted", cleanup_policy="compact", compression_type="zstd")
    with to_leader(cluster, "compacted") as node:
        keyless = build_batch([Record(key=b"k", value=b"v"), Record(offset=1, value=b"v")])
        refused = produce(node, "compacted", keyless)
        assert (refused.error_code, [one.batch_index for one in refused.record_errors]) == (ErrorCode.invalid_record, [1])
        assert produce(node, "compacted", build_batch([Record(key=b"k", value=b"v")])).error_code == ErrorCode.none
        eventually(lambda: fetch(node, "compacted", 0).records)
        header = read_header(fetch(node, "compacted", 0).records)
        assert header.compression == Compression.ZSTD


def test_zstd_needs_a_version_that_can_read_it(cluster: LocalCluster) -> None:
    """KIP-110: a client that old would not be able to fetch its own records."""
    create(cluster, "zstd")
    records = build_batch([Record(value=b"v")], compression=Compression.ZSTD)
    with to_leader(cluster, "zstd") as node:
        assert produce(node, "zstd", records, version=6).error_code == ErrorCode.unsupported_compression_type
        assert produce(node, "zstd", records, version=7).error_code == ErrorCode.none


def test_records_of_tomorrow_are_refused(cluster: LocalCluster) -> None:
    """More than an hour ahead of the leader's clock, unless the topic allows it."""
    create(cluster, "early")
    tomorrow = build_batch([Record(timestamp=int((time.time() + 86_400) * 1000), value=b"v")])
    with to_leader(cluster, "early") as node:
        refused = produce(node, "early", tomorrow)
        assert (refused.error_code, len(refused.record_errors)) == (ErrorCode.invalid_timestamp, 1)
        alter(node, "early", ("message.timestamp.after.max.ms", SET, str(2 * 86_400_000)))
        assert produce(node, "early", tomorrow).error_code == ErrorCode.none


def test_groups_have_settings_before_they_exist(first: RawConnection) -> None:
    """Within the brokers' bounds; the list of what has settings shows them."""
    assert alter(first, "readers", ("consumer.session.timeout.ms", SET, "50000"), kind=GROUP).error_code == ErrorCode.none
    refused = alter(first, "readers", ("consumer.session.timeout.ms", SET, "5000"), kind=GROUP)
    assert refused.error_code == ErrorCode.invalid_config and "45000 to 60000" in refused.error_message
    entries = {one.name: (one.value, one.config_source) for one in describe_configs(first, "readers", GROUP).configs}
    assert entries == {"consumer.heartbeat.interval.ms": ("5000", DEFAULT), "consumer.session.timeout.ms": ("50000", OF_GROUP)}
    listed = first.ask("list_config_resources", 1, resource_types=[GROUP]).config_resources
    assert [one.resource_name for one in listed] == ["readers"]


def test_an_older_alteration_replaces_everything(cluster: LocalCluster, node: RawConnection) -> None:
    """What it does not name is taken back."""
    name = f"replaced-{node.socket.getpeername()[1]}"
    create(cluster, name, retention_ms="5", segment_ms="6")
    resource = {"resource_type": TOPIC, "resource_name": name, "configs": [{"name": "segment.ms", "value": "7"}]}
    assert node.ask("alter_configs", 2, resources=[resource], validate_only=False).responses[0].error_code == ErrorCode.none
    seen = {entry.name: entry.value for entry in describe_configs(node, name).configs if entry.config_source == OF_TOPIC}
    assert seen == {"segment.ms": "7"}


# --- what admin clients read


def test_every_node_tells_how_the_quorum_stands(cluster: LocalCluster, node: RawConnection) -> None:
    """The leader knows; the others ask it."""
    cluster.wait_ready()
    wanted = [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]
    seen = eventually(lambda: node.ask("describe_quorum", 2, topics=wanted).topics[0].partitions[0])
    assert seen.error_code == ErrorCode.none and seen.leader_id in (1, 2, 3)
    assert [voter.replica_id for voter in seen.current_voters] == [1, 2, 3]
    assert max(voter.log_end_offset for voter in seen.current_voters) >= seen.high_watermark > 0


def test_admin_libraries_find_what_they_ask_for(cluster: LocalCluster) -> None:
    """confluent-kafka and kafka-python show cluster, topics, settings and directories, each by its own calls."""
    create(cluster, "shown", partitions=3, retention_ms="77")
    with to_leader(cluster, "shown") as node:
        produce_values(node, "shown", b"x" * 1000)
    servers = ",".join(one.kafka for one in cluster.nodes)
    confluent = AdminClient({"bootstrap.servers": servers})
    assert sorted(one.id for one in confluent.describe_cluster().result(20).nodes) == [1, 2, 3]
    resource = ConfigResource(ResourceType.TOPIC, "shown")
    assert confluent.describe_configs([resource])[resource].result(20)["retention.ms"].value == "77"
    python = kafka.KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        (topic,) = python.describe_topics(["shown"])
        assert len(topic["partitions"]) == 3
        assert "shown" in str(python.describe_log_dirs())
    finally:
        python.close()


# --- DescribeCluster, Metadata


@pytest.mark.parametrize("version", range(3))
def test_the_cluster_is_described(cluster: LocalCluster, first: RawConnection, version: int) -> None:
    """All brokers with their addresses, a controller among them, and the cluster's id."""
    cluster.wait_ready()
    seen = first.ask("describe_cluster", version, endpoint_type=1)
    addresses = {broker.broker_id: f"{broker.host}:{broker.port}" for broker in seen.brokers}
    assert addresses == {node.node_id: node.kafka for node in cluster.nodes}
    assert seen.controller_id in addresses
    assert seen.cluster_id == first.ask("metadata", 12, topics=[]).cluster_id


def test_controllers_are_not_described_here(first: RawConnection) -> None:
    """KIP-919: a listener of brokers says that it is one; another kind is unknown."""
    assert first.ask("describe_cluster", 1, endpoint_type=2).error_code == ErrorCode.mismatched_endpoint_type
    assert first.ask("describe_cluster", 1, endpoint_type=3).error_code == ErrorCode.unsupported_endpoint_type


@pytest.mark.parametrize("version", range(14))
def test_metadata_in_every_version(cluster: LocalCluster, first: RawConnection, version: int) -> None:
    """All topics, some, or none, in the way of the version; a topic that cannot be has the code for that."""
    if "described" not in describe_all(first):
        create(cluster, "described", partitions=3)
    every = first.ask("metadata", version, topics=[] if version == 0 else None)
    assert "described" in {topic.name for topic in every.topics}
    assert {broker.node_id for broker in every.brokers} == {1, 2, 3}
    (one,) = first.ask("metadata", version, topics=[{"name": "described"}]).topics
    assert [partition.partition_index for partition in one.partitions] == [0, 1, 2]
    assert (one.topic_id != NO_TOPIC_ID) is (version >= 10)
    if version >= 1:
        assert not first.ask("metadata", version, topics=[]).topics
    if version >= 4:
        unknown = first.ask("metadata", version, topics=[{"name": "nowhere"}], allow_auto_topic_creation=False).topics[0]
        assert (unknown.name, unknown.error_code) == ("nowhere", ErrorCode.unknown_topic_or_partition)
        wrong = first.ask("metadata", version, topics=[{"name": "no/name"}], allow_auto_topic_creation=False).topics[0]
        assert wrong.error_code == ErrorCode.invalid_topic_exception
    wrong = first.ask("metadata", version, topics=[{"name": "no/name"}]).topics[0]
    assert wrong.error_code == ErrorCode.invalid_topic_exception


@pytest.mark.parametrize("version", [10, 11])
def test_topic_ids_wait_for_version_12(cluster: LocalCluster, first: RawConnection, version: int) -> None:
    """Versions 10 and 11 have the field, but Kafka refuses what is in it; the answer can hold no null name."""
    for topic in ({"name": None}, {"name": None, "topic_id": UUID(int=1)}):
        (refused,) = first.ask("metadata", version, topics=[topic]).topics
        assert (refused.name, refused.error_code) == ("", ErrorCode.invalid_request)


def test_metadata_by_id(cluster: LocalCluster, first: RawConnection) -> None:
    """From version 12 on a topic is found by its id alone."""
    known = create(cluster, "by-id")
    topics = [{"name": None, "topic_id": known.topic_id}, {"name": None, "topic_id": UUID(int=9)}]
    seen = {topic.topic_id: topic for topic in first.ask("metadata", 12, topics=topics).topics}
    assert (seen[known.topic_id].name, seen[known.topic_id].error_code) == ("by-id", ErrorCode.none)
    assert (seen[UUID(int=9)].name, seen[UUID(int=9)].error_code) == (None, ErrorCode.unknown_topic_id)


def test_an_unknown_topic_is_created_where_that_is_allowed(cluster: LocalCluster, node: RawConnection) -> None:
    """By asking any node, which calls it unknown in that answer, as Kafka does; asked for twice, it is there once."""
    name = f"born-{node.socket.getpeername()[1]}"
    (seen,) = node.ask("metadata", 12, topics=[{"name": name}, {"name": name}]).topics
    assert (seen.error_code, seen.partitions) == (ErrorCode.unknown_topic_or_partition, ())
    with to_leader(cluster, name) as leader:
        assert produce_values(leader, name, b"first") == 0


# --- ListOffsets, DeleteRecords, OffsetForLeaderEpoch


@pytest.fixture(scope="module")
def timed(cluster: LocalCluster) -> str:
    """Ten records of 10 ms each in two batches, the second older than the first: 2000 to 2040, then 1000 to 1040."""
    create(cluster, "timed", retention_ms="-1")
    with to_leader(cluster, "timed") as node:
        for start in (2000, 1000):
            records = [Record(offset=index, timestamp=start + 10 * index, value=b"%d" % index) for index in range(5)]
            assert produce(node, "timed", build_batch(records)).error_code == ErrorCode.none
    return "timed"


@pytest.mark.parametrize("version", range(1, 12))
def test_offsets_by_time(cluster: LocalCluster, timed: str, version: int) -> None:
    """The ends, and the first record that is not older, exact to the record; nothing beyond the newest."""
    with to_leader(cluster, timed) as node:
        cases = {EARLIEST: 0, LATEST: 10, 0: 0, 2000: 0, 2001: 1, 2040: 4, 2041: -1, 1020: 0}
        for timestamp, offset in cases.items():
            assert list_offsets(node, timed, timestamp, version).offset == offset, timestamp
        assert list_offsets(node, timed, 2011, version).timestamp == 2020
        if version >= 7:
            newest = list_offsets(node, timed, MAX_TIMESTAMP, version)
            assert (newest.offset, newest.timestamp) == (4, 2040)
        if version >= 8:
            assert list_offsets(node, timed, EARLIEST_LOCAL, version).offset == 0
        if version >= 9:
            assert list_offsets(node, timed, LATEST_TIERED, version).offset == -1


def test_offsets_are_refused_with_reasons(cluster: LocalCluster, timed: str) -> None:
    """An unknown partition, another node, an epoch that is over or has not begun, a partition named twice."""
    leader = leader_of(cluster, timed)
    with to_leader(cluster, timed) as node:
        epoch = describe(address_of(cluster, leader), timed).partitions[0].leader_epoch
        assert list_offsets(node, "nowhere", LATEST).error_code == ErrorCode.unknown_topic_or_partition
        assert list_offsets(node, timed, LATEST, partition=5).error_code == ErrorCode.unknown_topic_or_partition
        assert list_offsets(node, timed, LATEST, partition=-1).error_code == ErrorCode.unknown_topic_or_partition
        assert list_offsets(node, timed, LATEST, epoch=epoch).error_code == ErrorCode.none
        assert list_offsets(node, timed, LATEST, epoch=epoch + 1).error_code == ErrorCode.unknown_leader_epoch
        twice = {"name": timed, "partitions": [{"partition_index": 0, "timestamp": LATEST, "current_leader_epoch": -1}] * 2}
        answers = node.ask("list_offsets", 7, replica_id=-1, topics=[twice]).topics[0].partitions
        assert {answer.error_code for answer in answers} == {ErrorCode.invalid_request}
    with RawConnection(address_of(cluster, other_than(cluster, leader))) as node:
        assert list_offsets(node, timed, LATEST).error_code == ErrorCode.not_leader_or_follower


def test_a_batch_may_be_searched_in_every_compression(cluster: LocalCluster) -> None:
    """A timestamp is found inside compressed batches too."""
    create(cluster, "pressed", retention_ms="-1")
    with to_leader(cluster, "pressed") as node:
        for compression in range(5):
            start = 1000 * (compression + 1)
            records = [Record(offset=index, timestamp=start + index, value=b"x" * 50) for index in range(100)]
            assert produce(node, "pressed", build_batch(records, compression=compression)).error_code == ErrorCode.none  # type: ignore[arg-type]
            assert list_offsets(node, "pressed", start + 42).offset == 100 * compression + 42


@pytest.mark.parametrize("version", range(3))
def test_records_are_deleted_from_the_beginning(cluster: LocalCluster, version: int) -> None:
    """What lies before is out of range at once; inside a batch the rest of it stays; -1 is everything committed."""
    name = f"cut-{version}"
    create(cluster, name)
    with to_leader(cluster, name) as node:
        produce_values(node, name, *(b"%d" % index for index in range(10)))
        deleted = delete_records(node, name, 4, version=version)
        assert (deleted.error_code, deleted.low_watermark) == (ErrorCode.none, 4)
        assert list_offsets(node, name, EARLIEST).offset == 4
        assert fetch(node, name, 3).error_code == ErrorCode.offset_out_of_range
        seen = fetch(node, name, 4)
        assert (seen.log_start_offset, next(value for offset, value in values_of(seen.records) if offset >= 4)) == (4, b"4")
        assert delete_records(node, name, 2, version=version).low_watermark == 4
        assert delete_records(node, name, 11, version=version).error_code == ErrorCode.offset_out_of_range
        assert delete_records(node, name, -2, version=version).error_code == ErrorCode.offset_out_of_range
        assert delete_records(node, name, -1, version=version).low_watermark == 10
        assert delete_records(node, name, 0, partition=7).error_code == ErrorCode.unknown_topic_or_partition
    with RawConnection(address_of(cluster, other_than(cluster, leader_of(cluster, name)))) as node:
        assert delete_records(node, name, 1).error_code == ErrorCode.not_leader_or_follower


@pytest.mark.parametrize("version", range(2, 5))
def test_where_an_epoch_ended(cluster: LocalCluster, version: int) -> None:
    """A consumer asks whether what it read was committed: the present epoch ends where the log does."""
    name = f"epochs-{version}"
    create(cluster, name)
    with to_leader(cluster, name) as node:
        produce_values(node, name, b"one", b"two")
        epoch = describe(cluster.nodes[0].kafka, name).partitions[0].leader_epoch
        answer = end_of_epoch(node, name, epoch, version=version)
        assert (answer.error_code, answer.leader_epoch, answer.end_offset) == (ErrorCode.none, epoch, 2)
        answer = end_of_epoch(node, name, epoch + 1, version=version)
        assert (answer.error_code, answer.leader_epoch, answer.end_offset) == (ErrorCode.none, -1, -1)
        assert end_of_epoch(node, name, 0, current=epoch + 1).error_code == ErrorCode.unknown_leader_epoch
        assert end_of_epoch(node, name, 0, partition=3).error_code == ErrorCode.unknown_topic_or_partition
    with RawConnection(address_of(cluster, other_than(cluster, leader_of(cluster, name)))) as node:
        assert end_of_epoch(node, name, 0).error_code == ErrorCode.not_leader_or_follower


def test_epochs_over_a_change_of_leader(cluster: LocalCluster) -> None:
    """The old epoch ends where the new one begins, for whoever asks the new leader; whoever believes in the old one is fenced."""
    create(cluster, "moved")
    old = leader_of(cluster, "moved")
    with to_leader(cluster, "moved") as node:
        produce_values(node, "moved", b"one", b"two")
    before = describe(address_of(cluster, old), "moved").partitions[0].leader_epoch
    cluster.restart(old)
    eventually(lambda: leader_of(cluster, "moved") != old)
    with to_leader(cluster, "moved") as node:
        eventually(lambda: produce(node, "moved", batch(b"three")).error_code == ErrorCode.none)
        answer = end_of_epoch(node, "moved", before)
        assert (answer.leader_epoch, answer.end_offset) == (before, 2)
        assert end_of_epoch(node, "moved", before, current=before).error_code == ErrorCode.fenced_leader_epoch
        assert list_offsets(node, "moved", LATEST, epoch=before).error_code == ErrorCode.fenced_leader_epoch
