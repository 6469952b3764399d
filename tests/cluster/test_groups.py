"""Groups of real clients on a real cluster: members and coordinators die, no record is skipped; groups leave each other alone."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from quorumlog.testing import LocalCluster
from tests.cluster.group_member import MemberConfig
from tests.cluster.group_rewinder import ConfluentRewinder, KafkaPythonRewinder, Rewinder, read
from tests.cluster.group_stage import Load, Members, begin_at_zero, coordinator_of
from tests.cluster.leaders import wait_in_sync
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

PARTITIONS = 24
MEMBERS = 6
SESSION_MS, HEARTBEAT_MS = 6_000, 500  # a busy machine lets its members wait for seconds
SETTINGS = {
    "group_min_session_timeout_ms": 1_000,
    "group_initial_rebalance_delay_ms": 200,
    "group_consumer_min_session_timeout_ms": SESSION_MS,
    "group_consumer_session_timeout_ms": SESSION_MS,
    "group_consumer_min_heartbeat_interval_ms": 300,
    "group_consumer_heartbeat_interval_ms": 300,
}
PAUSE_MAX_S = 10.0  # generous: a partition whose reader forgot it would stand still until the test gives up


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        yield cluster


def group_of(cluster: LocalCluster, name: str, **how: object) -> MemberConfig:
    """The config of its members; its topic is there, its offsets stand at the start."""
    config = MemberConfig(cluster.bootstrap_servers, f"readers-{name}", f"read-{name}", **how)  # type: ignore[arg-type]
    create_topic(config.bootstrap, config.topic, partitions=PARTITIONS)
    begin_at_zero(config.bootstrap, config.group, config.topic, PARTITIONS)
    return config


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_no_record_is_skipped_when_a_member_and_then_the_coordinator_is_killed(cluster: LocalCluster, protocol: str) -> None:
    """Half of a classic group are members of another client, and it rebalances the eager way."""
    is_classic = protocol == "classic"
    timeouts = {"session_ms": SESSION_MS, "heartbeat_ms": HEARTBEAT_MS, "assignor": "range"} if is_classic else {}
    config = group_of(cluster, protocol, protocol=protocol, **timeouts)
    with Load(config.bootstrap, config.topic, PARTITIONS) as load, Members(config, PARTITIONS) as members:
        members.start(0, 1, 2)
        members.start(3, 4, 5, client="kafka-python" if is_classic else "confluent")
        members.wait_for(lambda: members.share_all(MEMBERS), "all members share the partitions")
        members.kill(0)
        members.wait_for(lambda: members.share_all(MEMBERS - 1), "the others have taken over what the dead member had")
        _read_on(load, members, "a member was killed")

        coordinator = coordinator_of(config.bootstrap, config.group)
        killed_at = time.monotonic()
        cluster.kill(coordinator)
        _read_on(load, members, "the coordinator was killed")
        _commit_on(members, killed_at)
        cluster.start(coordinator)
        wait_in_sync(config.bootstrap, "__consumer_offsets")
        _finish(load, members)


def _read_on(load: Load, members: Members, since: str) -> None:
    """Until of each partition a record was read that was not there yet when this began."""
    ends = dict(load.ends)
    members.wait_for(lambda: len(members.read_behind(ends)) == PARTITIONS, f"all partitions are read on after {since}")


def _commit_on(members: Members, since: float) -> None:
    """Until each member has committed again, by a request that it began since then."""
    members.wait_for(
        lambda: all(members.commits[member][-1].began_at > since for member in members.owned), "every member commits again"
    )


def _finish(load: Load, members: Members) -> None:
    """Every record that was acknowledged has been read by somebody, and no member had to reset an offset."""
    load.stop()
    last = {partition: end - 1 for partition, end in load.ends.items()}
    members.wait_for(lambda: len(members.read_behind(last)) == PARTITIONS, "everything is read to its end")
    assert load.failed == []
    assert members.errors == []
    assert members.skipped(load.ends) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_rebalance_moves_only_what_must_move(cluster: LocalCluster, protocol: str) -> None:
    """Of static members with the default session timeout; the classic ones are cooperative-sticky, the others KIP-848's."""
    timeouts = {"heartbeat_ms": HEARTBEAT_MS, "assignor": "cooperative-sticky"} if protocol == "classic" else {}
    config = group_of(cluster, f"few-moves-{protocol}", protocol=protocol, **timeouts)
    _set_session_timeout(config, 45_000)
    with Load(config.bootstrap, config.topic, PARTITIONS) as load, Members(config, PARTITIONS) as members:
        members.start(*range(MEMBERS), instance="static-{number}")
        members.wait_for(lambda: members.share_all(MEMBERS), "all members share the partitions")
        _read_on(load, members, "the group came together")
        before, began_at = dict(members.owned), time.monotonic()
        members.given_up.clear()

        stop = members.kill if protocol == "classic" else members.leave  # KIP-848: the dead keep their id for the session timeout
        stop(0)
        members.start(0, instance="static-{number}")
        members.wait_for(lambda: members.owned.get(0) == before[0], "the member that came back has what it had")
        assert [number for number, _ in members.given_up if number] == [], "a static member that comes back moves nothing"
        assert members.owned == before
        members.given_up.clear()

        members.start(MEMBERS, instance="static-{number}")
        members.wait_for(lambda: members.share_all(MEMBERS + 1), "the new member has its share")
        moved = members.owned[MEMBERS]
        given_up = sorted(partition for _, partition in members.given_up)
        # What classic members give up is decided by a client, which may exchange some more.
        assert given_up == moved if protocol == "consumer" else set(given_up) >= set(moved)
        assert len(moved) == PARTITIONS // (MEMBERS + 1), "the new member takes the least that is fair"
        _read_on(load, members, "a member has joined")
        _finish(load, members)
        kept = set(range(PARTITIONS)) - set(given_up) - set(before[0])
        assert kept
        _check_read_without_pause(members, kept, began_at)


