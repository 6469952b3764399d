"""Groups of real clients on a real cluster: members and coordinators die, no record is skipped; groups leave each other alone."""

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from quorumlog.testing import LocalCluster
from tests.cluster.group_member import SESSION_MS, client_config
from tests.cluster.leaders import wait_in_sync
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

PARTITIONS = 24
MEMBERS = 6
SETTINGS = {
    "group_min_session_timeout_ms": 1_000,
    "group_initial_rebalance_delay_ms": 200,
    "group_consumer_min_session_timeout_ms": SESSION_MS,
    "group_consumer_session_timeout_ms": SESSION_MS,
    "group_consumer_min_heartbeat_interval_ms": 300,
    "group_consumer_heartbeat_interval_ms": 300,
}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        yield cluster


def wait_for(condition: Callable[[], bool], what: str) -> float:
    """The seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < PATIENCE_S, f"still not after {PATIENCE_S} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def coordinator_of(bootstrap: str, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must live until the answer is there
    return int(admin.describe_consumer_groups([group])[group].result(20).coordinator.id)


class Load:
    """Produces to all partitions, a record each every few milliseconds, in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ends: dict[int, int] = {}  # of what was acknowledged
        self.failed: list[str] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        while not self._stop.is_set():
            for partition in range(PARTITIONS):
                self._producer.produce(self._topic, b"x" * 50, partition=partition, on_delivery=self._on_delivery)
            self._producer.poll(0.02)

    def _on_delivery(self, error: object, message: object) -> None:
        if error is not None:
            self.failed.append(str(error))
        else:
            partition, offset = message.partition(), message.offset()  # type: ignore[attr-defined]
            self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)


class Members:
    """Processes of a group, and what they say."""

    def __init__(self, bootstrap: str, group: str, topic: str, protocol: str) -> None:
        self._command = [sys.executable, "-m", "tests.cluster.group_member", bootstrap, group, topic, protocol]
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self.read: defaultdict[int, set[int]] = defaultdict(set)
        self.owned: dict[int, list[int]] = {}
        self.errors: list[str] = []

    def __enter__(self) -> "Members":
        for number in range(MEMBERS):
            process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
            self._processes.append(process)
            self._threads.append(threading.Thread(target=self._listen, args=(number, process), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()

    def kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()
        self.owned.pop(number, None)

    def _listen(self, number: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._hear(number, line.split())

    def _hear(self, number: int, words: list[str]) -> None:
        if words[0] == "read":
            partition, first, last = map(int, words[1:])
            self.read[partition] |= set(range(first, last + 1))
        elif words[0] == "owns":
            self.owned[number] = list(map(int, words[1:]))
        else:
            self.errors.append(" ".join(words))

    def share_all(self, count: int) -> bool:
        """Have so many members all partitions between them, each one once?"""
        owned = dict(self.owned)
        return sum(map(bool, owned.values())) == count and sorted(chain(*owned.values())) == list(range(PARTITIONS))

    def have_read(self, ends: dict[int, int]) -> bool:
        return len(ends) == PARTITIONS and all(end - 1 in self.read[partition] for partition, end in ends.items())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_no_record_is_skipped_when_a_member_and_then_the_coordinator_is_killed(cluster: LocalCluster, protocol: str) -> None:
    topic, group, bootstrap = f"read-{protocol}", f"readers-{protocol}", cluster.bootstrap_servers
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    with Load(bootstrap, topic) as load, Members(bootstrap, group, topic, protocol) as members:
        wait_for(lambda: members.share_all(MEMBERS), "all members share the partitions")
        members.kill(0)
        wait_for(lambda: members.share_all(MEMBERS - 1), "the others have taken over what the dead member had")
        _read_on(load, members, "a member was killed")

        coordinator = coordinator_of(bootstrap, group)
        cluster.kill(coordinator)
        took_s = _read_on(load, members, "the coordinator was killed")
        print(f"{protocol}: all partitions are read on {took_s:.2f} s after kill -9 of the coordinator's node")
        cluster.start(coordinator)
        wait_in_sync(bootstrap, "__consumer_offsets")

        load.stop()
        wait_for(lambda: members.have_read(load.ends), "everything is read to its end")
    assert load.failed == []
    assert members.errors == []
    assert {partition: set(range(end)) - members.read[partition] for partition, end in load.ends.items()} == {
        partition: set() for partition in range(PARTITIONS)
    }


def _read_on(load: Load, members: Members, since: str) -> float:
    """Wait until of each partition something was read that was not there yet when this began; the seconds it took."""
    before = {partition: max(members.read[partition], default=-1) + 50 for partition in range(PARTITIONS)}
    return wait_for(
        lambda: all(max(members.read[partition], default=-1) >= before[partition] for partition in range(PARTITIONS)),
        f"all partitions are read on after {since}",
    )


def test_ten_groups_that_rewind_do_not_disturb_each_other(cluster: LocalCluster) -> None:
    topic, bootstrap, count = "rewound", cluster.bootstrap_servers, 200
    create_topic(bootstrap, topic, partitions=2)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=number % 2, timestamp=1_600_000_000_000 + number)
    assert producer.flush(30) == 0
    results: dict[int, list[int]] = {}
    threads = [threading.Thread(target=_rewind, args=(bootstrap, topic, index, results)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Group i reads 10 i records of each partition, commits, goes back by i, reads 2 i more, commits, and goes to the end.
    assert results == {index: [10 * index, 11 * index, count // 2] for index in range(10)}


def _rewind(bootstrap: str, topic: str, index: int, results: dict[int, list[int]]) -> None:
    consumer = Consumer(client_config(bootstrap, f"rewinder-{index}", "classic"))
    places = [TopicPartition(topic, partition, 0) for partition in (0, 1)]
    consumer.assign(places)
    seen = [_read_and_commit(consumer, topic, start=0, records=10 * index)]
    seen.append(_read_and_commit(consumer, topic, start=9 * index, records=2 * index))
    ends = [
        TopicPartition(topic, partition, consumer.get_watermark_offsets(TopicPartition(topic, partition))[1])
        for partition in (0, 1)
    ]
    consumer.commit(offsets=ends, asynchronous=False)
    seen.append(_committed(consumer, topic))
    consumer.close()
    results[index] = seen


def _read_and_commit(consumer: Consumer, topic: str, *, start: int, records: int) -> int:
    """Of each partition, from there on; what the coordinator says afterwards was committed."""
    for partition in (0, 1):
        consumer.seek(TopicPartition(topic, partition, start))
    left = {(partition, offset) for partition in (0, 1) for offset in range(start, start + records)}
    deadline = time.monotonic() + PATIENCE_S
    while left:
        assert time.monotonic() < deadline, f"{len(left)} records from offset {start} on do not come"
        for message in consumer.consume(100, timeout=0.5):
            assert message.error() is None
            left.discard((message.partition(), message.offset()))
    places = [TopicPartition(topic, partition, start + records) for partition in (0, 1)]
    consumer.commit(offsets=places, asynchronous=False)
    return _committed(consumer, topic)


def _committed(consumer: Consumer, topic: str) -> int:
    first, second = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=30)
    assert first.offset == second.offset
    return int(first.offset)
