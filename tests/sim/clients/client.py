"""What every kind of client has: connections to nodes, and what metadata says of the topics that it cares for."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.sight import Violation
from tests.sim.wire import SimWire

from .connection import METADATA, Connection, is_retriable

BACKOFF_S = (0.05, 0.15)
NO_LEADER = -1


class Leader(NamedTuple):
    node_id: int
    epoch: int


class TopicView:
    """A topic as this client knows it."""

    __slots__ = ("leaders", "topic_id")

    def __init__(self, topic_id: UUID) -> None:
        self.topic_id = topic_id
        self.leaders: dict[int, Leader] = {}  # of each partition, in order


class Client:
    """Owned by a producer, a reader or an admin; `close` it. `on_change` is called when there is a new connection or metadata."""

    def __init__(self, name: str, wire: SimWire, node_ids: Sequence[int], rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self.topics: dict[str, TopicView] = {}
        self.controller_id = NO_LEADER
        self.on_change: Callable[[], None] = lambda: None
        self.refreshed = 0  # how often metadata came
        self._wire = wire
        self._node_ids = list(node_ids)
        self._wanted: dict[str, None] = {}
        self._connections: dict[int, Connection] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._not_before: dict[int, float] = {}  # connecting to a node failed
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_refreshing = False
        self._refresh_not_before = 0.0
        self._is_closed = False
        self._loop = asyncio.get_running_loop()

    # --- time and tasks

    def now(self) -> float:
        return self._loop.time()

    def backoff_s(self) -> float:
        return self.rng.uniform(*BACKOFF_S)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the client at the latest. What it raises goes to the loop's exception handler."""
        task = self._loop.create_task(work, name=f"{self.name} {name}")
        self._tasks[task] = None
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": f"{task.get_name()} failed", "exception": error})

    async def close(self) -> None:
        """End everything; nobody is called any more but those who wait for an answer, which is None."""
        self._is_closed = True
        self.on_change = lambda: None
        for connection in list(self._connections.values()):
            connection.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- connections

    def connection(self, node_id: int) -> Connection | None:
        """One that is open; if there is none, one is being made, and `on_change` will tell."""
        connection = self._connections.get(node_id)
        if connection is None and node_id not in self._connecting and self._may_connect(node_id):
            self._connecting[node_id] = self.spawn(self._connect(node_id), f"connects to node {node_id}")
        return connection

    def _may_connect(self, node_id: int) -> bool:
        return not self._is_closed and self.now() >= self._not_before.get(node_id, 0.0)

    async def reach(self, node_id: int) -> Connection:
        """Raises ConnectionError, at once if that has failed a moment ago."""
        connection = self.connection(node_id)
        if connection is None and node_id in self._connecting:
            await asyncio.wait({self._connecting[node_id]})
            connection = self._connections.get(node_id)
        if connection is None:
            raise ConnectionError(f"node {node_id} cannot be reached")
        return connection

    async def reach_any(self) -> Connection:
        """To one of the nodes that there is a connection to, else to any. Raises ConnectionError."""
        return await self.reach(self.rng.choice(list(self._connections) or self._node_ids))

    async def _connect(self, node_id: int) -> None:
        try:
            self._connections[node_id] = await Connection.open(self._wire, self.name, node_id, self._on_lost)
        except OSError:
            self._not_before[node_id] = self.now() + self.backoff_s()
            self.refresh()
        finally:
            del self._connecting[node_id]
        self.on_change()

    def _on_lost(self, connection: Connection) -> None:
        if self._connections.get(connection.node_id) is connection:
            del self._connections[connection.node_id]
            self.refresh()
            self.on_change()

    # --- metadata

    def leader(self, topic: str, partition: int) -> Leader | None:
        """None if it is not known; metadata is being asked for then."""
        self._wanted[topic] = None
        view = self.topics.get(topic)
        leader = None if view is None else view.leaders.get(partition)
        if leader is None or leader.node_id == NO_LEADER:
            self.refresh()
            return None
        return leader

    def want(self, topics: Sequence[str]) -> None:
        """Ask for these topics too from now on."""
        self._wanted.update(dict.fromkeys(topics))

    def refresh(self) -> None:
        """Ask for metadata, if nobody does so already."""
        if not self._is_refreshing and not self._is_closed and self._wanted:
            self._is_refreshing = True
            self.spawn(self._refresh(), "asks for metadata")

    def learn_leader(self, topic: str, partition: int, hint: Struct) -> None:
        """An answer named the leader (KIP-951), or named nobody."""
        view = self.topics.get(topic)
        if view is not None and partition in view.leaders and hint.leader_epoch > view.leaders[partition].epoch:
            view.leaders[partition] = Leader(hint.leader_id, hint.leader_epoch)
        else:
            self.refresh()

    async def refreshed_metadata(self) -> None:
        """Wait for metadata that is newer than this call."""
        before = self.refreshed
        while self.refreshed < before + 2:  # the first may have been on its way
            self.refresh()
            await asyncio.sleep(BACKOFF_S[0])

    async def _refresh(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._refresh_not_before - self.now()))
            is_learnt = await self._learn_metadata()
            self._refresh_not_before = self.now() + self.backoff_s()
        finally:
            self._is_refreshing = False
        if not is_learnt:
            self.refresh()
        self.on_change()

    async def _learn_metadata(self) -> bool:
        wanted = list(self._wanted)
        body = {"topics": [{"name": name} for name in wanted], "allow_auto_topic_creation": False}
        try:
            answer = await (await self.reach_any()).ask(METADATA, body)
        except ConnectionError:
            return False
        self.refreshed += 1
        self.controller_id = answer.controller_id
        for topic in answer.topics:
            if topic.error_code == ErrorCode.none:
                self._learn_topic(topic)
            elif topic.error_code == ErrorCode.unknown_topic_or_partition:
                self.topics.pop(topic.name, None)
            elif not is_retriable(topic.error_code):
                raise Violation("client: metadata", f"topic {topic.name} has error {topic.error_code}")
        return True

    def _learn_topic(self, topic: Struct) -> None:
        """An epoch never goes back: a node that lags behind may still tell of an older leader (KIP-320)."""
        view = self.topics.get(topic.name)
        if view is None or view.topic_id != topic.topic_id:
            view = self.topics[topic.name] = TopicView(topic.topic_id)
        for partition in topic.partitions:
            known = view.leaders.get(partition.partition_index)
            if known is None or partition.leader_epoch >= known.epoch:
                view.leaders[partition.partition_index] = Leader(partition.leader_id, partition.leader_epoch)
