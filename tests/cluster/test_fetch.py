"""Fetching as Kafka's consumers expect it: waits, limits, offsets inside batches, epochs, leader hints, every version."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from quorumlog.node.api_table import API_TABLE
from quorumlog.testing import LocalCluster
from quorumlog.wire.batches import read_header
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID
from tests.cluster.raw import (
    KEYS,
    RawConnection,
    address_of,
    batch,
    bugs_in,
    create,
    describe,
    eventually,
    fetch,
    fetch_body,
    leader_of,
    other_than,
    produce,
    produce_body,
    produce_values,
    to_leader,
    values_of,
)

pytestmark = pytest.mark.process

FETCH_VERSIONS = range(4, 19)
PRODUCE_VERSIONS = range(3, 14)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 0}) as cluster:
        yield cluster
        assert not bugs_in(cluster)


@pytest.fixture
def topic(cluster: LocalCluster, request: pytest.FixtureRequest) -> str:
    """A topic of one partition, of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    create(cluster, name)
    return name


@pytest.fixture
def leader(cluster: LocalCluster, topic: str) -> Iterator[RawConnection]:
    with to_leader(cluster, topic) as connection:
        yield connection


def later(delay_s: float, action: Any) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.start()
    return timer


def wait_committed(node: RawConnection, topic: str, offset: int) -> None:
    eventually(lambda: fetch(node, topic, 0).high_watermark >= offset)


# --- versions


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_every_version_is_served(cluster: LocalCluster, version: int) -> None:
    """The same records in each version, by name or by id, with what the version can say about them."""
    name = f"fetched-{version}"
    topic_id = create(cluster, name).topic_id
    with to_leader(cluster, name) as node:
        produce_values(node, name, b"one", b"two")
        answer = node.ask("fetch", version, **fetch_body(name, 0, topic_id=topic_id))
        found = answer.responses[0]
        assert (found.topic, found.topic_id) == (("", topic_id) if version >= 13 else (name, NO_TOPIC_ID))
        partition = found.partitions[0]
        assert values_of(partition.records) == [(0, b"one"), (1, b"two")]
        assert (partition.error_code, partition.high_watermark, partition.last_stable_offset) == (ErrorCode.none, 2, 2)
        assert partition.log_start_offset == (0 if version >= 5 else -1)
        assert answer.session_id == 0


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_every_version_produces(cluster: LocalCluster, version: int) -> None:
    """By name or by id; the answer has the offset, and from version 5 on the start of the log."""
    name = f"produced-{version}"
    topic_id = create(cluster, name).topic_id
    with to_leader(cluster, name) as node:
        body = produce_body(name, batch(b"one", b"two"))
        body["topic_data"][0]["topic_id"] = topic_id
        for base in (0, 2):
            answer = node.ask("produce", version, **body).responses[0]
            partition = answer.partition_responses[0]
            assert (partition.error_code, partition.base_offset) == (ErrorCode.none, base)
            assert partition.log_start_offset == (0 if version >= 5 else -1)
            assert partition.log_append_time_ms == -1
        assert answer.topic_id == (topic_id if version >= 13 else NO_TOPIC_ID)
        assert [value for _, value in values_of(fetch(node, name, 0).records)] == [b"one", b"two"] * 2


