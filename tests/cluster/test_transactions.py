"""Transactions of real clients on a real cluster: each is there whole or not at all, whoever dies meanwhile."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiokafka
import kafka
import kafka.errors
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from kafka.structs import OffsetAndMetadata

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cli.conftest import Run, run
from tests.cluster.leaders import wait_in_sync
from tests.cluster.raw import RawConnection, bugs_in, eventually
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

__all__ = ["run"]  # a fixture

SETTINGS = {"transaction_state_log_num_partitions": 3, "offsets_topic_num_partitions": 3, "leader_rebalance_interval_s": 0}
TIMEOUT_S = 60.0
STUCK_S = 10.0
MOVED = 1_500


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        yield cluster
        assert not bugs_in(cluster)


@pytest.fixture
def topic(cluster: LocalCluster, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    create_topic(cluster.bootstrap_servers, name, partitions=3)
    return name


def producer(cluster: LocalCluster, name: str, **settings: Any) -> Producer:
    made = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": name, "log_level": 0, **settings})
    made.init_transactions(TIMEOUT_S)
    return made


def values(cluster: LocalCluster, topic: str, *, isolation: str = "read_committed") -> list[str]:
    """All that can be read now."""
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": f"reads-{topic}-{time.monotonic_ns()}",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    numbers = list(consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
    found: list[str] = []
    deadline, at_end = time.monotonic() + TIMEOUT_S, set()
    while len(at_end) < len(numbers) and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                found.append(message.value().decode())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
    consumer.close()
    assert len(at_end) == len(numbers), f"the end of {topic} was not reached: {at_end}"
    return sorted(found)


def test_what_is_committed_is_read_and_what_is_aborted_is_not(cluster: LocalCluster, topic: str) -> None:
    """Over several partitions; who reads everything sees both."""
    writer = producer(cluster, topic)
    for number in range(4):
        writer.begin_transaction()
        for partition in range(3):
            writer.produce(topic, f"{number}.{partition}".encode(), partition=partition)
        writer.flush(TIMEOUT_S)
        (writer.abort_transaction if number % 2 else writer.commit_transaction)(TIMEOUT_S)
    expected = [f"{number}.{partition}" for number in (0, 2) for partition in range(3)]
    eventually(lambda: values(cluster, topic) == expected or None)
    assert len(values(cluster, topic, isolation="read_uncommitted")) == 12


def test_the_first_instance_is_shut_out_by_the_second(cluster: LocalCluster, topic: str) -> None:
    """In the midst of its transaction, of which nothing remains."""
    first = producer(cluster, topic)
    first.begin_transaction()
    first.produce(topic, b"first")
    first.flush(TIMEOUT_S)
    second = producer(cluster, topic)
    with pytest.raises(KafkaException) as refused:
        first.commit_transaction(TIMEOUT_S)
    assert refused.value.args[0].code() == KafkaError._FENCED
    second.begin_transaction()
    second.produce(topic, b"second")
    second.commit_transaction(TIMEOUT_S)
    assert values(cluster, topic) == ["second"]


def test_a_transaction_that_takes_too_long_is_aborted(cluster: LocalCluster, topic: str) -> None:
    """Readers of what comes behind it in its partition do not wait for its producer."""
    slow = producer(cluster, topic, **{"transaction.timeout.ms": 1000})
    slow.begin_transaction()
    slow.produce(topic, b"slow", partition=0)
    slow.flush(TIMEOUT_S)
    other = producer(cluster, f"{topic}-other")
    other.begin_transaction()
    other.produce(topic, b"quick", partition=0)
    other.commit_transaction(TIMEOUT_S)
    eventually(lambda: values(cluster, topic) == ["quick"] or None)
    with pytest.raises(KafkaException):
        slow.commit_transaction(TIMEOUT_S)


class Mover(threading.Thread):
    """Reads one topic, writes another and commits both in one transaction, over and over.

    A new instance takes over after each failure, and from one that gets stuck: kafka-python 3.0 may send nothing more of a
    transaction when a coordinator has moved, though it was told of the new one (the simulator's clients go on). What is stuck may
    wake up later.
    """

    def __init__(self, cluster: LocalCluster, source: str, target: str, group: str) -> None:
        super().__init__(daemon=True)
        self.source, self.target = source, target
        self.moved = 0
        self.failures: list[str] = []
        self.stop = threading.Event()
        self._servers = cluster.bootstrap_servers
        self._key = f"moves-{source}"
        self.group = group

    def run(self) -> None:
        while not self.stop.is_set():
            instance = threading.Thread(target=self._live, daemon=True)
            instance.start()
            moved, since = self.moved, time.monotonic()
            while instance.is_alive() and time.monotonic() - since < STUCK_S:
                instance.join(0.2)
                if self.moved != moved:
                    moved, since = self.moved, time.monotonic()

    def _live(self) -> None:
        try:
            self._move()
        except kafka.errors.KafkaError as error:
            self.failures.append(repr(error))

    def _move(self) -> None:
        writer = kafka.KafkaProducer(bootstrap_servers=self._servers, transactional_id=self._key)
        reader = kafka.KafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=self.group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=25,
        )
        reader.assign([kafka.TopicPartition(self.source, number) for number in range(3)])
        try:
            writer.init_transactions()
            while not self.stop.is_set():
                self._transaction(reader, writer)
        finally:
            writer.close(timeout=0)
            reader.close()

    def _transaction(self, reader: Any, writer: Any) -> None:
        found = reader.poll(timeout_ms=300)
        messages = [message for ones in found.values() for message in ones]
        if not messages:
            return
        writer.begin_transaction()
        for message in messages:
            writer.send(self.target, message.value, partition=message.partition)
        offsets = {place: OffsetAndMetadata(ones[-1].offset + 1, "", -1) for place, ones in found.items()}
        writer.send_offsets_to_transaction(offsets, self.group)
        writer.commit_transaction()
        self.moved += len(messages)


@pytest.mark.timeout(400)
def test_nothing_is_moved_twice_or_lost_while_the_coordinator_is_killed(run: Run, cluster: LocalCluster, topic: str) -> None:
    """kill -9 of the transactions' coordinator, twice, in the midst of a stream of transactions."""
    target, name = f"{topic}-target", f"moves-{topic}"
    create_topic(cluster.bootstrap_servers, target, partitions=3)
    source = Producer({"bootstrap.servers": cluster.bootstrap_servers, "enable.idempotence": True, "log_level": 0})
    for number in range(MOVED):
        source.produce(topic, f"r{number:05}".encode(), partition=number % 3)
    assert source.flush(TIMEOUT_S) == 0
    give_back_leadership(run, cluster)
    victim = coordinator(cluster, name, 1)
    group = next(one for one in (f"{topic}-{number}" for number in range(20)) if coordinator(cluster, one, 0) != victim)
    mover = Mover(cluster, topic, target, group)
    mover.start()
    try:
        for enough in (MOVED // 5, 3 * MOVED // 5):
            eventually(lambda enough=enough: mover.moved >= enough or None, 60)  # type: ignore[misc]
            assert coordinator(cluster, name, 1) == victim
            cluster.kill(victim)
            time.sleep(2)
            cluster.start(victim)
            give_back_leadership(run, cluster)
        eventually(lambda: len(values(cluster, target)) >= MOVED or None, 90)
    finally:
        mover.stop.set()
        mover.join(TIMEOUT_S)
    doubled = [value for value, count in Counter(values(cluster, target)).items() if count > 1]
    assert not doubled, (doubled[:10], mover.failures)
    assert values(cluster, target) == [f"r{number:05}" for number in range(MOVED)], mover.failures


def give_back_leadership(run: Run, cluster: LocalCluster) -> None:
    """Each coordinator is where it was at first."""
    for topic in ("__transaction_state", "__consumer_offsets"):
        coordinator(cluster, "anyone", 1 if topic == "__transaction_state" else 0)
        wait_in_sync(cluster.bootstrap_servers, topic)
        elected = run("topics", "elect", topic, "--bootstrap-server", cluster.bootstrap_servers)
        assert elected.exit_code == 0, elected.output


def coordinator(cluster: LocalCluster, key: str, key_type: int) -> int:
    def ask() -> int | None:
        with RawConnection(cluster.nodes[0].kafka) as node:
            (found,) = node.ask("find_coordinator", 4, key_type=key_type, coordinator_keys=[key]).coordinators
            return int(found.node_id) if found.error_code == ErrorCode.none else None

    return eventually(ask)


def test_kafka_python_commits_aborts_and_moves_offsets(cluster: LocalCluster, topic: str) -> None:
    """Its producer speaks version 1 of transactions."""
    writer = kafka.KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, transactional_id=topic)
    writer.init_transactions()
    for number in range(4):
        writer.begin_transaction()
        for partition in range(3):
            writer.send(topic, f"{number}.{partition}".encode(), partition=partition)
        if number == 2:
            offsets = {kafka.TopicPartition(topic, 0): OffsetAndMetadata(7, "", -1)}
            writer.send_offsets_to_transaction(offsets, f"group-{topic}")
        (writer.abort_transaction if number % 2 else writer.commit_transaction)()
    writer.close()
    expected = [f"{number}.{partition}" for number in (0, 2) for partition in range(3)]
    eventually(lambda: values(cluster, topic) == expected or None)
    assert committed(cluster, f"group-{topic}", topic) == 7


def test_aiokafka_commits_aborts_and_moves_offsets(cluster: LocalCluster, topic: str) -> None:
    async def work() -> None:
        writer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap_servers, transactional_id=topic)
        await writer.start()
        try:
            for number in range(4):
                await writer.begin_transaction()
                for partition in range(3):
                    await writer.send_and_wait(topic, f"{number}.{partition}".encode(), partition=partition)
                if number == 2:
                    await writer.send_offsets_to_transaction({aiokafka.TopicPartition(topic, 0): 7}, f"group-{topic}")
                await (writer.abort_transaction if number % 2 else writer.commit_transaction)()
        finally:
            await writer.stop()

    asyncio.run(work())
    expected = [f"{number}.{partition}" for number in (0, 2) for partition in range(3)]
    eventually(lambda: values(cluster, topic) == expected or None)
    assert committed(cluster, f"group-{topic}", topic) == 7


