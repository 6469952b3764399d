"""What consumer groups do in one run, as plain data: who joins, leaves and falls silent when."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .plan import BEGIN_S, COMPRESSIONS, ClientPlan, Op, TopicPlan, WorkloadPlan

EAGER, COOPERATIVE, CONSUMER, MIXED, SIMPLE = "eager", "cooperative", "consumer", "mixed", "simple"
SENDS_PER_S = 12
POLLS_PER_S = 2


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """`protocol`: eager and cooperative are the classic one's two ways, consumer is KIP-848's; a mixed group has members that
    speak either, each life as `speaks` says, so that the group changes its protocol; simple has no members at all.
    `statics`: so many of its members, the first, keep their instance id over all their lives.
    """

    name: str
    protocol: str
    topics: tuple[str, ...]
    members: int
    statics: int
    session_timeout_s: float
    rebalance_timeout_s: float
    heartbeat_s: float
    commit_every_s: float
    assignor: str = "uniform"

    def speaks(self, member: int, life: int) -> str:
        """What a member speaks in one of its lives."""
        if self.protocol != MIXED:
            return self.protocol
        return (COOPERATIVE, CONSUMER)[(member + life) % 2]


@dataclass(frozen=True, slots=True)
class GroupOp:
    """`action` at `at` seconds: of a member join, leave, crash, or stall (for so long it does nothing, and then goes on as if
    nothing had been); of somebody outside fetch (what is committed) or commit.
    """

    at: float
    group: int
    member: int
    action: str
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupsPlan:
    groups: tuple[GroupPlan, ...]
    ops: tuple[GroupOp, ...]  # by time

    def without(self, numbers: set[int]) -> "GroupsPlan":
        """Without the operations of these numbers."""
        return replace(self, ops=tuple(op for number, op in enumerate(self.ops) if number not in numbers))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def groups_from_dict(data: Mapping[str, Any]) -> GroupsPlan:
    """The plan that `as_dict` wrote, also by way of JSON."""
    groups = tuple(GroupPlan(**{**group, "topics": tuple(group["topics"])}) for group in data["groups"])
    return GroupsPlan(groups, tuple(GroupOp(**op) for op in data["ops"]))


def draw_groups(rng: random.Random, topics: tuple[str, ...], lasts_s: float) -> GroupsPlan:
    """One to three groups; now and then one without members."""
    groups = [_draw_group(rng, f"g{number}", topics) for number in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        groups.append(replace(_draw_group(rng, "simple", topics), protocol=SIMPLE, members=0, statics=0))
    ops = [op for number, group in enumerate(groups) for op in _draw_ops(rng, number, group, lasts_s)]
    return GroupsPlan(tuple(groups), tuple(sorted(ops, key=lambda op: op.at)))


def _draw_group(rng: random.Random, name: str, topics: tuple[str, ...]) -> GroupPlan:
    members = rng.randint(1, 4)
    return GroupPlan(
        name,
        rng.choice((EAGER, COOPERATIVE, CONSUMER, CONSUMER, MIXED)),
        tuple(sorted(rng.sample(topics, rng.randint(1, len(topics))))),
        members,
        rng.choice((0, 0, 0, 1, members)),
        session_timeout_s=rng.choice((1.0, 2.0, 4.0)),
        rebalance_timeout_s=rng.choice((1.5, 3.0)),
        heartbeat_s=rng.choice((0.1, 0.3)),
        commit_every_s=rng.choice((0.1, 0.3, 1.0)),
        assignor=rng.choice(("uniform", "range")),
    )


def _draw_ops(rng: random.Random, number: int, group: GroupPlan, lasts_s: float) -> list[GroupOp]:
    ops = [GroupOp(_time(rng, lasts_s), number, 0, "fetch") for _ in range(rng.randint(2, 8))]
    if group.protocol == SIMPLE:
        ops += [GroupOp(_time(rng, lasts_s), number, 0, "commit") for _ in range(int(lasts_s * rng.choice((2, 8))))]
    for member in range(group.members):
        ops += _draw_lives(rng, number, member, lasts_s)
    return ops


def _draw_lives(rng: random.Random, group: int, member: int, lasts_s: float) -> list[GroupOp]:
    """It comes, most often with the others; it may go and come back several times, and is there at the end, or not."""
    ops, at = [], rng.uniform(BEGIN_S, rng.choice((BEGIN_S + 0.3, lasts_s / 2)))
    while at < lasts_s:
        ops.append(GroupOp(round(at, 4), group, member, "join"))
        begun, at = at, at + rng.choice((rng.uniform(0.2, 2.0), rng.uniform(1.0, lasts_s), lasts_s))
        if rng.random() < 0.4 and at - begun > 0.5:
            stalls_at = rng.uniform(begun + 0.3, min(at, lasts_s))
            ops.append(GroupOp(round(stalls_at, 4), group, member, "stall", round(rng.uniform(0.1, 6.0), 4)))
        if at < lasts_s and (member or rng.random() < 0.5):
            ops.append(GroupOp(round(at, 4), group, member, rng.choice(("leave", "leave", "crash"))))
            at += rng.choice((0.0, rng.uniform(0.0, 1.0), rng.uniform(0.0, 4.0), lasts_s if member else 0.5))
        else:
            return ops
    return ops


def _time(rng: random.Random, lasts_s: float) -> float:
    return round(rng.uniform(BEGIN_S, lasts_s), 4)


def draw_group_settings(rng: random.Random) -> dict[str, int]:
    """Of every node: times shorter than any of a deployed cluster, and few partitions, so that groups share their fate."""
    return {
        "group_min_session_timeout_ms": 100,
        "group_consumer_min_session_timeout_ms": 100,
        "group_consumer_min_heartbeat_interval_ms": 10,
        "group_initial_rebalance_delay_ms": rng.choice((0, 0, 200)),
        "group_consumer_session_timeout_ms": rng.choice((1_000, 2_000, 4_000)),
        "group_consumer_heartbeat_interval_ms": rng.choice((100, 300)),
        "offsets_commit_timeout_ms": rng.choice((500, 2_000, 5_000)),
        "offsets_topic_num_partitions": rng.choice((1, 2, 4)),
    }


def draw_produced(rng: random.Random, nodes: int, lasts_s: float) -> WorkloadPlan:
    """What there is to read: of topics that keep all."""
    names = [f"t{number}" for number in range(rng.randint(1, 2))]
    topics = tuple(TopicPlan(name, rng.choice((1, 2, 4, 6)), min(nodes, 3)) for name in names)
    clients = (
        ClientPlan("idempotent", compression=rng.choice(COMPRESSIONS), delivery_timeout_s=rng.choice((3.0, 10.0))),
        ClientPlan("plain", delivery_timeout_s=3.0),
        ClientPlan("reader", topics=tuple(names), max_wait_s=0.2),
        ClientPlan("admin"),
    )
    ops = [_draw_send(rng, number, topics, lasts_s) for number in range(int(lasts_s * SENDS_PER_S))]
    ops += [Op(_time(rng, lasts_s), 2, "poll") for _ in range(int(lasts_s * POLLS_PER_S))]
    if rng.random() < 0.3:
        grown = rng.choice(topics)
        ops.append(Op(_time(rng, lasts_s), 3, "create-partitions", grown.name, count=grown.partitions + 2))
        ops += [replace(_draw_send(rng, 10_000 + n, (grown,), lasts_s), partition=grown.partitions + n % 2) for n in range(10)]
    return WorkloadPlan(topics, clients, tuple(sorted(ops, key=lambda op: op.at)))


def _draw_send(rng: random.Random, number: int, topics: tuple[TopicPlan, ...], lasts_s: float) -> Op:
    topic = rng.choice(topics)
    partition, count = rng.randrange(topic.partitions), rng.choice((1, 1, 3, 10))
    producer = rng.choice((0, 0, 1))
    return Op(_time(rng, lasts_s), producer, "send", topic.name, partition, count=count, payload_bytes=20, value=f"v{number}")