def _set_session_timeout(config: MemberConfig, session_ms: int) -> None:
    """Of this group alone, if it is one of KIP-848; classic members bring their own."""
    entry = ConfigEntry("consumer.session.timeout.ms", str(session_ms), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, config.group, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": config.bootstrap})  # must live until the answer is there
    admin.incremental_alter_configs([resource])[resource].result(20)


def _check_read_without_pause(members: Members, partitions: set[int], since: float) -> None:
    """One member read them, each record once, and never stood still."""
    for partition in partitions:
        readings = [reading for reading in members.readings if reading.partition == partition and reading.at > since]
        assert len({reading.member for reading in readings}) == 1
        for earlier, later in pairwise(readings):
            assert later.first == earlier.last + 1, f"{partition} is read anew: {earlier}, {later}"
            assert later.at - earlier.at < PAUSE_MAX_S, f"{partition} stood still: {earlier}, {later}"


# --- groups that rewind

REWOUND, RECORDS, FIRST_MS = "rewound", 100, 1_600_000_000_000  # records of each partition
BOTH = (0, 1)
GROUPS = 10


def test_ten_groups_that_rewind_do_not_disturb_each_other(cluster: LocalCluster) -> None:
    """Each by offset, by time, to the start and to the end, in both protocols and with two clients, all at the same time."""
    bootstrap = cluster.bootstrap_servers
    kept = {"min.insync.replicas": "2", "retention.ms": "-1"}  # records of 2020 would be gone at the next look of retention
    create_topic(bootstrap, REWOUND, partitions=len(BOTH), config=kept)
    producer = Producer({"bootstrap.servers": bootstrap})
    for offset in range(RECORDS):
        for partition in BOTH:
            producer.produce(REWOUND, b"%d" % offset, partition=partition, timestamp=FIRST_MS + offset)
    assert producer.flush(30) == 0
    with ThreadPoolExecutor(GROUPS) as pool:
        seen = list(pool.map(lambda index: _rewind(bootstrap, index), range(GROUPS)))
    assert seen == [_expected(index) for index in range(GROUPS)]

    cluster.kill(1)
    assert {index: _committed(bootstrap, index) for index in range(GROUPS)} == {index: [index, index] for index in range(GROUPS)}
    cluster.start(1)


def _rewinder(bootstrap: str, index: int) -> Rewinder:
    group = f"rewinder-{index}"
    if index % 3 == 2:
        return KafkaPythonRewinder(bootstrap, group, REWOUND, BOTH)
    return ConfluentRewinder(bootstrap, group, REWOUND, ("classic", "consumer")[index % 3], BOTH)


def _rewind(bootstrap: str, index: int) -> list[object]:
    """What the group reads, and what it then finds committed."""
    begin_at_zero(bootstrap, f"rewinder-{index}", REWOUND, len(BOTH))
    rewinder, seen = _rewinder(bootstrap, index), list[object]()
    for go, count in _steps(rewinder, index):
        go()
        seen.append(read(rewinder, BOTH, count))
        rewinder.commit(index + count)
        seen.append(rewinder.committed())
    rewinder.to_end()
    assert rewinder.positions() == [RECORDS, RECORDS]
    assert list(rewinder.poll()) == []
    rewinder.commit(index)
    rewinder.close()
    return seen


def _steps(rewinder: Rewinder, index: int) -> Iterator[tuple[Callable[[], None], int]]:
    """A way to go, and how many records to read from there on."""
    yield (lambda: None), 10 + index  # as it is assigned
    yield partial(rewinder.to_offset, 3 * index), 5
    yield partial(rewinder.to_time, FIRST_MS + 50 + index), RECORDS - 50 - index
    yield rewinder.to_start, RECORDS


def _expected(index: int) -> list[object]:
    starts = [(0, 10 + index), (3 * index, 5), (50 + index, RECORDS - 50 - index), (0, RECORDS)]
    return [
        each
        for start, count in starts
        for each in ({partition: list(range(start, start + count)) for partition in BOTH}, [index + count] * 2)
    ]


def _committed(bootstrap: str, index: int) -> list[int]:
    """As a tool sees it."""
    asked = ConsumerGroupTopicPartitions(f"rewinder-{index}", [TopicPartition(REWOUND, partition) for partition in BOTH])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # must live until the answer is there
    answer = admin.list_consumer_group_offsets([asked], request_timeout=30)
    return [place.offset for place in answer[asked.group_id].result(40).topic_partitions]
