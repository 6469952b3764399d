"""The coordinator of transactions on this node: one shard for each partition of `__transaction_state` that it leads.

    EndTxn -> TransactionShard.end -> PrepareCommit is logged -> committed: the producer has its answer
      -> EndDecided -> markers to the leaders of all partitions, again and again -> TransactionShard.complete -> logged

Whoever coordinates after a fail-over finds PrepareCommit in its log and goes on from there: markers that come twice are known by
their coordinator's epoch, and by the number of the decision that they carry out.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.transaction_shard import TransactionShard
from quorumlog.coordinators.transaction_state import Producer
from quorumlog.coordinators.transactions import Asked, EndDecided, TransactionConfig
from quorumlog.host.ports import Clock, PeerGone
from quorumlog.metadata.image import NO_LEADER
from quorumlog.metadata.internal_topics import TRANSACTIONS_TOPIC
from quorumlog.metadata.requests import NewTopic
from quorumlog.partitions.partition import Partition
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker

from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .coordinator import Coordinator, internal_topic, settled
from .coordinator_shard import LedShard, State
from .group_coordinator_replies import Answer, Outcome
from .producer_ids import ProducerIds
from .replicas import Replicas
from .tasks import Tasks
from .transaction_markers import MarkerSender
from .transaction_messages import MarkerOrder, Target

logger = logging.getLogger(__name__)

LedTransactions = LedShard[TransactionShard]
Operation = Callable[[TransactionShard, Waiter], Result]
COMMIT_TIMEOUT_S = 5.0
PRODUCER_ID_TIMEOUT_S = 5.0
PAUSE_MIN_S, PAUSE_MAX_S = 0.02, 1.0  # before markers are sent again
# The partition has seen a later epoch, which no producer gets before this transaction is complete: its marker is there.
WRITTEN = (ErrorCode.none, ErrorCode.invalid_producer_epoch)


class TransactionCoordinator(Coordinator[LedTransactions]):
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
        producer_ids: ProducerIds,
        markers: MarkerSender,
    ) -> None:
        super().__init__(new_transactions_topic(config), config, cluster, replicas, controller, clock, tasks)
        self._producer_ids = producer_ids
        self._markers = markers
        self._settings = TransactionConfig(
            timeout_max_ms=config.transaction_max_timeout_ms,
            id_expiration_ms=config.transactional_id_expiration_ms,
            expiration_check_interval_ms=config.transactional_id_expiration_check_interval_ms,
        )

    def make_led(self, partition: Partition) -> LedTransactions:
        return LedShard(
            partition,
            self._replicas,
            self._clock,
            image=lambda: self._cluster.image,
            make_shard=lambda _: TransactionShard(lambda: self._settings),
            commit_timeout_s=COMMIT_TIMEOUT_S,
            load_later=self.load_later,
            perform=self._perform,
        )

    # --- what producers and leaders ask

    async def init_producer(self, transactional_id: str, timeout_ms: int, expected: Producer | None) -> Outcome:
        """InitProducerId. The outcome is a ClusterError where it is refused."""
        asked = Asked(0, transactional_id, expected)
        try:
            led = self.led_by_us(transactional_id)
            spare_id = await self._spare_id(led.look().needs_producer_id_to_begin(asked))
        except ClusterError as error:
            return error

        def init(shard: TransactionShard, waiter: Waiter) -> Result:
            asked = Asked(waiter, transactional_id, expected)
            return shard.init_producer(asked, timeout_ms=timeout_ms, spare_id=spare_id, wall_ms=self._clock.wall_ms())

        return await self._ask(transactional_id, init)

    def add_partitions(
        self, transactional_id: str, producer: Producer, partitions: Collection[TopicPartition], *, only_verify: bool = False
    ) -> Answer:
        """AddPartitionsToTxn, for the one who writes to them or for their leaders."""

        def add(shard: TransactionShard, waiter: Waiter) -> Result:
            asked = Asked(waiter, transactional_id, producer)
            if only_verify:
                return shard.verify_partitions(asked, partitions)
            return shard.add_partitions(asked, partitions, self._clock.now(), self._clock.wall_ms())

        return self._ask(transactional_id, add, logs=not only_verify)

    async def end(self, transactional_id: str, producer: Producer, *, is_commit: bool, client_version: int) -> Outcome:
        """EndTxn."""
        asked = Asked(0, transactional_id, producer)
        try:
            led = self.led_by_us(transactional_id)
            spare_id = await self._spare_id(led.look().needs_producer_id_to_end(asked, client_version))
        except ClusterError as error:
            return error

        def end(shard: TransactionShard, waiter: Waiter) -> Result:
            asked = Asked(waiter, transactional_id, producer)
            wall_ms = self._clock.wall_ms()
            return shard.end(asked, is_commit=is_commit, client_version=client_version, spare_id=spare_id, wall_ms=wall_ms)

        return await self._ask(transactional_id, end)

    async def _spare_id(self, is_needed: bool) -> int | None:
        if not is_needed:
            return None
        try:
            return await self._producer_ids.take(PRODUCER_ID_TIMEOUT_S)
        except ClusterError as error:
            raise ClusterError(ErrorCode.coordinator_not_available, f"no producer id is to be had: {error}") from error

    def _ask(self, transactional_id: str, operation: Operation, *, logs: bool = True) -> Answer:
        try:
            return self.led_by_us(transactional_id).ask(operation, logs=logs)
        except ClusterError as error:
            return settled(error)

    # --- what was decided

    def _perform(self, led: LedTransactions, effect: EndDecided) -> None:
        self._tasks.spawn(self._carry_out(led, effect), f"markers of {effect.transactional_id}")

    async def _carry_out(self, led: LedTransactions, effect: EndDecided) -> None:
        """Until each partition has its marker and the log says so, or another shard, here or elsewhere, does it in our place."""
        life, decision = led.life, led.partition.high_watermark
        left = sorted(effect.transaction.partitions)
        pause_s = PAUSE_MIN_S
        while left and _is_alive(led, life):
            left = await self._send(led, effect, left, decision)
            if left:
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
        while _is_alive(led, life) and not self._complete(led, effect):  # noqa: ASYNC110 - until there are replicas enough
            await asyncio.sleep(PAUSE_MAX_S)

    async def _send(
        self, led: LedTransactions, effect: EndDecided, partitions: list[TopicPartition], decision: int
    ) -> list[TopicPartition]:
        """The partitions that have no marker yet. Those of topics that were deleted need none."""
        by_node: dict[int, dict[TopicPartition, Target]] = {}
        left: list[TopicPartition] = []
        for place in partitions:
            state = self._cluster.image.partition(place.topic, place.partition)
            if state is None:
                continue
            if state.leader == NO_LEADER:
                left.append(place)
            else:
                target = Target(state.topic_id, state.partition, state.leader_epoch)
                by_node.setdefault(state.leader, {})[place] = target
        sent = [self._send_to(node_id, led, effect, targets, decision) for node_id, targets in sorted(by_node.items())]
        for unsent in await asyncio.gather(*sent):
            left += unsent
        return sorted(left)

    async def _send_to(
        self, node_id: int, led: LedTransactions, effect: EndDecided, targets: dict[TopicPartition, Target], decision: int
    ) -> list[TopicPartition]:
        transaction = effect.transaction
        marker = Marker(transaction.is_commit, led.partition.leader_epoch)
        order = MarkerOrder(transaction.producer, marker, transaction.has_epoch_of_its_own, decision, tuple(targets.values()))
        try:
            codes = await self._markers.send(node_id, order)
        except PeerGone:
            return list(targets)
        return [place for place, code in zip(targets, codes, strict=True) if code not in WRITTEN]

    def _complete(self, led: LedTransactions, effect: EndDecided) -> bool:
        """False if that cannot be logged at present."""

        def complete(shard: TransactionShard, waiter: Waiter) -> Result:
            asked = Asked(waiter, effect.transactional_id, effect.transaction.producer)
            return shard.complete(asked, self._clock.wall_ms())

        try:
            led.ask(complete)
        except ClusterError as error:
            logger.warning("the end of transaction %s is not logged yet: %s", effect.transactional_id, error)
            return False
        return True


def _is_alive(led: LedTransactions, life: int) -> bool:
    return led.state is State.SERVING and led.life == life


def new_transactions_topic(config: NodeConfig) -> NewTopic:
    return internal_topic(
        TRANSACTIONS_TOPIC,
        partitions=config.transaction_state_log_num_partitions,
        replication_factor=config.transactions_replication_factor,
        configs={
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "segment.bytes": str(config.transaction_state_log_segment_bytes),
            "unclean.leader.election.enable": "false",
        },
    )
