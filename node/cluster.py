"""The cluster as this node knows it: the newest image, who waits for a newer one, and who must hear of each change.

Lives as long as the node. The metadata log is applied elsewhere (on the quorum's thread, or by the observer); each resulting
image is published here, on the event loop, in order.
"""

import asyncio
from collections.abc import Callable

from quorumlog.metadata.image import Image
from quorumlog.metadata.records import Record

from .tasks import wait_at_most

Subscriber = Callable[[Image, Image, tuple[Record, ...] | None], None]


class ClusterView:
    def __init__(self, cluster_id: str) -> None:
        self.image = Image(cluster_id=cluster_id)
        self.leader: int | None = None  # the quorum's leader, which is the active controller once it has applied its own no-op
        self.term = 0
        self._subscribers: list[Subscriber] = []
        self._changed = asyncio.Event()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber(old image, new image, records)` at each change; records is None when a whole snapshot came in."""
        self._subscribers.append(subscriber)

    def publish(self, image: Image, records: tuple[Record, ...] | None) -> None:
        old, self.image = self.image, image
        for subscriber in self._subscribers:
            subscriber(old, image, records)
        self._wake()

    def on_leader(self, leader: int | None, term: int) -> None:
        self.leader, self.term = leader, term
        self._wake()

    async def wait_until(self, condition: Callable[[Image], bool], timeout_s: float) -> bool:
        """Wait until the image meets the condition; False if it has not within the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(self.image):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return at the next change of image or leader, or after the timeout."""
        await wait_at_most(self._changed, timeout_s)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
