"""A leader stands still (SIGSTOP), another one is elected, the old one wakes up: it acknowledges and serves nothing of its own.

Clients are connected to the old leader all the time, as raw sockets: no client library redirects them, and what they sent while
it stood still waits in its receive buffers for the moment of its waking.
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cluster.leaders import active_controller, leaders_of, wait_in_sync
from tests.cluster.raw import (
    ALL,
    LEADER,
    RawConnection,
    address_of,
    batch,
    create,
    fetch_body,
    other_than,
    produce,
    produce_body,
    values_of,
)
from tests.cluster.segments import wait_equal

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "stand-still"
PARTITIONS = 3
ROUNDS = 2
SETTINGS = {"session_timeout_ms": 1_000, "heartbeat_interval_ms": 200, "leader_rebalance_interval_s": 1}
SENT_ASLEEP = 200
"""Requests that each client sends while the node stands still."""

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(slots=True)
class Testimony:
    """What the old leader said, and whether it was before or after its sleep."""

    acknowledged_before: dict[Place, bytes] = field(default_factory=dict)
    acknowledged_after: dict[Place, bytes] = field(default_factory=dict)
    refused_after: int = 0
    served: dict[Place, bytes] = field(default_factory=dict)


class PinnedProducer:
    """Produces to partitions of one node without ever asking who leads them: a thread that sends, one that listens."""

    def __init__(self, address: str, partitions: list[int], acks: int, testimony: Testimony, name: str) -> None:
        self._node = RawConnection(address, timeout_s=30)
        self._partitions = itertools.cycle(partitions)
        self._acks = acks
        self._testimony = testimony
        self._name = name
        self._unanswered: list[tuple[int, bytes]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send_all, daemon=True), threading.Thread(target=self._listen, daemon=True)]
        self.asleep = threading.Event()
        self.awake = threading.Event()
        self.sent_asleep = 0
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        self._threads[0].join(10)
        with contextlib.suppress(OSError):
            self._node.socket.shutdown(socket.SHUT_RDWR)
        self._threads[1].join(10)
        self._node.close()

    def _send_all(self) -> None:
        for number in itertools.count():
            if self._stop.is_set() or self.sent_asleep >= SENT_ASLEEP:
                return
            state = "asleep" if self.asleep.is_set() else "before"
            partition, value = next(self._partitions), f"{self._name} {state} {number}".encode()
            body = produce_body(TOPIC, batch(value), partition=partition, acks=self._acks)
            try:
                self._node.send("produce", 9, **body)
            except OSError:
                return
            self._unanswered.append((partition, value))  # only now may the listener expect an answer
            self.sent_asleep += state == "asleep"
            time.sleep(0.0005)

    def _listen(self) -> None:
        while True:
            if not self._unanswered:
                if self._stop.is_set():
                    return
                time.sleep(0.001)
                continue
            try:
                answer = self._node.receive().responses[0].partition_responses[0]
            except OSError:
                return
            self._note(*self._unanswered.pop(0), answer.error_code, answer.base_offset)

    def _note(self, partition: int, value: bytes, error_code: int, offset: int) -> None:
        testimony = self._testimony
        if error_code == ErrorCode.none:
            noted = testimony.acknowledged_after if self.awake.is_set() else testimony.acknowledged_before
            noted[partition, offset] = value
        elif self.awake.is_set():
            testimony.refused_after += 1


class PinnedReader:
    """Fetches from one node all the time, from the beginning on, whoever leads."""

    def __init__(self, address: str, partitions: list[int], testimony: Testimony) -> None:
        self._node = RawConnection(address, timeout_s=30)
        self._testimony = testimony
        self._stop = threading.Event()
        self._offsets = dict.fromkeys(partitions, 0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._node.close()

    def _run(self) -> None:
        for partition in itertools.cycle(self._offsets):
            if self._stop.is_set():
                return
            body = fetch_body(TOPIC, self._offsets[partition], partition=partition, max_wait_ms=5)
            try:
                answer = self._node.ask("fetch", 12, **body).responses[0].partitions[0]
            except OSError:
                return
            for offset, value in values_of(answer.records):
                if offset >= self._offsets[partition]:
                    self._testimony.served[partition, offset] = value or b""
                    self._offsets[partition] = offset + 1


@contextlib.contextmanager
def pinned(address: str, partitions: list[int], testimony: Testimony, name: str) -> Iterator[list[PinnedProducer]]:
    """Two producers of each kind and a reader, all connected to one node."""
    producers = [
        PinnedProducer(address, partitions, acks, testimony, f"{name} acks={acks} {number}")
        for acks in (ALL, LEADER)
        for number in range(2)
    ]
    reader = PinnedReader(address, partitions, testimony)
    try:
        yield producers
    finally:
        for client in (*producers, reader):
            client.end()


@pytest.mark.parametrize("victim_is", ["controller", "leader"])
def test_a_leader_that_stood_still_says_nothing_of_its_own(victim_is: str) -> None:
    """What a woken leader acknowledges (acks=all and acks=1) and serves is in the log of the new leader; the rest is cut."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        create(cluster, TOPIC, partitions=PARTITIONS)
        cut = 0
        for number in range(ROUNDS):
            wait_spread(cluster)
            controller = active_controller(cluster)
            victim = controller if victim_is == "controller" else other_than(cluster, controller)
            testimony = Testimony()
            led = [partition for partition, leader in leaders_of(cluster.bootstrap_servers, TOPIC).items() if leader == victim]
            stand_still(cluster, victim, led, testimony, f"round {number}")
            wait_in_sync(cluster.bootstrap_servers, TOPIC)
            logs = wait_equal(cluster, TOPIC, range(PARTITIONS))
            kept = {(partition, offset): value for partition in led for offset, value in values_of(logs[partition])}
            judge(testimony, kept)
            cut += cluster.log(victim).count("log cut to offset")
        assert cut > 0, "no round left the old leader anything of its own: the test proves nothing"


