"""The coordinator of groups on this node: one shard for each partition of `__consumer_offsets` that it leads."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from quorumlog.coordinators.results import Result, Waiter, Writer
from quorumlog.coordinators.shard import GroupShard
from quorumlog.host.ports import Clock
from quorumlog.metadata.group_config import GroupConfig, effective_group_config
from quorumlog.metadata.image import Image
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.metadata.requests import NewTopic
from quorumlog.partitions.partition import Partition
from quorumlog.wire.errors import ClusterError, ErrorCode

from . import coordinator
from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .coordinator import Coordinator, internal_topic, settled
from .group_coordinator_replies import Answer, Outcome
from .group_coordinator_shard import LedShard, Operation, State
from .replicas import Replicas
from .tasks import Tasks

READ_WAIT_MAX_S, READ_PAUSE_S = 5.0, 0.02


class GroupCoordinator(Coordinator[LedShard]):
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
        super().__init__(new_offsets_topic(config), config, cluster, replicas, controller, clock, tasks)
        self._new_uuid = new_uuid
        self._is_fresh = is_fresh

    def make_led(self, partition: Partition) -> LedShard:
        return LedShard(
            partition,
            self._replicas,
            self._clock,
            image=lambda: self._cluster.image,
            config_of=self._config_of,
            new_uuid=self._new_uuid,
            load_later=self.load_later,
        )

    def _config_of(self, group_id: str) -> GroupConfig:
        return effective_group_config(self._cluster.image, group_id, self._config.broker_defaults, self._config.node_id)

    # --- asking

    def ask(self, group_id: str, operation: Operation, *, logs: bool = True) -> Answer:
        """What a group's shard decides now, once that is committed. The outcome is a ClusterError where it is refused, also for
        the reason that this node is not the group's coordinator. `logs` is False for what surely changes nothing.
        """
        try:
            return self.led_by_us(group_id).ask(operation, logs=logs)
        except ClusterError as error:
            return settled(error)

    def ask_in_transaction(self, group_id: str, writer: Writer, operation: Operation) -> Answer:
        """As `ask`, of what is logged in a producer's transaction."""

        def checked(shard: GroupShard, waiter: Waiter) -> Result:
            led.partition.check_writer(writer.producer_id, writer.producer_epoch, writer.guard)
            return operation(shard, waiter)

        try:
            led = self.led_by_us(group_id)
            return led.ask(checked)
        except ClusterError as error:
            return settled(error)

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
            led = self.led_by_us(group_id)
        except ClusterError:
            return True  # or rather not, and `ask` says why
        return self._is_fresh() and led.state is not State.LOADING

    def ask_all(self, operation: Operation) -> list[Answer]:
        """All shards that this node leads. Raises COORDINATOR_LOAD_IN_PROGRESS if one is not loaded yet."""
        return [led.ask(operation, logs=False) for led in self.served()]

    # --- transactions

    def partition_of(self, group_id: str) -> int | None:
        """Where the group's offsets are; None while there is no topic for them."""
        return partition_of(group_id, self._cluster.image)

    def end_transaction(
        self, partition: Partition, append: Callable[[Partition], bool], producer_id: int, *, is_commit: bool
    ) -> None:
        """Have a marker appended to one of our partitions, and the groups in it told. Raises NOT_LEADER_OR_FOLLOWER where that
        cannot be done yet, besides what `append` raises.
        """
        led = self._led.get(partition.tp.partition)
        if led is None or led.partition is not partition or led.state is not State.SERVING:
            raise ClusterError(ErrorCode.not_leader_or_follower, f"{partition.tp} is not served by its coordinator")
        led.end_transaction(append, producer_id, is_commit=is_commit)


def partition_of(group_id: str, image: Image) -> int | None:
    """Of the offsets topic; None while there is no such topic."""
    return coordinator.partition_of(group_id, image, OFFSETS_TOPIC)


def new_offsets_topic(config: NodeConfig) -> NewTopic:
    return internal_topic(
        OFFSETS_TOPIC,
        partitions=config.offsets_topic_num_partitions,
        replication_factor=config.offsets_replication_factor,
        configs={
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(config.offsets_topic_segment_bytes),
        },
    )