def committed(cluster: LocalCluster, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": group, "log_level": 0})
    (found,) = consumer.committed([TopicPartition(topic, 0)], TIMEOUT_S)
    consumer.close()
    return int(found.offset)


def test_an_open_transaction_is_seen_and_aborted_from_the_command_line(run: Run, cluster: LocalCluster, topic: str) -> None:
    """list, describe, find-hanging, abort. One that its coordinator knows of does not hang."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)
    writer = producer(cluster, topic)
    writer.begin_transaction()
    writer.produce(topic, b"open", partition=1)
    writer.flush(TIMEOUT_S)
    listed = json.loads(run("transactions", "list", "--state", "Ongoing", "--output", "json", *at).output)
    mine = [row for row in listed if row["transactional_id"] == topic]
    assert [row["state"] for row in mine] == ["Ongoing"]
    assert run("transactions", "list", "--longer-than", 3600, "--output", "json", *at).output.strip() == "[]"
    described = json.loads(run("transactions", "describe", topic, "--output", "json", *at).output)
    assert (described["state"], described["partitions"]) == ("Ongoing", [f"{topic}:1"])
    hanging = run("transactions", "find-hanging", "--topic", topic, "--max-timeout-ms", 0, "--output", "json", *at)
    assert json.loads(hanging.output) == []
    unknown = run("transactions", "describe", "nobody", *at)
    assert unknown.exit_code == 1 and "there is no transactional id" in unknown.output
    assert run("transactions", "abort", f"{topic}:1", "--start-offset", 5, *at).exit_code == 1
    aborted = run("transactions", "abort", f"{topic}:1", "--start-offset", 0, *at)
    assert aborted.exit_code == 0, aborted.output
    other = producer(cluster, f"{topic}-other")
    other.begin_transaction()
    other.produce(topic, b"behind", partition=1)
    other.commit_transaction(TIMEOUT_S)
    eventually(lambda: values(cluster, topic) == ["behind"] or None)


@pytest.mark.parametrize("version", [0, 2, 5])
def test_a_raw_producer_is_told_what_its_version_knows(cluster: LocalCluster, topic: str, version: int) -> None:
    """Timeouts over the maximum, ids that are not his, ends of nothing."""
    name = f"{topic}-x"
    with RawConnection(address_of(cluster, coordinator(cluster, name, 1))) as node:
        begin = {"transactional_id": name, "producer_id": -1, "producer_epoch": -1}
        if version < 3:
            begin = {"transactional_id": name}
        late = node.ask("init_producer_id", version, **begin, transaction_timeout_ms=900_001)
        assert late.error_code == ErrorCode.invalid_transaction_timeout
        mine = node.ask("init_producer_id", version, **begin, transaction_timeout_ms=60_000)
        assert (mine.error_code, mine.producer_epoch) == (ErrorCode.none, 0)
        who = {"transactional_id": name, "producer_id": mine.producer_id}
        stale = node.ask("end_txn", version, **who, producer_epoch=7, committed=True)
        fenced = ErrorCode.producer_fenced if version >= 2 else ErrorCode.invalid_producer_epoch
        assert stale.error_code == fenced
        nothing = node.ask("end_txn", version, **who, producer_epoch=0, committed=True)
        assert nothing.error_code == ErrorCode.invalid_txn_state


def address_of(cluster: LocalCluster, node_id: int) -> str:
    return next(node.kafka for node in cluster.nodes if node.node_id == node_id)
