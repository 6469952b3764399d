"""The coordinator of groups on this node: one shard for each partition of `__consumer_offsets` that it leads.

    FindCoordinator:  group id -> partition -> its leader, once the topic is there
    all other APIs:   group id -> partition -> LedShard.ask -> answer

Shards come and go with the leadership of their partitions. They are loaded one after the other, those first that are asked for.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from struct import unpack
from uuid import UUID

from quorumlog.host.ports import Clock
from quorumlog.metadata.group_config import GroupConfig, effective_group_config
from quorumlog.metadata.image import NO_LEADER, Broker, Image
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.metadata.records import Record, RemoveTopic
from quorumlog.metadata.requests import ConfigEntry, CreateTopics, CreateTopicsReply, NewTopic
from quorumlog.partitions.partition import Partition, Role
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .group_coordinator_replies import Answer, Outcome
from .group_coordinator_shard import LedShard, Operation, State
from .replicas import Replicas
from .tasks import Tasks

logger = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 5.0
READ_WAIT_MAX_S, READ_PAUSE_S = 5.0, 0.02


class GroupCoordinator:
    """Owned by the node; lives as long as it."""

    def __init__(
        self,
        config: NodeConfig,
        cluster: ClusterView,
        replicas: Replicas,
        controller: ControllerClient,
        clock: Clock,
        tasks: Tasks,
        *,
        new_uuid: Callable[[], UUID],
        is_fresh: Callable[[], bool],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._replicas = replicas
        self._controller = controller
        self._clock = clock
        self._tasks = tasks
        self._new_uuid = new_uuid
        self._is_fresh = is_fresh
        self._led: dict[int, LedShard] = {}
        self._to_load: dict[LedShard, None] = {}
        self._loading: asyncio.Task[None] | None = None
        self._creation: asyncio.Task[None] | None = None
        replicas.coordinators = self
        cluster.subscribe(self.on_image)

    def close(self) -> None:
        """The partitions are closed next: whoever waits is told to look elsewhere."""
        self._to_load.clear()
        for led in self._led.values():
            led.leave()
        self._led.clear()

    # --- asking

    def ask(self, group_id: str, operation: Operation, *, logs: bool = True) -> Answer:
        """What a group's shard decides now, once that is committed. The outcome is a ClusterError where it is refused, also for
        the reason that this node is not the group's coordinator. `logs` is False for what surely changes nothing.
        """
        try:
            return self._led_by_us(group_id).ask(operation, logs=logs)
        except ClusterError as error:
            return _settled(error)

    def read_offsets(self, group_id: str, operation: Operation) -> Answer:
        """As `ask`, of what must not be old: with nothing to commit, nobody else would stop a deposed leader from answering.

        Where that is in doubt, and while the shard is being loaded, the asker waits a while: librdkafka asks once, and after
        a refusal it reads nothing ever (its issue 5586).
        """
        if self._may_read(group_id):
            return self.ask(group_id, operation, logs=False)
        return asyncio.get_running_loop().create_task(self._read_later(group_id, operation), name=f"offsets of {group_id}")

    async def _read_later(self, group_id: str, operation: Operation) -> Outcome:
        deadline = self._clock.now() + READ_WAIT_MAX_S
        while not self._may_read(group_id) and self._clock.now() < deadline:  # noqa: ASYNC110 - two things, rarely waited for
            await asyncio.sleep(READ_PAUSE_S)
        if self._may_read(group_id) or self._is_fresh():
            return await self.ask(group_id, operation, logs=False)
        return ClusterError(ErrorCode.not_coordinator, f"node {self._config.node_id} has lost touch with the controller")

    def _may_read(self, group_id: str) -> bool:
        try:
            led = self._led_by_us(group_id)
        except ClusterError:
            return True  # or rather not, and `ask` says why
        return self._is_fresh() and led.state is not State.LOADING

    def ask_all(self, operation: Operation) -> list[Answer]:
        """All shards that this node leads. Raises COORDINATOR_LOAD_IN_PROGRESS if one is not loaded yet."""
        served = [led for _, led in sorted(self._led.items()) if led.state is not State.BROKEN]
        return [led.ask(operation, logs=False) for led in served]

    def _led_by_us(self, group_id: str) -> LedShard:
        index = partition_of(group_id, self._cluster.image)
        led = self._led.get(index) if index is not None else None
        if led is None:
            raise ClusterError(
                ErrorCode.not_coordinator, f"node {self._config.node_id} is not the coordinator of group {group_id!r}"
            )
        if led in self._to_load:  # somebody waits for it: it comes before the others
            self._to_load = {led: None} | self._to_load
        return led

    def _not_coordinator(self, reason: str) -> ClusterError:
        return ClusterError(ErrorCode.not_coordinator, f"node {self._config.node_id} {reason}")

    # --- finding

    async def find(self, group_id: str) -> Broker:
        """The broker to ask about this group. Raises COORDINATOR_NOT_AVAILABLE."""
        if OFFSETS_TOPIC not in self._cluster.image.topics:
            await self._create_topic()
        image = self._cluster.image
        index = partition_of(group_id, image)
        state = image.partition(OFFSETS_TOPIC, index) if index is not None else None
        if state is None or state.leader == NO_LEADER or not image.is_live(state.leader):
            raise ClusterError(ErrorCode.coordinator_not_available, f"{OFFSETS_TOPIC}-{index} has no leader")
        return image.brokers[state.leader]

    async def _create_topic(self) -> None:
        """Once for all who ask meanwhile."""
        if self._creation is None or self._creation.done():
            self._creation = self._tasks.spawn(self._request_topic(), f"create {OFFSETS_TOPIC}")
        await asyncio.wait({self._creation})

    async def _request_topic(self) -> None:
        try:
            request = CreateTopics((new_offsets_topic(self._config),))
            reply = await self._controller.request(request, timeout_s=CREATE_TIMEOUT_S)
        except ClusterError as error:
            logger.warning("%s is not created yet: %s", OFFSETS_TOPIC, error)
            return
        assert isinstance(reply, CreateTopicsReply)
        created = reply.topics[0]
        if created.error_code not in (ErrorCode.none, ErrorCode.topic_already_exists):
            logger.warning("%s is not created yet: %s", OFFSETS_TOPIC, created.error_message)

    # --- what the node says

    def on_role_changed(self, partition: Partition) -> None:
        if partition.tp.topic != OFFSETS_TOPIC:
            return
        led = self._led.get(partition.tp.partition)
        if led is not None and led.partition is partition and partition.role is Role.LEADER and led.state is not State.BROKEN:
            return  # the same leader in another epoch: what it knows still holds
        if led is not None and (led.partition is partition or partition.role is Role.LEADER):
            del self._led[partition.tp.partition]
            self._to_load.pop(led, None)
            led.leave()
        if partition.role is Role.LEADER:
            self._lead(partition)

    def on_high_watermark(self, partition: Partition) -> None:
        if partition.tp.topic == OFFSETS_TOPIC:
            led = self._led.get(partition.tp.partition)
            if led is not None and led.partition is partition:
                led.on_high_watermark()

    def on_image(self, old: Image, image: Image, records: tuple[Record, ...] | None) -> None:
        if self._led and (image.topics is not old.topics or image.topic_configs is not old.topic_configs):
            deleted = _deleted_topics(old, image, records)
            for _, led in sorted(self._led.items()):
                led.on_image(image, deleted)

    # --- loading

    def _lead(self, partition: Partition) -> None:
        led = LedShard(
            partition,
            self._replicas,
            self._clock,
            image=lambda: self._cluster.image,
            config_of=self._config_of,
            new_uuid=self._new_uuid,
            load_later=self._load_later,
        )
        self._led[partition.tp.partition] = led
        self._load_later(led)

    def _config_of(self, group_id: str) -> GroupConfig:
        return effective_group_config(self._cluster.image, group_id, self._config.broker_defaults, self._config.node_id)

    def _load_later(self, led: LedShard) -> None:
        if led.state is State.LOADING:
            self._to_load[led] = None
            if self._loading is None:
                self._loading = self._tasks.spawn(self._load(), "load groups")

    async def _load(self) -> None:
        try:
            while self._to_load:
                led = next(iter(self._to_load))
                del self._to_load[led]
                await led.load()
        finally:
            self._loading = None


def partition_of(group_id: str, image: Image) -> int | None:
    """Of the offsets topic, as every client and tool of Kafka reckons it; None while there is no such topic."""
    topic = image.topics.get(OFFSETS_TOPIC)
    if topic is None:
        return None
    return abs(_java_hash(group_id)) % len(topic.partitions)


def _java_hash(text: str) -> int:
    """String.hashCode of Java: over UTF-16 units, in 32 bits with sign. The least has no positive: 0, as in Kafka."""
    data = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for unit in unpack(f">{len(data) // 2}H", data):
        value = (31 * value + unit) & 0xFFFFFFFF
    signed = value - (value >> 31 << 32)
    return 0 if signed == -(1 << 31) else signed


def new_offsets_topic(config: NodeConfig) -> NewTopic:
    configs = {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": str(config.offsets_topic_segment_bytes),
    }
    return NewTopic(
        OFFSETS_TOPIC,
        num_partitions=config.offsets_topic_num_partitions,
        replication_factor=config.offsets_replication_factor,
        configs=tuple(ConfigEntry(name, value) for name, value in configs.items()),
    )


def _deleted_topics(old: Image, image: Image, records: Iterable[Record] | None) -> list[str]:
    if image.topic_names is old.topic_names:
        return []
    if records is None:
        return sorted(name for topic_id, name in old.topic_names.items() if topic_id not in image.topic_names)
    removed = [old.topic_names.get(record.topic_id) for record in records if isinstance(record, RemoveTopic)]
    return [name for name in removed if name is not None]


def _settled(error: ClusterError) -> Answer:
    answer: Answer = asyncio.get_running_loop().create_future()
    answer.set_result(error)
    return answer
