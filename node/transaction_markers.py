"""Markers of transactions, on the side of those who append them and on the side of the coordinator that sends them.

MarkerSender.send(node, order) -> (gRPC, one call a node at a time, with all that is waiting) -> MarkerWriter.write
  -> Partition.append_marker, or GroupCoordinator.end_transaction for the offsets of groups
  -> a code for each partition, once its marker is committed
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from quorumlog.host.ports import Clock, PeerGone, Peers, StorageError
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.partitions.partition import Partition
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView
from .group_coordinator import GroupCoordinator
from .replicas import Replicas
from .tasks import OnFatal, Tasks
from .transaction_messages import (
    DecodeError,
    MarkerOrder,
    Target,
    decode_codes,
    decode_orders,
    encode_codes,
    encode_orders,
)

METHOD = "markers"
COMMIT_TIMEOUT_S = 5.0  # of a marker, until it is sent again
CALL_TIMEOUT_S = 8.0
TARGETS_MAX = 5_000  # in one call


class MarkerWriter:
    """On every node: appends markers to the partitions that it leads."""

    def __init__(
        self, cluster: ClusterView, replicas: Replicas, groups: GroupCoordinator, clock: Clock, on_fatal: OnFatal
    ) -> None:
        self._on_fatal = on_fatal
        self._cluster = cluster
        self._replicas = replicas
        self._groups = groups
        self._clock = clock

    async def write(self, orders: Sequence[MarkerOrder]) -> list[ErrorCode]:
        """A code for each partition of each order. What is 0 is committed; REQUEST_TIMED_OUT may yet be."""
        waits = [self._append(order, target) for order in orders for target in order.targets]
        pending = [wait for wait in waits if isinstance(wait, asyncio.Future) and not wait.done()]
        if pending:
            await asyncio.wait(pending, timeout=COMMIT_TIMEOUT_S)
        return [_code_of(wait) for wait in waits]

    def _append(self, order: MarkerOrder, target: Target) -> "asyncio.Future[None] | ErrorCode":
        try:
            partition = self._partition(target)
            self._end(partition, order, target)
        except ClusterError as error:
            return error.code
        if partition.high_watermark >= partition.log_end_offset:
            return ErrorCode.none
        return self._replicas.committed.reached(partition.tp, partition.log_end_offset)

    def _partition(self, target: Target) -> Partition:
        partition = self._replicas.by_id.get((target.topic_id, target.partition))
        if partition is not None:
            return partition
        is_known = target.topic_id in self._cluster.image.topic_names
        code = ErrorCode.not_leader_or_follower if is_known else ErrorCode.unknown_topic_or_partition
        raise ClusterError(code, f"partition {target.partition} of topic {target.topic_id} is not here")

    def _end(self, partition: Partition, order: MarkerOrder, target: Target) -> None:
        def append(led: Partition) -> bool:
            appended = led.append_marker(
                order.marker,
                producer_id=order.producer.producer_id,
                producer_epoch=order.producer.epoch,
                is_strict=order.is_strict,
                now=self._clock.now(),
                wall_ms=self._clock.wall_ms(),
                leader_epoch=target.leader_epoch,
                decision=order.decision,
            )
            if appended is not None:
                self._replicas.on_appended(led, [appended])
            return appended is not None

        if partition.tp.topic == OFFSETS_TOPIC:
            self._groups.end_transaction(partition, append, order.producer.producer_id, is_commit=order.marker.is_commit)
        else:
            append(partition)

    async def on_call(self, _source: int, request: bytes) -> bytes:
        """From another node. Raises DecodeError, which ends the call."""
        orders = decode_orders(request)
        try:
            return encode_codes(await self.write(orders))
        except StorageError as error:  # as where a producer's batch cannot be appended: this node must not go on
            self._on_fatal(error)
            raise


def _code_of(wait: "asyncio.Future[None] | ErrorCode") -> ErrorCode:
    if not isinstance(wait, asyncio.Future):
        return wait
    if not wait.done():
        wait.cancel()
        return ErrorCode.request_timed_out
    error = wait.exception()
    return error.code if isinstance(error, ClusterError) else ErrorCode.none


@dataclass(slots=True)
class Sending:
    order: MarkerOrder
    codes: "asyncio.Future[list[ErrorCode]]"


class MarkerSender:
    """On every node: hands orders to the nodes that lead the partitions, this one included."""

    def __init__(self, node_id: int, writer: MarkerWriter, peers: Peers, tasks: Tasks) -> None:
        self._node_id = node_id
        self._writer = writer
        self._peers = peers
        self._tasks = tasks
        self._waiting: dict[int, deque[Sending]] = {}  # by node, while somebody sends to it
        peers.serve_call(METHOD, writer.on_call)

    async def send(self, node_id: int, order: MarkerOrder) -> list[ErrorCode]:
        """The code of each target. Raises PeerGone."""
        sending = Sending(order, asyncio.get_running_loop().create_future())
        waiting = self._waiting.get(node_id)
        if waiting is None:
            self._waiting[node_id] = deque([sending])
            self._tasks.spawn(self._send_all(node_id), f"markers to node {node_id}")
        else:
            waiting.append(sending)
        return await sending.codes

    async def _send_all(self, node_id: int) -> None:
        waiting = self._waiting[node_id]
        try:
            while waiting:
                await self._send(node_id, _taken(waiting))
        finally:
            del self._waiting[node_id]

    async def _send(self, node_id: int, sendings: list[Sending]) -> None:
        orders = [sending.order for sending in sendings]
        try:
            codes = await self._codes(node_id, orders)
        except PeerGone as error:
            for sending in sendings:
                if not sending.codes.done():
                    sending.codes.set_exception(PeerGone(str(error)))
            return
        for sending in sendings:
            own, codes = codes[: len(sending.order.targets)], codes[len(sending.order.targets) :]
            if not sending.codes.done():
                sending.codes.set_result(own)

    async def _codes(self, node_id: int, orders: list[MarkerOrder]) -> list[ErrorCode]:
        if node_id == self._node_id:
            return await self._writer.write(orders)
        answer = await self._peers.call(node_id, METHOD, encode_orders(orders), CALL_TIMEOUT_S)
        return decode_codes(answer, sum(len(order.targets) for order in orders))


def _taken(waiting: deque[Sending]) -> list[Sending]:
    """As many as one call takes; at least one."""
    taken = [waiting.popleft()]
    size = len(taken[0].order.targets)
    while waiting and size + len(waiting[0].order.targets) <= TARGETS_MAX:
        taken.append(waiting.popleft())
        size += len(taken[-1].order.targets)
    return taken


__all__ = ["DecodeError", "MarkerSender", "MarkerWriter"]