def test_an_unknown_id_is_no_unknown_name(cluster: LocalCluster, topic: str, leader: RawConnection) -> None:
    """Each has its own code, to fetch and to produce."""
    unknown = UUID(int=0xBEEF)
    answer = leader.ask("fetch", 13, **fetch_body(topic, 0, topic_id=unknown)).responses[0]
    assert (answer.topic_id, answer.partitions[0].error_code) == (unknown, ErrorCode.unknown_topic_id)
    assert fetch(leader, "nowhere", 0).error_code == ErrorCode.unknown_topic_or_partition
    assert fetch(leader, topic, 0, partition=9).error_code == ErrorCode.unknown_topic_or_partition
    body = produce_body(topic, batch(b"x"))
    body["topic_data"][0]["topic_id"] = unknown
    answer = leader.ask("produce", 13, **body).responses[0]
    assert (answer.topic_id, answer.partition_responses[0].error_code) == (unknown, ErrorCode.unknown_topic_id)
    assert produce(leader, "nowhere", batch(b"x")).error_code == ErrorCode.unknown_topic_or_partition


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_sessions(topic: str, leader: RawConnection, version: int) -> None:
    """From version 7 on a full fetch begins a session; its steps tell what is new; a step of none is refused (KIP-227)."""
    produce_values(leader, topic, b"x")
    topic_id = leader.ask("metadata", 12, topics=[{"name": topic}]).topics[0].topic_id
    answer = leader.ask("fetch", version, **fetch_body(topic, 0, topic_id=topic_id, session_epoch=-1))
    assert (answer.error_code, answer.session_id, len(answer.responses)) == (ErrorCode.none, 0, 1)
    if version < 7:
        return
    begun = leader.ask("fetch", version, **fetch_body(topic, 1, topic_id=topic_id, session_epoch=0))
    assert begun.session_id > 0 and len(begun.responses) == 1
    step = fetch_body(topic, 1, session_id=begun.session_id) | {"topics": []}
    assert leader.ask("fetch", version, **step | {"session_epoch": 1}).responses == ()
    produce_values(leader, topic, b"y")
    wait_committed(leader, topic, 2)
    answer = leader.ask("fetch", version, **step | {"session_epoch": 2})
    assert values_of(answer.responses[0].partitions[0].records) == [(1, b"y")]
    answer = leader.ask("fetch", version, **step | {"session_epoch": 2})
    assert (answer.error_code, len(answer.responses)) == (ErrorCode.invalid_fetch_session_epoch, 0)
    answer = leader.ask("fetch", version, **step | {"session_epoch": 3, "session_id": begun.session_id ^ 1})
    assert (answer.error_code, len(answer.responses)) == (ErrorCode.fetch_session_id_not_found, 0)


@pytest.mark.parametrize("version", [4, 11, 12])
def test_a_fetch_of_a_broker_is_refused(topic: str, leader: RawConnection, version: int) -> None:
    """Our followers do not use this protocol; a stranger that says it is a broker gets nothing above the high watermark."""
    answer = leader.ask("fetch", version, **fetch_body(topic, 0, replica_id=2))
    assert answer.responses[0].partitions[0].error_code == ErrorCode.invalid_request
    assert fetch(leader, topic, 0, replica_id=-2).error_code == ErrorCode.none


# --- waiting


def test_a_fetch_waits_for_records(cluster: LocalCluster, topic: str, leader: RawConnection) -> None:
    """Long poll: the answer comes with the first record, far before the time is over."""
    with to_leader(cluster, topic) as other:
        timer = later(0.3, lambda: produce_values(other, topic, b"woken"))
        started = time.monotonic()
        answer = fetch(leader, topic, 0, max_wait_ms=10_000)
        assert 0.25 < time.monotonic() - started < 5
        assert values_of(answer.records) == [(0, b"woken")]
        timer.join()


def test_a_fetch_waits_no_longer_than_it_says(topic: str, leader: RawConnection) -> None:
    """Without records the answer is empty after max_wait_ms, at once if that is 0, and not before."""
    for wait_ms in (0, -5, 400):
        started = time.monotonic()
        answer = fetch(leader, topic, 0, max_wait_ms=wait_ms)
        waited = time.monotonic() - started
        assert (answer.error_code, answer.records or b"") == (ErrorCode.none, b"")
        assert wait_ms / 1000 - 0.01 <= waited < max(0, wait_ms / 1000) + 2


