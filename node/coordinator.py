"""What the coordinators of groups and of transactions have in common: one shard for each partition of their topic that we lead.

    FindCoordinator:  key -> partition of the topic -> its leader, once the topic is there
    all other APIs:   key -> partition -> LedShard.ask -> answer

Shards come and go with the leadership of their partitions. They are loaded one after the other, those first that are asked for.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from struct import unpack
from typing import Any, Generic, TypeVar

from quorumlog.host.ports import Clock
from quorumlog.metadata.image import NO_LEADER, Broker, Image
from quorumlog.metadata.records import Record, RemoveTopic
from quorumlog.metadata.requests import ConfigEntry, CreateTopics, CreateTopicsReply, NewTopic
from quorumlog.partitions.partition import Partition, Role
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .coordinator_shard import LedShard, State
from .group_coordinator_replies import Answer
from .replicas import Replicas
from .tasks import Tasks

logger = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 5.0

LedT = TypeVar("LedT", bound=LedShard[Any])


class Coordinator(ABC, Generic[LedT]):
    """Owned by the node; lives as long as it."""

    def __init__(
        self,
        topic: NewTopic,
        config: NodeConfig,
        cluster: ClusterView,
        replicas: Replicas,
        controller: ControllerClient,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._topic = topic
        self._config = config
        self._cluster = cluster
        self._replicas = replicas
        self._controller = controller
        self._clock = clock
        self._tasks = tasks
        self._led: dict[int, LedT] = {}
        self._to_load: dict[LedT, None] = {}
        self._loading: asyncio.Task[None] | None = None
        self._creation: asyncio.Task[None] | None = None
        replicas.coordinators.append(self)
        cluster.subscribe(self.on_image)

    def close(self) -> None:
        """The partitions are closed next: whoever waits is told to look elsewhere."""
        self._to_load.clear()
        for led in self._led.values():
            led.leave()
        self._led.clear()

    @abstractmethod
    def make_led(self, partition: Partition) -> LedT:
        """A shard of this coordinator's kind."""

    # --- asking

    def led_by_us(self, key: str) -> LedT:
        """The shard of a key. Raises NOT_COORDINATOR."""
        index = partition_of(key, self._cluster.image, self._topic.name)
        led = self._led.get(index) if index is not None else None
        if led is None:
            raise ClusterError(ErrorCode.not_coordinator, f"node {self._config.node_id} is not the coordinator of {key!r}")
        if led in self._to_load:  # somebody waits for it: it comes before the others
            self._to_load = {led: None} | self._to_load
        return led

    def served(self) -> list[LedT]:
        """All shards that this node leads and can read."""
        return [led for _, led in sorted(self._led.items()) if led.state is not State.BROKEN]

    # --- finding

    async def find(self, key: str) -> Broker:
        """The broker to ask about this key. Raises COORDINATOR_NOT_AVAILABLE."""
        if self._topic.name not in self._cluster.image.topics:
            await self._create_topic()
        image = self._cluster.image
        index = partition_of(key, image, self._topic.name)
        state = image.partition(self._topic.name, index) if index is not None else None
        if state is None or state.leader == NO_LEADER or not image.is_live(state.leader):
            raise ClusterError(ErrorCode.coordinator_not_available, f"{self._topic.name}-{index} has no leader")
        return image.brokers[state.leader]

    async def _create_topic(self) -> None:
        """Once for all who ask meanwhile."""
        if self._creation is None or self._creation.done():
            self._creation = self._tasks.spawn(self._request_topic(), f"create {self._topic.name}")
        await asyncio.wait({self._creation})

    async def _request_topic(self) -> None:
        try:
            reply = await self._controller.request(CreateTopics((self._topic,)), timeout_s=CREATE_TIMEOUT_S)
        except ClusterError as error:
            logger.warning("%s is not created yet: %s", self._topic.name, error)
            return
        assert isinstance(reply, CreateTopicsReply)
        created = reply.topics[0]
        if created.error_code not in (ErrorCode.none, ErrorCode.topic_already_exists):
            logger.warning("%s is not created yet: %s", self._topic.name, created.error_message)

    # --- what the node says

    def on_role_changed(self, partition: Partition) -> None:
        if partition.tp.topic != self._topic.name:
            return
        led = self._led.get(partition.tp.partition)
        if led is not None and led.partition is partition and partition.role is Role.LEADER and led.state is not State.BROKEN:
            return  # the same leader in another epoch: what it knows still holds
        if led is not None and (led.partition is partition or partition.role is Role.LEADER):
            del self._led[partition.tp.partition]
            self._to_load.pop(led, None)
            led.leave()
        if partition.role is Role.LEADER:
            led = self._led[partition.tp.partition] = self.make_led(partition)
            self.load_later(led)

    def on_high_watermark(self, partition: Partition) -> None:
        if partition.tp.topic == self._topic.name:
            led = self._led.get(partition.tp.partition)
            if led is not None and led.partition is partition:
                led.on_high_watermark()

    def on_image(self, old: Image, image: Image, records: tuple[Record, ...] | None) -> None:
        if self._led and (image.topics is not old.topics or image.topic_configs is not old.topic_configs):
            deleted = _deleted_topics(old, image, records)
            for _, led in sorted(self._led.items()):
                led.on_image(image, deleted)

    # --- loading

    def load_later(self, led: LedT) -> None:
        if led.state is State.LOADING:
            self._to_load[led] = None
            if self._loading is None:
                self._loading = self._tasks.spawn(self._load(), f"load {self._topic.name}")

    async def _load(self) -> None:
        try:
            while self._to_load:
                led = next(iter(self._to_load))
                del self._to_load[led]
                await led.load()
        finally:
            self._loading = None


def partition_of(key: str, image: Image, topic_name: str) -> int | None:
    """Of a coordinator's topic, as every client and tool of Kafka reckons it; None while there is no such topic."""
    topic = image.topics.get(topic_name)
    if topic is None:
        return None
    return abs(_java_hash(key)) % len(topic.partitions)


def internal_topic(name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> NewTopic:
    entries = tuple(ConfigEntry(key, value) for key, value in configs.items())
    return NewTopic(name, num_partitions=partitions, replication_factor=replication_factor, configs=entries)


def settled(error: ClusterError) -> Answer:
    """An answer that is there already."""
    answer: Answer = asyncio.get_running_loop().create_future()
    answer.set_result(error)
    return answer


def _java_hash(text: str) -> int:
    """String.hashCode of Java: over UTF-16 units, in 32 bits with sign. The least has no positive: 0, as in Kafka."""
    data = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for unit in unpack(f">{len(data) // 2}H", data):
        value = (31 * value + unit) & 0xFFFFFFFF
    signed = value - (value >> 31 << 32)
    return 0 if signed == -(1 << 31) else signed


def _deleted_topics(old: Image, image: Image, records: Iterable[Record] | None) -> list[str]:
    if image.topic_names is old.topic_names:
        return []
    if records is None:
        return sorted(name for topic_id, name in old.topic_names.items() if topic_id not in image.topic_names)
    removed = [old.topic_names.get(record.topic_id) for record in records if isinstance(record, RemoveTopic)]
    return [name for name in removed if name is not None]
