"""Nodes whose connection has just broken, while the cluster image still counts them as live.

Two uses. Whoever must act on a death (an election, a fencing) asks here whether the process is gone for certain: its machine
answers and its port refuses. And whoever is about to tell clients who leads what waits a moment for the news: a client that
refreshes its metadata right after a crash would else be told of the dead leader, and ask again only after its back-off.
"""

import asyncio
import logging

from quorumlog.host.ports import Peers

from .cluster import ClusterView

logger = logging.getLogger(__name__)

PROBES = 5
PROBE_PAUSE_S = 0.02
NEWS_TIMEOUT_S = 0.5


class Suspects:
    """Owned by the node. A suspicion ends when the node is fenced, proves to be alive, or after NEWS_TIMEOUT_S."""

    def __init__(self, cluster: ClusterView, peers: Peers) -> None:
        self._cluster = cluster
        self._peers = peers
        self._until: dict[int, float] = {}

    async def is_gone(self, node_id: int) -> bool:
        """The node's connection broke: is its process gone? It is a suspect from now on, for those who ask for news."""
        self._until[node_id] = asyncio.get_running_loop().time() + NEWS_TIMEOUT_S
        gone = await is_process_gone(self._peers, node_id)
        if not gone:
            self._until.pop(node_id, None)
        return gone

    async def news(self) -> None:
        """Return when what the image says of the suspects is settled; at once if there are none."""
        while (deadline := self._pending()) is not None:
            await self._cluster.wait_for_change(deadline)

    @property
    def any(self) -> bool:
        return self._pending() is not None

    def _pending(self) -> float | None:
        """Seconds until the last suspicion ends, or None."""
        now, image = asyncio.get_running_loop().time(), self._cluster.image
        self._until = {node: until for node, until in self._until.items() if until > now and image.is_live(node)}
        return max(self._until.values()) - now if self._until else None


async def is_process_gone(peers: Peers, node_id: int) -> bool:
    """Does the node's port refuse a new connection? A dying process closes its sockets one by one, so look a few times."""
    for _ in range(PROBES):
        if await peers.is_refused(node_id):
            return True
        await asyncio.sleep(PROBE_PAUSE_S)
    return False