def test_a_fetch_waits_for_as_much_as_it_wants(cluster: LocalCluster, topic: str, leader: RawConnection) -> None:
    """min_bytes: one batch of three is too little, the third completes it; who wants too much gets all there is at the end."""
    one = batch(b"x" * 1000)
    with to_leader(cluster, topic) as other:
        timers = [later(0.1 * turn, lambda: produce(other, topic, one)) for turn in (1, 2, 3)]
        answer = fetch(leader, topic, 0, min_bytes=3 * len(one), max_wait_ms=10_000)
        for timer in timers:
            timer.join()
        assert len(values_of(answer.records)) == 3
    started = time.monotonic()
    assert len(values_of(fetch(leader, topic, 0, min_bytes=2**31 - 1, max_bytes=2**31 - 1, max_wait_ms=300).records)) == 3
    assert time.monotonic() - started >= 0.29


def test_who_wants_more_than_may_be_in_an_answer_does_not_wait(topic: str, leader: RawConnection) -> None:
    """min_bytes counts no more than max_bytes, as in Kafka."""
    produce_values(leader, topic, b"x" * 5000)
    started = time.monotonic()
    answer = fetch(leader, topic, 0, min_bytes=1_000_000, max_bytes=1000, max_wait_ms=10_000)
    assert len(values_of(answer.records)) == 1
    assert time.monotonic() - started < 5


def test_an_error_does_not_wait(topic: str, leader: RawConnection) -> None:
    """One partition that cannot be read ends the wait for the others."""
    body = fetch_body(topic, 0, max_wait_ms=10_000)
    body["topics"][0]["partitions"].append(body["topics"][0]["partitions"][0] | {"partition": 77})
    started = time.monotonic()
    partitions = leader.ask("fetch", 12, **body).responses[0].partitions
    assert {one.partition_index: ErrorCode(one.error_code) for one in partitions} == {
        0: ErrorCode.none,
        77: ErrorCode.unknown_topic_or_partition,
    }
    assert time.monotonic() - started < 5


def test_a_deleted_topic_ends_the_wait(cluster: LocalCluster, topic: str, leader: RawConnection) -> None:
    """Whoever waits for its records hears that there will be none."""
    with to_leader(cluster, topic) as other:
        timer = later(0.2, lambda: other.ask("delete_topics", 3, topic_names=[topic], timeout_ms=5000))
        started = time.monotonic()
        answer = fetch(leader, topic, 0, max_wait_ms=10_000)
        timer.join()
    assert answer.error_code in (ErrorCode.unknown_topic_or_partition, ErrorCode.not_leader_or_follower)
    assert time.monotonic() - started < 5


# --- limits


def test_limits_of_a_partition_and_of_an_answer(cluster: LocalCluster) -> None:
    """Only the first batch of an answer may exceed them, so that a reader gets on; the order of the request decides."""
    create(cluster, "limited", partitions=1)
    one = batch(b"x" * 1000)
    with to_leader(cluster, "limited") as node:
        for _ in range(5):
            produce(node, "limited", one)
        assert len(values_of(fetch(node, "limited", 0, partition_max_bytes=1).records)) == 1
        assert len(values_of(fetch(node, "limited", 0, max_bytes=1).records)) == 1
        assert len(values_of(fetch(node, "limited", 0, max_bytes=0).records)) == 1
        assert len(values_of(fetch(node, "limited", 0, partition_max_bytes=len(one) * 2 + 10).records)) == 2
        assert len(values_of(fetch(node, "limited", 0, max_bytes=len(one) * 3).records)) == 3
        assert len(values_of(fetch(node, "limited", 3).records)) == 2


