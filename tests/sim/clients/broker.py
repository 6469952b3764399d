"""A cluster for the clients' own tests: production listeners on the simulator's wire, and behind them one log a partition.

Its nodes share everything and never disagree, so that a test decides alone what clients meet: leaders that move, answers that say
no before or after storing, records that are gone.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

from quorumlog.checker.history import Operation
from quorumlog.metadata.image import Image
from quorumlog.node.api_table import API_TABLE
from quorumlog.node.config import Address, NodeConfig
from quorumlog.node.dispatch import Call, Dispatcher
from quorumlog.node.listener import KafkaListener
from quorumlog.node.services import Services
from quorumlog.partitions.producers import ProducerStates
from quorumlog.wire.batches import BatchHeader, read_header, stamped_prefix
from quorumlog.wire.catalogue import API_VERSIONS, FETCH, PRODUCE
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.fetch import FetchedPartition, FetchedTopic, FetchPartition, FetchResponse
from quorumlog.wire.leader_hints import CurrentLeader
from quorumlog.wire.produce import ProducedPartition, ProducedTopic, ProducePartition, ProduceResponse
from tests.sim.loop import Process, SimLoop
from tests.sim.wire import SimWire

from .client import Client
from .connection import CREATE_PARTITIONS, CREATE_TOPICS, DELETE_TOPICS, EPOCH_END, INIT_PRODUCER_ID, LIST_OFFSETS, METADATA
from .processes import Processes

METADATA_TAKES_S = 0.025
NOBODY = 999


@dataclass(eq=False)
class FakePartition:
    leader: int
    epoch: int = 0
    start: int = 0
    batches: list[tuple[BatchHeader, bytes]] = field(default_factory=list)
    producers: ProducerStates = field(default_factory=lambda: ProducerStates(expiration_ms=1 << 40, producers_max=1000))
    appended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> int:
        return self.batches[-1][0].next_offset if self.batches else self.start

    def append(self, records: bytes) -> int:
        """The offset that the first record got, now or before."""
        header = read_header(records)
        if header.is_idempotent and (known := self.producers.check(header, 0, log_is_whole=True)) is not None:
            return known.first_offset
        header = header._replace(base_offset=self.end, leader_epoch=self.epoch)
        prefix = stamped_prefix(header, base_offset=header.base_offset, leader_epoch=self.epoch)
        self.batches.append((header, prefix + records[len(prefix) :]))
        if header.is_idempotent:
            self.producers.update(header, 0)
        self.appended.set()
        self.appended.clear()
        return header.base_offset

    def lose_all(self) -> None:
        """What no cluster may do."""
        self.batches.clear()
        self.producers.clear()


@dataclass(eq=False)
class FakeTopic:
    topic_id: UUID
    partitions: list[FakePartition]


class FakeCluster:
    """Topics, and listeners of nodes that serve them."""

    def __init__(self, wire: SimWire, node_ids: Sequence[int]) -> None:
        self.wire = wire
        self.topics: dict[str, FakeTopic] = {}
        self.nodes: dict[int, FakeNode] = {}
        self.produce_errors: list[
            tuple[ErrorCode, bool]
        ] = []  # to be answered next, and whether the batch is stored all the same
        self.admin_errors: list[tuple[ErrorCode, bool]] = []
        self.produced_at_once_max = 0
        self.producer_ids = 0
        self.requests: list[int] = []  # API keys as they came
        self.store_takes_s = 0.001
        for node_id in node_ids:
            self.nodes[node_id] = FakeNode(self, node_id)

    async def start(self, node_id: int) -> None:
        """A node's process, on a lane of its own."""
        node = self.nodes[node_id]
        node.process = Process(f"node {node_id}", node_id=node_id)
        loop = asyncio.get_running_loop()
        await loop.create_task(node.start(), context=node.process.main.context.copy())

    def kill(self, node_id: int, *, successor: int | None = None) -> None:
        """End a node; what it led is led by the successor."""
        self.nodes[node_id].process.kill()
        self.wire.kill(node_id)
        for topic in self.topics.values():
            for partition in topic.partitions:
                if partition.leader == node_id and successor is not None:
                    self.move(partition, successor)

    def move(self, partition: FakePartition, leader: int) -> None:
        partition.leader = leader
        partition.epoch += 1

    def create(self, name: str, *, partitions: int = 1) -> FakeTopic:
        leaders = sorted(self.nodes)
        made = [FakePartition(leaders[number % len(leaders)]) for number in range(partitions)]
        self.topics[name] = FakeTopic(UUID(int=len(self.topics) + 1), made)
        return self.topics[name]


