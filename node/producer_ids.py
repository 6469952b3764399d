"""Producer ids for idempotent producers: taken from the controller by the block, so that most requests need no agreement."""

import asyncio

from quorumlog.metadata.requests import AllocateProducerIds, AllocateProducerIdsReply

from .controller_link import ControllerClient
from .session import BrokerSession


class ProducerIds:
    """Owned by the node. Ids of a block that are left at its end are never used: uniqueness is all that counts."""

    def __init__(self, controller: ControllerClient, session: BrokerSession, node_id: int) -> None:
        self._controller = controller
        self._session = session
        self._node_id = node_id
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()

    async def take(self, timeout_s: float) -> int:
        """An id that no producer of this cluster has had. Raises ClusterError if no block can be had in time."""
        async with self._lock:
            if self._next >= self._end:
                request = AllocateProducerIds(node_id=self._node_id, broker_epoch=self._session.broker_epoch)
                reply = await self._controller.request(request, timeout_s=timeout_s)
                assert isinstance(reply, AllocateProducerIdsReply)
                self._next, self._end = reply.first, reply.first + reply.count
            self._next += 1
            return self._next - 1