def test_an_answer_is_shared_by_its_partitions(cluster: LocalCluster) -> None:
    """What the first takes is not there for the second; a partition that is named twice is read once, as it was named last."""
    assignments = [{"partition_index": index, "broker_ids": [1, 2]} for index in (0, 1)]
    with RawConnection(address_of(cluster, 1)) as node:
        new = {"name": "shared", "num_partitions": -1, "replication_factor": -1, "assignments": assignments}
        node.ask("create_topics", 7, topics=[new], timeout_ms=10_000)
        one = batch(b"x" * 1000)
        for partition in (0, 0, 1, 1):
            eventually(lambda partition=partition: not produce(node, "shared", one, partition=partition).error_code)  # type: ignore[misc]
        wanted = fetch_body("shared", 0)["topics"][0]["partitions"][0]
        body = fetch_body("shared", 0, max_bytes=len(one) * 3)
        body["topics"][0]["partitions"] = [wanted | {"partition": 1}, wanted]
        partitions = node.ask("fetch", 12, **body).responses[0].partitions
        assert [(found.partition_index, len(values_of(found.records))) for found in partitions] == [(1, 2), (0, 1)]
        body["topics"][0]["partitions"] = [wanted, wanted, wanted | {"fetch_offset": 1}]
        partitions = node.ask("fetch", 12, **body).responses[0].partitions
        assert [values_of(found.records)[0][0] for found in partitions] == [1]


def test_an_offset_inside_a_batch_gets_the_whole_batch(topic: str, leader: RawConnection) -> None:
    """Batches are never rebuilt: the client skips what it did not ask for. The bytes are those of the producer, but for 16."""
    sent = batch(b"0", b"1", b"2", b"3")
    produce(leader, topic, sent)
    produce_values(leader, topic, b"4")
    for offset in range(4):
        answer = fetch(leader, topic, offset)
        assert [found for found, _ in values_of(answer.records)] == [0, 1, 2, 3, 4]
        assert answer.records[16 : len(sent)] == sent[16:]
    assert [found for found, _ in values_of(fetch(leader, topic, 4).records)] == [4]


def test_offsets_outside_the_log(topic: str, leader: RawConnection) -> None:
    """The end is no error but a wait; beyond it and before the start is out of range, with the watermarks unknown or known."""
    produce_values(leader, topic, b"0", b"1")
    assert fetch(leader, topic, 2).error_code == ErrorCode.none
    for offset in (3, -1, 2**63 - 1, -(2**63)):
        assert fetch(leader, topic, offset).error_code == ErrorCode.offset_out_of_range


@pytest.mark.parametrize("isolation", [0, 1])
def test_both_isolations_see_what_is_committed(topic: str, leader: RawConnection, isolation: int) -> None:
    """Without transactions they are the same; no aborted transactions are told."""
    produce_values(leader, topic, b"x")
    answer = fetch(leader, topic, 0, isolation_level=isolation)
    assert (values_of(answer.records), answer.last_stable_offset) == ([(0, b"x")], 1)
    assert answer.aborted_transactions == (() if isolation else None), "null is for who did not ask"
    assert fetch(leader, "nowhere", 0, isolation_level=isolation).aborted_transactions == ()


def test_what_is_not_committed_is_not_read(cluster: LocalCluster, topic: str) -> None:
    """With too few replicas in sync a record is stored by acks=1, but no consumer sees it before it is safe."""
    with to_leader(cluster, topic) as node:
        leader = leader_of(cluster, topic)
        others = [one.node_id for one in cluster.nodes if one.node_id != leader]
        produce_values(node, topic, b"safe")
        wait_committed(node, topic, 1)
        for other in others:
            cluster.pause(other)
        try:
            stored = produce(node, topic, batch(b"not yet"), acks=1)
            assert (stored.error_code, stored.base_offset) == (ErrorCode.none, 1)
            answer = fetch(node, topic, 0)
            assert (values_of(answer.records), answer.high_watermark) == ([(0, b"safe")], 1)
            assert (fetch(node, topic, 1).error_code, fetch(node, topic, 1).records or b"") == (ErrorCode.none, b"")
        finally:
            for other in others:
                cluster.resume(other)
        cluster.wait_ready()
    with to_leader(cluster, topic) as node:
        eventually(lambda: produce(node, topic, batch(b"after")).error_code == ErrorCode.none)


