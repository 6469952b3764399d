"""Creates topics because somebody asked for them, behind the back of who asks."""

from collections.abc import Iterable
from contextlib import suppress

from quorumlog.metadata.requests import CreateTopics, NewTopic
from quorumlog.wire.errors import ClusterError

from .controller_link import ControllerClient
from .tasks import Tasks

UNDER_WAY_MAX = 2_000
CREATE_TIMEOUT_S = 30.0


class FirstUses:
    """Owned by the node. Who asked asks again, so a refusal is told to nobody."""

    def __init__(self, controller: ControllerClient, tasks: Tasks, *, under_way_max: int = UNDER_WAY_MAX) -> None:
        self._controller = controller
        self._tasks = tasks
        self._under_way_max = under_way_max
        self._under_way: dict[str, None] = {}

    def create(self, topics: Iterable[NewTopic]) -> None:
        """Those that nobody is creating from here, as many as there is room for."""
        room = self._under_way_max - len(self._under_way)
        new = tuple(topic for topic in topics if topic.name not in self._under_way)[:room]
        if new:
            self._under_way |= dict.fromkeys(topic.name for topic in new)
            self._tasks.spawn(self._create(new), "create topics on first use")

    async def _create(self, topics: tuple[NewTopic, ...]) -> None:
        try:
            with suppress(ClusterError):
                await self._controller.request(CreateTopics(topics), timeout_s=CREATE_TIMEOUT_S)
        finally:
            for topic in topics:
                del self._under_way[topic.name]