class FakeNode:
    """Stands for the services of one node."""

    def __init__(self, cluster: FakeCluster, node_id: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.process = Process("not started")
        self.api_versions = {key: (API_TABLE[key].versions[0], API_TABLE[key].versions[-1]) for key in HANDLERS}
        self.image = Image(cluster_id="fake")
        self.producing = 0

    async def start(self) -> None:
        config = NodeConfig(node_id=self.node_id, cluster_id="fake", data_dir="none", voters="1@h:1")
        table = {key: replace(API_TABLE[key], handle=_counted(key, handler)) for key, handler in HANDLERS.items()}
        dispatcher = Dispatcher(cast(Services, self), table | {API_VERSIONS: API_TABLE[API_VERSIONS]})
        await KafkaListener(config, dispatcher, on_fatal=_raise).start(Address("node", 0))

    def partition(self, topic: str, number: int, epoch: int = -1) -> FakePartition:
        """Raises ClusterError unless this node leads it, in that epoch (-1: any)."""
        found = self.cluster.topics.get(topic)
        if found is None or number >= len(found.partitions):
            raise ClusterError(ErrorCode.unknown_topic_or_partition, topic)
        partition = found.partitions[number]
        if partition.leader != self.node_id:
            raise ClusterError(ErrorCode.not_leader_or_follower, topic)
        if epoch not in (-1, partition.epoch):
            raise ClusterError(ErrorCode.fenced_leader_epoch, topic)
        return partition

    def name_of(self, topic_id: UUID) -> str:
        return next((name for name, topic in self.cluster.topics.items() if topic.topic_id == topic_id), "?")


def _raise(error: BaseException) -> None:
    raise error


def _counted(key: int, handler: Callable[[Any, Call], Any]) -> Callable[[Services, Call], Any]:
    def handle(services: Services, call: Call) -> Any:
        cast(FakeNode, services).cluster.requests.append(key)
        return handler(services, call)

    return handle


# --- what it answers


def _produce(node: FakeNode, call: Call) -> Awaitable[ProduceResponse]:
    """Appended before the answer is waited for, as by a node."""
    answers = [
        ProducedTopic(topic.name, topic.topic_id, tuple(_append(node, topic.name, one) for one in topic.partitions))
        for topic in call.message.topics
    ]
    return _stored(node, ProduceResponse(tuple(answers)))


def _append(node: FakeNode, topic: str, wanted: ProducePartition) -> ProducedPartition:
    assert wanted.records is not None
    errors = node.cluster.produce_errors
    code, is_stored = errors.pop(0) if errors else (ErrorCode.none, True)
    offset = -1
    try:
        partition = node.partition(topic, wanted.index)
        if is_stored:
            offset = partition.append(bytes(wanted.records))
    except ClusterError as error:
        code = error.code
    hint = None
    if code is ErrorCode.not_leader_or_follower:
        known = node.cluster.topics[topic].partitions[wanted.index]
        hint = CurrentLeader(known.leader, known.epoch)
    return ProducedPartition(wanted.index, code, offset if code is ErrorCode.none else -1, current_leader=hint)


async def _stored(node: FakeNode, answer: ProduceResponse) -> ProduceResponse:
    cluster = node.cluster
    node.producing += 1
    cluster.produced_at_once_max = max(cluster.produced_at_once_max, node.producing)
    await asyncio.sleep(cluster.store_takes_s)
    node.producing -= 1
    return answer


async def _fetch(node: FakeNode, call: Call) -> FetchResponse:
    deadline = asyncio.get_running_loop().time() + call.message.max_wait_ms / 1000
    while True:
        topics = [
            FetchedTopic(None, topic.topic_id, tuple(_read(node, node.name_of(topic.topic_id), one) for one in topic.partitions))
            for topic in call.message.topics
        ]
        read = [one for topic in topics for one in topic.partitions]
        if any(one.error_code or one.records for one in read) or asyncio.get_running_loop().time() >= deadline:
            return FetchResponse(tuple(topics))
        await asyncio.sleep(0.01)


def _read(node: FakeNode, topic: str, wanted: FetchPartition) -> FetchedPartition:
    try:
        partition = node.partition(topic, wanted.partition, wanted.current_leader_epoch)
        if not partition.start <= wanted.fetch_offset <= partition.end:
            raise ClusterError(ErrorCode.offset_out_of_range, topic)
    except ClusterError as error:
        return FetchedPartition(wanted.partition, error.code)
    found: list[bytes] = []
    for header, data in partition.batches:
        if header.last_offset >= wanted.fetch_offset and (not found or sum(map(len, found)) < wanted.partition_max_bytes):
            found.append(data)
    return FetchedPartition(wanted.partition, high_watermark=partition.end, log_start_offset=partition.start, records=found)


def _list_offsets(node: FakeNode, call: Call) -> Any:
    def answer(topic: str, wanted: Any) -> dict[str, Any]:
        try:
            partition = node.partition(topic, wanted.partition_index, wanted.current_leader_epoch)
        except ClusterError as error:
            return {"partition_index": wanted.partition_index, "error_code": error.code, "offset": -1}
        offset = partition.end if wanted.timestamp == -1 else partition.start
        return {"partition_index": wanted.partition_index, "error_code": ErrorCode.none, "offset": offset}

    topics = call.message.topics
    return {
        "topics": [{"name": one.name, "partitions": [answer(one.name, wanted) for wanted in one.partitions]} for one in topics]
    }


def _epoch_end(node: FakeNode, call: Call) -> Any:
    def answer(topic: str, wanted: Any) -> dict[str, Any]:
        try:
            partition = node.partition(topic, wanted.partition, wanted.current_leader_epoch)
        except ClusterError as error:
            return {"partition": wanted.partition, "error_code": error.code}
        ends = [header for header, _ in partition.batches if header.leader_epoch <= wanted.leader_epoch]
        end = (ends[-1].leader_epoch, ends[-1].next_offset) if ends else (wanted.leader_epoch, partition.start)
        return {"partition": wanted.partition, "error_code": ErrorCode.none, "leader_epoch": end[0], "end_offset": end[1]}

    topics = call.message.topics
    return {
        "topics": [{"topic": one.topic, "partitions": [answer(one.topic, wanted) for wanted in one.partitions]} for one in topics]
    }


async def _metadata(node: FakeNode, call: Call) -> Any:
    await asyncio.sleep(METADATA_TAKES_S)
    return {
        "brokers": [{"node_id": node_id, "host": f"node-{node_id}", "port": 9092} for node_id in sorted(node.cluster.nodes)],
        "controller_id": node.node_id,
        "topics": [_describe(topic.name, node.cluster.topics.get(topic.name)) for topic in call.message.topics],
    }


def _describe(name: str, topic: FakeTopic | None) -> dict[str, Any]:
    if topic is None:
        return {"name": name, "error_code": ErrorCode.unknown_topic_or_partition}
    partitions = [
        {"partition_index": number, "leader_id": partition.leader, "leader_epoch": partition.epoch, "error_code": ErrorCode.none}
        for number, partition in enumerate(topic.partitions)
    ]
    return {"name": name, "topic_id": topic.topic_id, "error_code": ErrorCode.none, "partitions": partitions}


async def _init_producer_id(node: FakeNode, _call: Call) -> Any:
    node.cluster.producer_ids += 1
    return {"error_code": ErrorCode.none, "producer_id": node.cluster.producer_ids, "producer_epoch": 0}


def _administered(node: FakeNode, change: Callable[[], ErrorCode]) -> dict[str, Any]:
    errors = node.cluster.admin_errors
    code, is_done = errors.pop(0) if errors else (ErrorCode.none, True)
    done = change() if is_done else ErrorCode.none
    return {"error_code": code or done, "error_message": None}


async def _create_topics(node: FakeNode, call: Call) -> Any:
    (topic,) = call.message.topics

    def create() -> ErrorCode:
        if topic.name in node.cluster.topics:
            return ErrorCode.topic_already_exists
        node.cluster.create(topic.name, partitions=topic.num_partitions)
        return ErrorCode.none

    return {"topics": [{"name": topic.name} | _administered(node, create)]}


async def _delete_topics(node: FakeNode, call: Call) -> Any:
    (topic,) = call.message.topics

    def delete() -> ErrorCode:
        gone = node.cluster.topics.pop(topic.name, None)
        return ErrorCode.none if gone is not None else ErrorCode.unknown_topic_or_partition

    return {"responses": [{"name": topic.name} | _administered(node, delete)]}


async def _create_partitions(node: FakeNode, call: Call) -> Any:
    (wanted,) = call.message.topics

    def grow() -> ErrorCode:
        partitions = node.cluster.topics[wanted.name].partitions
        if len(partitions) >= wanted.count:
            return ErrorCode.invalid_partitions
        partitions += [FakePartition(node.node_id) for _ in range(wanted.count - len(partitions))]
        return ErrorCode.none

    return {"results": [{"name": wanted.name} | _administered(node, grow)]}


HANDLERS: dict[int, Callable[[Any, Call], Any]] = {
    PRODUCE: _produce,
    FETCH: _fetch,
    LIST_OFFSETS: _list_offsets,
    METADATA: _metadata,
    API_VERSIONS: API_TABLE[API_VERSIONS].handle,
    CREATE_TOPICS: _create_topics,
    DELETE_TOPICS: _delete_topics,
    INIT_PRODUCER_ID: _init_producer_id,
    EPOCH_END: _epoch_end,
    CREATE_PARTITIONS: _create_partitions,
}


# --- the tests' frame


class Scene:
    """A cluster of three nodes, what clients wrote down, and what went wrong behind their backs."""

    def __init__(self, seed: int) -> None:
        self.wire = SimWire(random.Random(f"{seed} wire"))
        self.rng = random.Random(f"{seed} clients")
        self.loop = cast(SimLoop, asyncio.get_running_loop())
        self.loop.listen = self.wire.listen
        self.loop.set_exception_handler(lambda _, context: self.errors.append(cast(BaseException, context["exception"])))
        self.cluster = FakeCluster(self.wire, (1, 2, 3))
        self.processes = Processes()
        self.history: list[Operation] = []
        self.errors: list[BaseException] = []

    def client(self, name: str = "client") -> Client:
        return Client(name, self.wire, sorted(self.cluster.nodes), self.rng)


def run(main: Callable[[Scene], Awaitable[None]], *, seed: int = 1) -> Scene:
    """The test's clients run in a process of their own."""

    async def whole() -> Scene:
        scene = Scene(seed)
        for node_id in scene.cluster.nodes:
            await scene.cluster.start(node_id)
        clients = Process("clients")
        await scene.loop.create_task(main(scene), context=clients.main.context.copy())  # type: ignore[arg-type]
        scene.wire.close()
        return scene

    loop = SimLoop(random.Random(seed))
    try:
        return loop.run_until_complete(whole())
    finally:
        _bury(loop)


def _bury(loop: SimLoop) -> None:
    """Tasks of dead nodes never end by themselves."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with suppress(BaseException):
            task.get_coro().close()
    loop.close()
