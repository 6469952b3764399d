"""What clients do in one run, as plain data: it can be drawn from a seed, written down, and shrunk by leaving operations out."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

FORGETTING = ("retention.ms", "retention.bytes")  # settings by which records leave a topic
PRODUCERS = ("idempotent", "plain", "leader")
COMPRESSIONS = ("none", "none", "none", "gzip", "snappy", "lz4", "zstd")
BEGIN_S = 0.5  # before that no operation, so that some topics are there


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic. Those of a plan are created at its beginning; others by an operation that names one of `later`."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """`kind`: idempotent, plain (acks=all, no retries), leader (acks=1), reader or admin. What a kind does not use is ignored."""

    kind: str
    topics: tuple[str, ...] = ()  # of a reader
    compression: str = "none"
    delivery_timeout_s: float = 15.0
    reset: str = "earliest"  # where a reader goes on if its offset is out of range, or "latest"
    max_wait_s: float = 0.2
    partition_bytes_max: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Op:
    """`action` of client number `client`, `at` seconds after the beginning:

    send (topic, partition, `count` records with `payload_bytes` each), poll, restart-reader, and by an admin
    create-topic (topic), delete-topic (topic), create-partitions (topic, up to `count`), compact-topic (topic, request `count`)
    """

    at: float
    client: int
    action: str
    topic: str = ""
    partition: int = 0
    count: int = 1
    payload_bytes: int = 0
    keys: int = 0  # of a send: each record has one of so many keys, and every fifth or so deletes it; 0: none has a key
    value: str = ""  # of a send: what its values begin with; unique in the plan
    is_event: bool = False  # of a send: its values are the words in `value`, and the ids of events, which others send, too


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    topics: tuple[TopicPlan, ...]
    clients: tuple[ClientPlan, ...]
    ops: tuple[Op, ...]  # by time
    later: tuple[TopicPlan, ...] = ()
    reads_committed: bool = False  # readers skip what transactions have not committed

    def without(self, numbers: set[int]) -> "WorkloadPlan":
        """Without the operations of these numbers."""
        return replace(self, ops=tuple(op for number, op in enumerate(self.ops) if number not in numbers))

    def topic(self, name: str) -> TopicPlan:
        return next(topic for topic in (*self.topics, *self.later) if topic.name == name)

    def keeps(self, topic: str) -> bool:
        """Must a record of the topic stay, once it is acknowledged?"""
        deleted = any(op.action == "delete-topic" and op.topic == topic for op in self.ops)
        forgets = self.is_compacted(topic) or any(name in self.topic(topic).configs for name in FORGETTING)
        return not deleted and not forgets

    @property
    def is_about_events(self) -> bool:
        """Do producers send events again and again, so that a value says nothing about who sent it?"""
        return any(op.is_event for op in self.ops)

    def is_compacted(self, topic: str) -> bool:
        """Does only the last record of each key stay?"""
        return "compact" in self.topic(topic).configs.get("cleanup.policy", "")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_from_dict(data: Mapping[str, Any]) -> WorkloadPlan:
    """The plan that `as_dict` wrote, also by way of JSON."""
    return WorkloadPlan(
        topics=tuple(TopicPlan(**topic) for topic in data["topics"]),
        clients=tuple(ClientPlan(**{**client, "topics": tuple(client["topics"])}) for client in data["clients"]),
        ops=tuple(Op(**op) for op in data["ops"]),
        later=tuple(TopicPlan(**topic) for topic in data["later"]),
        reads_committed=data["reads_committed"],
    )


def draw_workload(rng: random.Random, *, nodes: int, lasts_s: float, operations_per_s: float) -> WorkloadPlan:
    """Producers of every kind, two readers and now and then an admin, over `lasts_s` seconds."""
    topics = tuple(_draw_topic(rng, f"t{number}", nodes) for number in range(rng.randint(1, 3)))
    later = (_draw_topic(rng, "later", nodes),) if rng.random() < 0.4 else ()
    clients = _draw_clients(rng, tuple(topic.name for topic in (*topics, *later)))
    count = int((lasts_s - BEGIN_S) * operations_per_s)
    times = _draw_times(rng, count, lasts_s)
    admin = len(clients) - 1
    ops = [_draw_op(rng, number, at, clients, topics) for number, at in enumerate(times)]
    ops += _draw_admin_ops(rng, admin, topics, later, lasts_s)
    if rng.random() < 0.3:
        anew = _draw_topic(rng, "anew", nodes)
        ops += _draw_remaking(rng, admin, clients, anew, lasts_s)
        later = (*later, anew)
    return WorkloadPlan(topics, clients, tuple(sorted(ops, key=lambda op: op.at)), later)


def _draw_times(rng: random.Random, count: int, lasts_s: float) -> list[float]:
    """Evenly, or several at once: then requests follow each other before the first is answered."""
    step_s = rng.choice((0.0001, 0.0001, 0.1, 0.4))
    return sorted(max(BEGIN_S, round(rng.uniform(BEGIN_S, lasts_s) // step_s * step_s, 4)) for _ in range(count))


def _draw_topic(rng: random.Random, name: str, nodes: int) -> TopicPlan:
    replicas = min(nodes, rng.choice((3, 3, 3, 5)))
    configs = {}
    if rng.random() < 0.2:
        configs["message.timestamp.type"] = "LogAppendTime"
    if replicas > 3 and rng.random() < 0.5:
        configs["min.insync.replicas"] = "3"
    if name != "t0" and rng.random() < 0.3:  # of one topic at least all must stay
        configs.update(rng.choice(({"retention.bytes": "3000"}, {"retention.ms": "1500"})))
    return TopicPlan(name, rng.randint(1, 4), replicas, configs)


def _draw_clients(rng: random.Random, topics: tuple[str, ...]) -> tuple[ClientPlan, ...]:
    """An idempotent producer at least, and the admin at the end."""
    kinds = ["idempotent", *(rng.choice(("idempotent", "idempotent", "plain", "leader")) for _ in range(rng.randint(0, 3)))]
    producers = [
        ClientPlan(kind, compression=rng.choice(COMPRESSIONS), delivery_timeout_s=rng.choice((3.0, 10.0, 20.0))) for kind in kinds
    ]
    readers = [
        ClientPlan(
            "reader",
            topics=topics,
            reset=rng.choice(("earliest", "earliest", "latest")),
            max_wait_s=rng.choice((0.05, 0.2, 0.5)),
            partition_bytes_max=rng.choice((300, 4096, 1 << 20)),
        )
        for _ in range(2)
    ]
    return (*producers, *readers, ClientPlan("admin"))


def _draw_op(rng: random.Random, number: int, at: float, clients: tuple[ClientPlan, ...], topics: tuple[TopicPlan, ...]) -> Op:
    """A send in two cases of three."""
    if rng.random() < 0.33:
        reader = rng.choice([place for place, client in enumerate(clients) if client.kind == "reader"])
        return Op(at, reader, "restart-reader" if rng.random() < 0.02 else "poll")
    producer = rng.choice([place for place, client in enumerate(clients) if client.kind in PRODUCERS])
    return _draw_send(rng, f"v{number}", at, producer, rng.choice(topics))


def _draw_send(rng: random.Random, value: str, at: float, producer: int, topic: TopicPlan) -> Op:
    return Op(
        at,
        producer,
        "send",
        topic.name,
        rng.randrange(topic.partitions),
        count=rng.choice((1, 1, 1, 3, 20)),
        payload_bytes=rng.choice((0, 20, 100, 100, 1000)),
        value=value,
    )


def _draw_admin_ops(
    rng: random.Random, admin: int, topics: tuple[TopicPlan, ...], later: tuple[TopicPlan, ...], lasts_s: float
) -> list[Op]:
    """A topic that comes later, is sent to, and perhaps goes; a topic that grows."""
    ops: list[Op] = []
    for topic in later:
        at = rng.uniform(BEGIN_S, lasts_s)
        ops.append(Op(round(at, 4), admin, "create-topic", topic.name))
        times = sorted(rng.uniform(at, lasts_s) for _ in range(20))
        ops += [_draw_send(rng, f"{topic.name}{n}", round(time, 4), 0, topic) for n, time in enumerate(times)]
        if rng.random() < 0.3:
            ops.append(Op(round(rng.uniform(at, lasts_s), 4), admin, "delete-topic", topic.name))
    if rng.random() < 0.3:
        grown, at = rng.choice(topics), rng.uniform(BEGIN_S, lasts_s)
        ops.append(Op(round(at, 4), admin, "create-partitions", grown.name, count=grown.partitions + 1))
        for n, time in enumerate(sorted(rng.uniform(at, lasts_s) for _ in range(10))):
            ops.append(replace(_draw_send(rng, f"grown{n}", round(time, 4), 0, grown), partition=grown.partitions))
    return ops


def _draw_remaking(rng: random.Random, admin: int, clients: tuple[ClientPlan, ...], topic: TopicPlan, lasts_s: float) -> list[Op]:
    """A topic that is made, deleted and made again under its name. Nobody reads it but the auditor, at the end; only those write
    to it who expect nothing of what they wrote before.
    """
    writers = [place for place, client in enumerate(clients) if client.kind in ("plain", "leader")]
    ops, at, is_there = [], rng.uniform(BEGIN_S, 1.5), False
    while at < lasts_s - 0.5:
        is_there = not is_there
        ops.append(Op(round(at, 4), admin, "create-topic" if is_there else "delete-topic", topic.name))
        end = at + (rng.uniform(0.3, 2.0) if is_there else rng.choice((0.0, rng.uniform(0.0, 0.5))))
        if is_there and writers:
            times = sorted(rng.uniform(at, min(end, lasts_s)) for _ in range(10))
            ops += [
                _draw_send(rng, f"{topic.name}{len(ops)}.{n}", round(time, 4), rng.choice(writers), topic)
                for n, time in enumerate(times)
            ]
        at = end
    return ops
