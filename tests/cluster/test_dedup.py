"""Events that come again: a producer is replaced by another that sends its events once more, leaders die in between; three client
libraries read each event once, over what the dropped ones left.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import leaders_of, wait_in_sync
from tests.cluster.libraries import BEGINNING, LIBRARIES, Message
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "orders"
CONFIG = {"quorumlog.dedup.window.ms": "3600000", "min.insync.replicas": "2"}


def test_an_event_is_there_once_whoever_sends_it_again(tmp_path: Path) -> None:
    with LocalCluster(nodes=3, directory=tmp_path / "cluster") as cluster:
        bootstrap = cluster.bootstrap_servers
        create_topic(bootstrap, TOPIC, partitions=1, replicas=3, config=CONFIG)
        offsets = send(bootstrap, range(500))
        replace_leader(cluster)
        send(bootstrap, range(200, 700))
        send(bootstrap, range(100), compression="zstd")
        victim = leaders_of(bootstrap, TOPIC)[0]
        cluster.kill(victim)
        send(bootstrap, range(600, 1000), idempotent=False)
        cluster.start(victim)
        wait_in_sync(bootstrap, TOPIC)
        assert send(bootstrap, [77]) == {77: offsets[77]}, "alone in its batch: the answer is the first one's offset"
        send(bootstrap, range(900, 950))  # leaves an empty batch, behind which readers find what comes next
        send(bootstrap, [1000])
        for name, library in LIBRARIES.items():
            found = library(bootstrap).consume(TOPIC, BEGINNING, 1001)
            assert sorted(event_of(message) for _, message in found) == list(range(1001)), name
            assert dict(found)[offsets[77]].value == b"event 77", name


def send(bootstrap: str, events: Iterable[int], *, idempotent: bool = True, compression: str = "none") -> dict[int, int]:
    """By a producer that is there for that alone; the offset that each event was acknowledged with."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": idempotent,
            "acks": "all",
            "linger.ms": 5,
            "batch.num.messages": 40,
            "compression.type": compression,
            "log_level": 2,
        }
    )
    offsets: dict[int, int] = {}

    def told(event: int) -> object:
        def on_delivery(error: object, message: object) -> None:
            assert error is None, error
            offsets[event] = message.offset()  # type: ignore[attr-defined]

        return on_delivery

    wanted = list(events)
    for event in wanted:
        headers = [("event-id", b"%d" % event)]
        producer.produce(TOPIC, b"event %d" % event, b"key", partition=0, headers=headers, on_delivery=told(event))
    assert producer.flush(60) == 0
    assert sorted(offsets) == sorted(wanted)
    return offsets


def replace_leader(cluster: LocalCluster) -> None:
    victim = leaders_of(cluster.bootstrap_servers, TOPIC)[0]
    cluster.kill(victim)
    deadline = time.monotonic() + 30
    while leaders_of(cluster.bootstrap_servers, TOPIC)[0] in (victim, -1):
        assert time.monotonic() < deadline, "no other leader"
        time.sleep(0.05)
    cluster.start(victim)
    wait_in_sync(cluster.bootstrap_servers, TOPIC)


def event_of(message: Message) -> int:
    return int(dict(message.headers)["event-id"])