# --- epochs and leaders


def test_the_epoch_of_the_client_is_held_against_ours(cluster: LocalCluster, topic: str, leader: RawConnection) -> None:
    """One that is over is fenced, one that has not begun is unknown; none at all is taken."""
    epoch = describe(cluster.nodes[0].kafka, topic).partitions[0].leader_epoch
    assert fetch(leader, topic, 0, current_leader_epoch=epoch).error_code == ErrorCode.none
    assert fetch(leader, topic, 0, current_leader_epoch=epoch + 1).error_code == ErrorCode.unknown_leader_epoch
    if epoch > 0:
        assert fetch(leader, topic, 0, current_leader_epoch=epoch - 1).error_code == ErrorCode.fenced_leader_epoch


def test_whoever_is_not_the_leader_says_who_is(cluster: LocalCluster) -> None:
    """KIP-951: with the error comes the leader, its epoch and its address, for fetch from version 16 and produce from 10 on."""
    topic = "alone"
    create(cluster, topic, replicas=1)
    leader = leader_of(cluster, topic)
    epoch = describe(address_of(cluster, leader), topic).partitions[0].leader_epoch
    host, _, port = address_of(cluster, leader).rpartition(":")
    topic_id = describe(address_of(cluster, leader), topic).topic_id
    with RawConnection(address_of(cluster, other_than(cluster, leader))) as node:
        for version in (12, 15, 16, 18):
            answer = node.ask("fetch", version, **fetch_body(topic, 0, topic_id=topic_id))
            partition = answer.responses[0].partitions[0]
            assert partition.error_code == ErrorCode.not_leader_or_follower
            assert (partition.current_leader.leader_id, partition.current_leader.leader_epoch) == (leader, epoch)
            endpoints = [(one.node_id, one.host, one.port) for one in answer.node_endpoints]
            assert endpoints == ([(leader, host, int(port))] if version >= 16 else [])
        for version in (9, 10, 12):
            answer = node.ask("produce", version, **produce_body(topic, batch(b"x")))
            partition = answer.responses[0].partition_responses[0]
            assert partition.error_code == ErrorCode.not_leader_or_follower
            hint = (partition.current_leader.leader_id, partition.current_leader.leader_epoch)
            assert hint == ((leader, epoch) if version >= 10 else (-1, -1))
            endpoints = [(one.node_id, one.host, one.port) for one in answer.node_endpoints]
            assert endpoints == ([(leader, host, int(port))] if version >= 10 else [])


def test_a_change_of_leader_under_a_waiting_fetch(cluster: LocalCluster, topic: str) -> None:
    """The old leader ends the wait, with the new one's address; the epochs tell a consumer where its log parted."""
    old = leader_of(cluster, topic)
    with to_leader(cluster, topic) as node:
        produce_values(node, topic, b"0", b"1")
        before = describe(address_of(cluster, old), topic).partitions[0].leader_epoch
        node.send("fetch", 12, **fetch_body(topic, 2, max_wait_ms=20_000))
        stopping = later(0.1, lambda: cluster.stop(old))
        started = time.monotonic()
        try:
            answer = node.receive().responses[0].partitions[0]
            assert answer.error_code in (ErrorCode.not_leader_or_follower, ErrorCode.fenced_leader_epoch)
            assert answer.current_leader.leader_id not in (old, -1)
        except ConnectionError:
            pass  # closed with the node, which is an answer too
        assert time.monotonic() - started < 10
        stopping.join()
    cluster.start(old)
    with to_leader(cluster, topic) as node:
        eventually(lambda: produce(node, topic, batch(b"2")).error_code == ErrorCode.none)
        now = describe(address_of(cluster, leader_of(cluster, topic)), topic).partitions[0].leader_epoch
        assert now > before
        assert fetch(node, topic, 0, current_leader_epoch=before).error_code == ErrorCode.fenced_leader_epoch
        same = fetch(node, topic, 2, last_fetched_epoch=before)
        assert (same.diverging_epoch.epoch, [value for _, value in values_of(same.records)]) == (-1, [b"2"])
        parted = fetch(node, topic, 3, last_fetched_epoch=before)
        assert (parted.error_code, parted.diverging_epoch.epoch, parted.diverging_epoch.end_offset) == (0, before, 2)
        assert not parted.records
        headers = fetch(node, topic, 0).records
        assert read_header(headers).leader_epoch == before
        assert read_header(headers, read_header(headers).size).leader_epoch == now


