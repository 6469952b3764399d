"""What Metadata tells of topics and of what a client may do, and with what settings it creates a topic that is asked for."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.metadata.image import NO_LEADER, Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.metadata.requests import NewTopic
from quorumlog.node.config import NodeConfig
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.metadata import handle_metadata
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID
from tests.node.virtual import run

TOPIC_OPERATIONS, CLUSTER_OPERATIONS, NOT_ASKED = 0b1101_1111_1000, 0b1_1111_1010_0000, -(2**31)
CONFIG = NodeConfig(node_id=1, cluster_id="c", data_dir="/nowhere", voters="1@localhost:1", offsets_topic_num_partitions=7)


def a_broker(node_id: int, *, fenced: bool) -> Broker:
    endpoint, nobody = Endpoint("localhost", 9000 + node_id), UUID(int=node_id)
    return Broker(node_id, 1, nobody, nobody, endpoint, endpoint, rack=None, fenced=fenced, in_shutdown=False)


def an_image(*names: str, leader: int = 1) -> Image:
    """Node 2 is away."""
    topics = {}
    for number, name in enumerate(names):
        topic_id = UUID(int=100 + number)
        state = PartitionState(topic_id, 0, (1, 2), (1,), (), leader, leader_epoch=3, partition_epoch=4)
        topics[name] = Topic(name, topic_id, Map({0: state}))
    brokers = Map({1: a_broker(1, fenced=False), 2: a_broker(2, fenced=True)})
    return Image("c", brokers=brokers, topics=Map(topics), topic_names=Map({t.topic_id: t.name for t in topics.values()}))


class Stage:
    """A node that notes which topics are created."""

    def __init__(self, image: Image) -> None:
        self.asked: list[NewTopic] = []
        cluster = SimpleNamespace(leader=2)
        first_uses = SimpleNamespace(create=self._create)
        suspects = SimpleNamespace(any=False, news=self._no_news)
        self.services: Any = SimpleNamespace(
            image=image, cluster=cluster, first_uses=first_uses, suspects=suspects, config=CONFIG
        )

    async def _no_news(self) -> None:
        """Nobody is suspected."""

    def _create(self, topics: Iterable[NewTopic]) -> None:
        self.asked.extend(topics)

    def ask(self, version: int, *names: str, topic: bool = False, cluster: bool = False) -> dict[str, Any]:
        topics = [SimpleNamespace(name=name, topic_id=NO_TOPIC_ID) for name in names] or None
        message = SimpleNamespace(
            topics=topics,
            allow_auto_topic_creation=True,
            include_topic_authorized_operations=topic,
            include_cluster_authorized_operations=cluster,
        )
        answers: list[dict[str, Any]] = []

        async def main() -> None:
            answer = handle_metadata(self.services, Call(version, message, None, ""))
            answers.append(answer if isinstance(answer, dict) else await answer)

        run(main())
        return answers[0]


@pytest.mark.parametrize(
    ("version", "topic", "cluster"), [(7, False, False), (8, True, True), (10, True, True), (12, True, False)]
)
def test_operations_are_told_to_who_asks(version: int, topic: bool, cluster: bool) -> None:
    """All that Kafka knows, for nothing is forbidden here; what a version cannot ask for is left at the default."""
    answer = Stage(an_image("t")).ask(version, topic=True, cluster=True)
    told = answer["topics"][0].get("topic_authorized_operations", NOT_ASKED), answer["cluster_authorized_operations"]
    assert told == (TOPIC_OPERATIONS if topic else NOT_ASKED, CLUSTER_OPERATIONS if cluster else NOT_ASKED)
    answer = Stage(an_image("t")).ask(version)
    assert "topic_authorized_operations" not in answer["topics"][0]
    assert answer["cluster_authorized_operations"] == NOT_ASKED


def test_a_topic_and_its_partitions() -> None:
    """Brokers that are away are offline replicas, and no brokers to go to; one without a leader says so."""
    answer = Stage(an_image("__consumer_offsets", "__mine", leader=NO_LEADER)).ask(12)
    assert [(topic["name"], topic["is_internal"]) for topic in answer["topics"]] == [
        ("__consumer_offsets", True),
        ("__mine", False),
    ]
    partition = answer["topics"][0]["partitions"][0]
    assert (partition["error_code"], partition["leader_id"]) == (ErrorCode.leader_not_available, NO_LEADER)
    assert (partition["isr_nodes"], partition["offline_replicas"]) == ((1,), [2])
    assert [broker["node_id"] for broker in answer["brokers"]] == [1]
    assert answer["controller_id"] == 1, "the quorum's leader is away: any broker passes requests on"


def test_topics_are_created_on_first_use() -> None:
    """With the defaults of the cluster; the coordinators' topic as they need it; none by a name that is not allowed. Kafka 4.3.1
    calls them unknown in this answer yet, and kafka-go's tests ask in this way whether a topic is gone."""
    stage = Stage(an_image("t"))
    answer = stage.ask(12, "t", "orders", "__consumer_offsets", "a/b")
    assert [one["error_code"] for one in answer["topics"]] == [
        ErrorCode.none,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.invalid_topic_exception,
    ]
    orders, offsets = stage.asked
    assert (orders.name, orders.num_partitions, orders.configs) == ("orders", -1, ())
    assert (offsets.name, offsets.num_partitions) == ("__consumer_offsets", 7)
    assert ("cleanup.policy", "compact") in [(entry.key, entry.value) for entry in offsets.configs]
    stage.services.image = an_image("t", "orders")
    (orders_now,) = stage.ask(12, "orders")["topics"]
    assert (orders_now["error_code"], len(orders_now["partitions"]), len(stage.asked)) == (ErrorCode.none, 1, 2)
