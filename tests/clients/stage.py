"""What a scenario has: the client, the cluster, and names of its own."""

import itertools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import confluent_kafka
from confluent_kafka.admin import NewTopic

from tests.clients.driver import Client, Member
from tests.clients.peers import Peer
from tests.cluster.libraries import Confluent, Refused
from tests.cluster.raw import RawConnection

T = TypeVar("T")
WAIT_S = 90.0  # generous: a machine may be busy, and who passes does not wait


def eventually(condition: Callable[[], T], what: str, timeout_s: float = WAIT_S) -> T:
    """The first true answer. AssertionError with the last answer if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)


class Stage:
    """One scenario of one client. Its members leave with it."""

    _numbers = itertools.count(1)

    def __init__(self, client: Client, peer: Peer, start_another: Callable[[], Client]) -> None:
        self.client = client
        self.peer = peer
        self.start_another = start_another
        self._prefix = f"{client.name}-{next(self._numbers)}"
        self._members: list[str] = []
        self._groups = itertools.count(1)

    def topic(self, partitions: int = 1, name: str = "t", **configs: str) -> str:
        """A new topic with three replicas, there for all nodes; underscores in configs are dots."""
        topic = f"{self._prefix}-{name}"
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        try:
            self.peer.admin.create_topics([NewTopic(topic, partitions, 3, config=settings)])[topic].result(30)
        except confluent_kafka.KafkaException as error:
            # The name is nobody else's: librdkafka has asked again after an answer that it missed.
            if error.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        self.known_everywhere(topic, partitions)
        return topic

    def known_everywhere(self, topic: str, partitions: int) -> None:
        """Wait until every node knows leaders of so many partitions: a client may ask any."""
        for address in self.peer.bootstrap_servers.split(","):
            eventually(lambda: _led(address, topic) == partitions, f"{address} knows the leaders of {topic}")  # noqa: B023

    def name(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def leaders(self, topic: str) -> dict[int, int]:
        """Partition -> leader, of those that have one."""
        found = self.peer.admin.list_topics(topic, timeout=30).topics[topic].partitions
        return {partition: place.leader for partition, place in found.items() if place.leader > 0}

    def join(self, member: str, group: str, topic: str, **how: Any) -> Member:
        name = self.name(member)
        joined = self.client.join(name, group, [topic], **how)
        self._members.append(name)
        return joined

    def leave(self, member: Member) -> None:
        self._members.remove(member.name)
        self.client.call("leave", member=member.name)

    def clear(self) -> None:
        """All members leave."""
        while self._members:
            self.client.call("leave", member=self._members.pop())

    def reference(self) -> Confluent:
        """Another client, to look at what this one did."""
        return Confluent(self.peer.bootstrap_servers)

    def group_ends(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Partition -> committed offset and metadata, as another client sees them."""
        asked = [confluent_kafka.ConsumerGroupTopicPartitions(group)]
        found = self.peer.admin.list_consumer_group_offsets(asked)[group].result(30).topic_partitions
        return {place.partition: (place.offset, place.metadata or "") for place in found if place.topic == topic}

    def group_on(self, node_id: int) -> str:
        """A group whose coordinator is this node."""
        eventually(lambda: self._leads(node_id, "__consumer_offsets"), f"node {node_id} leads a partition of __consumer_offsets")
        leaders = self.leaders("__consumer_offsets")
        names = (self.name(f"group-{number}") for number in itertools.count())
        return next(name for name in names if leaders[java_hash(name) % len(leaders)] == node_id)

    def _leads(self, node_id: int, topic: str) -> bool:
        """A busy node may have lost what it led for a moment: let it have it back."""
        self.peer.admin.elect_leaders(confluent_kafka.ElectionType.PREFERRED, None).result(30)
        return node_id in self.leaders(topic).values()


def _led(address: str, topic: str) -> int:
    """How many partitions of a topic have a leader, as this node knows."""
    with RawConnection(address) as node:
        (found,) = node.ask("metadata", 8, topics=[{"name": topic}], allow_auto_topic_creation=False).topics
    return sum(place.leader_id > 0 for place in found.partitions)


def java_hash(text: str) -> int:
    """The absolute value of Java's String.hashCode, as Kafka takes it: it chooses the partition of a group."""
    found = 0
    for letter in text:
        found = (31 * found + ord(letter)) & 0xFFFFFFFF
    signed = found - (1 << 32) if found >> 31 else found
    return 0 if signed == -(1 << 31) else abs(signed)


def refused(code: int, action: Callable[[], Any]) -> None:
    """AssertionError unless the client is told this code."""
    try:
        found = action()
    except Refused as error:
        assert error.code == code, f"code {error.code} where Kafka says {code}: {error}"
    else:
        raise AssertionError(f"taken ({found!r}) where Kafka says {code}")
