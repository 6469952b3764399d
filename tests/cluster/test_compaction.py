"""A node that dies while its compacting process works: the process goes with it, and the next node finds the log as it was."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # not exported

from quorumlog.cli.configs import alter_settings
from quorumlog.testing import LocalCluster
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC, RECORDS, KEYS = "prices", 6_000, 50
RATE = "log.cleaner.io.max.bytes.per.second"


def test_kill_9_in_the_middle_of_a_compaction_costs_nothing(tmp_path: Path) -> None:
    """Held back to a crawl it is caught at work; let go after the restart it does what it should."""
    settings = {"segment_bytes": 65_536, "log_cleaner_backoff_ms": 100}
    with LocalCluster(nodes=1, directory=tmp_path / "cluster", settings=settings) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 2})
        alter_settings(admin, ConfigResource(ResourceType.BROKER, "1"), ((RATE, "30000"),), ())
        policy = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "min.insync.replicas": "1"}
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=1, replicas=1, config=policy)
        last = _fill(cluster.bootstrap_servers)
        data = cluster.nodes[0].data_dir
        _eventually(lambda: bool(list(data.glob("logs/*/*.cleaned"))))
        (child,) = psutil.Process(cluster.pid(1)).children()
        cluster.kill(1)
        _eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        cluster.start(1)
        alter_settings(admin, ConfigResource(ResourceType.BROKER, "1"), ((RATE, "1e12"),), ())
        _eventually(lambda: f"{TOPIC}-0: compacted up to" in cluster.log(1))
        found, count = _read(cluster.bootstrap_servers)
        assert found == last
        assert count < RECORDS / 2
        assert not list(data.glob("logs/*/*.cleaned"))


def _fill(bootstrap: str) -> dict[bytes, bytes]:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 2, "batch.size": 4096})
    last = {}
    for number in range(RECORDS):
        key, value = b"key-%d" % (number % KEYS), b"%0100d" % number
        producer.produce(TOPIC, value, key, partition=0)
        last[key] = value
    assert producer.flush(30) == 0
    return last


def _read(bootstrap: str) -> tuple[dict[bytes, bytes], int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 2})
    place = TopicPartition(TOPIC, 0, OFFSET_BEGINNING)
    consumer.assign([place])
    found: dict[bytes, bytes] = {}
    count, offset = 0, -1
    while offset < RECORDS - 1:
        for message in consumer.consume(1_000, 1.0):
            assert message.error() is None
            found[message.key()] = message.value()
            count, offset = count + 1, message.offset()
    consumer.close()
    return found, count


def _eventually(is_so: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