def test_the_end_does_not_go_back_when_the_leader_changes(cluster: LocalCluster, topic: str) -> None:
    """A new leader may not know at once how far all is committed: until it does, it says nothing older than it said before."""
    old = leader_of(cluster, topic)
    with to_leader(cluster, topic) as node:
        for turn in range(20):
            produce_values(node, topic, b"%d" % turn)
        cluster.kill(old)
    seen: list[int] = []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and (not seen or seen[-1] != 20):
        try:
            with RawConnection(address_of(cluster, leader_of(cluster, topic))) as node:
                wanted = {"partition_index": 0, "timestamp": -1, "current_leader_epoch": -1}
                topics = [{"name": topic, "partitions": [wanted]}]
                found = node.ask("list_offsets", 7, replica_id=-1, topics=topics).topics[0].partitions[0]
        except OSError:
            continue
        if found.error_code == ErrorCode.none:
            seen.append(found.offset)
        else:
            assert found.error_code in (ErrorCode.offset_not_available, ErrorCode.not_leader_or_follower)
    cluster.start(old)
    assert set(seen) == {20}


# --- pipelining


def test_answers_come_in_the_order_of_the_requests(topic: str, leader: RawConnection) -> None:
    """Requests of all kinds, sent without waiting on one connection: each answer is the next one's."""
    leader.send("produce", 9, **produce_body(topic, batch(b"0")))
    leader.send("metadata", 12, topics=[{"name": topic}])
    leader.send("fetch", 12, **fetch_body(topic, 0, max_wait_ms=200))
    leader.send("produce", 9, answered=False, **produce_body(topic, batch(b"1"), acks=0))
    leader.send("api_versions", 3, client_software_name="raw", client_software_version="1")
    leader.send("produce", 9, **produce_body(topic, batch(b"2")))
    leader.send("fetch", 12, **fetch_body(topic, 2, max_wait_ms=2000))
    names = [type(leader.receive()).__name__ for _ in range(6)]
    assert names == [f"{name}Response" for name in ("Produce", "Metadata", "Fetch", "ApiVersions", "Produce", "Fetch")]
    assert [value for _, value in values_of(fetch(leader, topic, 0).records)] == [b"0", b"1", b"2"]


def test_a_hundred_produces_in_flight_keep_their_order(topic: str, leader: RawConnection) -> None:
    """Offsets rise with the order of sending, however many wait for their replicas."""
    for index in range(100):
        leader.send("produce", 9, **produce_body(topic, batch(b"%d" % index)))
    offsets = [leader.receive().responses[0].partition_responses[0].base_offset for _ in range(100)]
    assert offsets == list(range(100))


def test_what_is_offered_is_what_is_served(cluster: LocalCluster, leader: RawConnection) -> None:
    """ApiVersions in every version tells the ranges of the table; an unknown version of its own is answered in version 0."""

    offered = {key: (api.versions[0], api.versions[-1]) for key, api in API_TABLE.items()}
    for version in range(5):
        answer = leader.ask("api_versions", version, client_software_name="raw", client_software_version="1")
        assert {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys} == offered
    assert offered[KEYS["produce"]] == (PRODUCE_VERSIONS[0], PRODUCE_VERSIONS[-1])
    assert offered[KEYS["fetch"]] == (FETCH_VERSIONS[0], FETCH_VERSIONS[-1])
