"""Asks the controller for the in-sync sets that this node's leaders want, all in one request at a time.

Looked at on a timer, and at once when a follower has caught up. While a change is in flight its partition counts the larger
set; where no answer comes the partition itself decides when to propose again.
"""

import asyncio
import logging

from quorumlog.host.ports import Clock
from quorumlog.metadata.image import PartitionState
from quorumlog.metadata.requests import AlterIsr, AlterIsrReply, IsrProposal, IsrResult, ReportDamage, ReportDamageReply
from quorumlog.partitions.partition import Partition, Role
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView
from .controller_link import ControllerClient
from .replicas import PartitionKey, Replicas
from .replication_leader import LeaderSide
from .session import BrokerSession
from .tasks import Tasks, cancelled

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 3.0
PROPOSALS_MAX = 1_000
DAMAGE_RETRY_S = 10.0
FINAL_REFUSALS = (ErrorCode.ineligible_replica, ErrorCode.invalid_request)


class IsrUpdates:
    """Owned by the node: one task, for as long as the node runs."""

    def __init__(
        self,
        replicas: Replicas,
        leader_side: LeaderSide,
        cluster: ClusterView,
        controller: ControllerClient,
        session: BrokerSession,
        clock: Clock,
        tasks: Tasks,
        *,
        interval_s: float,
    ) -> None:
        self._tasks = tasks
        self._leader_side = leader_side
        self._cluster = cluster
        self._replicas = replicas
        self._controller = controller
        self._session = session
        self._clock = clock
        self._interval_s = interval_s
        self._damaged: dict[Partition, None] = {}
        self._task: asyncio.Task[None] | None = None
        replicas.on_damage = self._on_damage

    def start(self) -> None:
        self._task = self._tasks.spawn(self._run(), "in-sync sets")

    async def close(self) -> None:
        await cancelled(self._task)

    def _on_damage(self, partition: Partition) -> None:
        self._damaged[partition] = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if self._session.broker_epoch < 0:
                continue
            try:
                await self._propose()
                await self._report_damage()
            except ClusterError as error:
                logger.info("in-sync sets are not changed now: %s", error)

    async def _propose(self) -> None:
        now = self._clock.now()
        wanted: dict[PartitionKey, tuple[Partition, tuple[int, ...]]] = {}
        for key, partition in self._replicas.by_id.items():
            if partition.role is Role.LEADER and len(wanted) < PROPOSALS_MAX:
                isr = partition.isr_wanted(now)
                if isr is not None and self._can_join(set(isr) - set(partition.isr)):
                    wanted[key] = (partition, isr)
        if not wanted:
            return
        proposals = tuple(self._proposal(partition, isr) for partition, isr in wanted.values())
        for partition, isr in wanted.values():
            partition.isr_proposed(isr, now)
        request = AlterIsr(self._replicas.node_id, self._session.broker_epoch, proposals)
        # No answer is no refusal: the change may still be committed, so the partition goes on counting the larger set.
        reply = await self._controller.request(request, timeout_s=REQUEST_TIMEOUT_S)
        assert isinstance(reply, AlterIsrReply)
        for result in reply.partitions:
            self._on_result(wanted[result.topic_id, result.partition][0], result)

    def _can_join(self, nodes: set[int]) -> bool:
        """The controller would refuse who is fenced or about to stop."""
        brokers = [self._cluster.image.broker(node) for node in nodes]
        return all(broker is not None and not broker.fenced and not broker.in_shutdown for broker in brokers)

    def _on_result(self, partition: Partition, result: IsrResult) -> None:
        if result.error_code is ErrorCode.none:
            state: PartitionState | None = result.state
            assert state is not None
            logger.info("%s: in sync are %s", partition.tp, list(state.isr))
            return
        logger.info("%s: in-sync set not changed: %s", partition.tp, result.error_message)
        # A refusal for a stale epoch may answer a repeated proposal whose first copy was committed: the metadata will tell.
        if result.error_code in FINAL_REFUSALS:
            partition.isr_refused()

    async def _report_damage(self) -> None:
        for partition in list(self._damaged):
            del self._damaged[partition]
            request = ReportDamage(self._replicas.node_id, self._session.broker_epoch, partition.topic_id, partition.tp.partition)
            try:
                reply = await self._controller.request(request, timeout_s=REQUEST_TIMEOUT_S)
            except ClusterError:
                self._damaged[partition] = None
                raise
            assert isinstance(reply, ReportDamageReply)
            if not reply.excluded:
                logger.error("%s: damaged, and no other replica has what is committed; it is not repaired yet", partition.tp)
                asyncio.get_running_loop().call_later(DAMAGE_RETRY_S, self._replicas.damage_refused, partition)

    def _proposal(self, partition: Partition, isr: tuple[int, ...]) -> IsrProposal:
        own = {self._replicas.node_id: self._session.broker_epoch}
        return IsrProposal(
            topic_id=partition.topic_id,
            partition=partition.tp.partition,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            new_isr=isr,
            broker_epochs=tuple(own.get(node, self._leader_side.broker_epoch_of(partition, node)) for node in isr),
        )