def stand_still(cluster: LocalCluster, victim: int, led: list[int], testimony: Testimony, name: str) -> None:
    """The whole story: production, sleep, another leader with records of its own, waking, a while of listening."""
    with pinned(address_of(cluster, victim), led, testimony, name) as producers:
        time.sleep(0.3)
        cluster.pause(victim)
        for producer in producers:
            producer.asleep.set()
        for partition in led:
            produce_elsewhere(cluster, victim, partition)
        wait_until(lambda: all(producer.sent_asleep >= SENT_ASLEEP for producer in producers))
        for producer in producers:
            producer.awake.set()
        cluster.resume(victim)
        time.sleep(1.0)
    assert testimony.acknowledged_before
    assert testimony.refused_after > SENT_ASLEEP


def judge(testimony: Testimony, kept: dict[Place, bytes]) -> None:
    """Nothing was decided after the sleep, or served at any time, that is not in the log that all agree on.

    An answer with acks=1 to what was sent before the sleep may have been on its way already; it promised one disk, no more.
    """
    after = {place: value for place, value in testimony.acknowledged_after.items() if b"acks=-1" in value or b"asleep" in value}
    alone = {place: value for place, value in after.items() if kept.get(place) != value}
    assert not alone, f"acknowledged after waking, and not there: {dict(list(alone.items())[:5])} and {len(alone)} in all"
    wrong = {place: value for place, value in testimony.served.items() if kept.get(place) != value}
    assert not wrong, f"served, and not committed: {dict(list(wrong.items())[:5])} and {len(wrong)} in all"
    lost = {place: value for place, value in testimony.acknowledged_before.items() if kept.get(place) != value}
    assert all(b"acks=1" in value for value in lost.values()), f"acks=all was acknowledged and is gone: {lost}"


def produce_elsewhere(cluster: LocalCluster, victim: int, partition: int) -> None:
    """Give the partition a record by its new leader, as soon as there is one."""
    witness = next(node for node in cluster.nodes if node.node_id != victim)

    def is_taken() -> bool:
        leader = leaders_of(witness.kafka, TOPIC)[partition]
        if leader in (victim, -1):
            return False
        with RawConnection(address_of(cluster, leader)) as node:
            return bool(produce(node, TOPIC, batch(b"by the new leader"), partition=partition).error_code == ErrorCode.none)

    wait_until(is_taken)


def wait_spread(cluster: LocalCluster) -> None:
    """Each node leads something, and everyone is in sync."""
    wait_in_sync(cluster.bootstrap_servers, TOPIC)
    wait_until(lambda: len(set(leaders_of(cluster.bootstrap_servers, TOPIC).values())) == 3)


def wait_until(holds: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)
