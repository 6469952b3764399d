"""What clients do in a run about compaction, as plain data: few keys, many values, and somebody who asks for compactions."""

import random

from .group_plan import draw_group_settings
from .plan import BEGIN_S, COMPRESSIONS, ClientPlan, Op, TopicPlan, WorkloadPlan

SENDS_PER_S = 25
POLLS_PER_S = 4
OFFSETS_TOPIC = "__consumer_offsets"
PRODUCERS, KEEPING_READER, COMPACTED_READER, ADMIN = (0, 1), 2, 3, 4


def draw_compaction_settings(rng: random.Random) -> dict[str, int]:
    """Of every node: segments that are closed soon, a look every moment, and a map that may be too small for a pass."""
    return draw_group_settings(rng) | {
        "segment_bytes": rng.choice((1024, 1024, 2048, 8192)),
        "log_cleaner_backoff_ms": rng.choice((20, 100, 500)),
        "log_cleaner_dedupe_buffer_size": rng.choice((1024, 1024, 1 << 20)),
    }


def draw_compacted(rng: random.Random, nodes: int, lasts_s: float) -> WorkloadPlan:
    """A topic that keeps all, for groups to read, and one or two that are compacted."""
    kept = TopicPlan("t0", rng.choice((1, 2)), min(nodes, 3))
    compacted = tuple(_draw_topic(rng, f"c{number}", nodes) for number in range(rng.randint(1, 2)))
    names = tuple(topic.name for topic in compacted)
    clients = (
        ClientPlan("idempotent", compression=rng.choice(COMPRESSIONS), delivery_timeout_s=rng.choice((3.0, 10.0))),
        ClientPlan("plain", compression=rng.choice(COMPRESSIONS), delivery_timeout_s=3.0),
        ClientPlan("reader", topics=(kept.name,), max_wait_s=0.2),
        ClientPlan("reader", topics=names, max_wait_s=0.2, partition_bytes_max=rng.choice((300, 4096, 1 << 20))),
        ClientPlan("admin"),
    )
    ops = [_draw_send(rng, number, kept, compacted, lasts_s) for number in range(int(lasts_s * SENDS_PER_S))]
    ops += [_draw_poll(rng, lasts_s) for _ in range(int(lasts_s * POLLS_PER_S))]
    wanted = [rng.choice((*names, OFFSETS_TOPIC, OFFSETS_TOPIC)) for _ in range(rng.randint(2, 12))]
    ops += [Op(_time(rng, lasts_s), ADMIN, "compact-topic", name, count=1 + number) for number, name in enumerate(wanted)]
    return WorkloadPlan((kept, *compacted), clients, tuple(sorted(ops, key=lambda op: op.at)))


def _draw_topic(rng: random.Random, name: str, nodes: int) -> TopicPlan:
    configs = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": rng.choice(("0", "0", "0.3", "0.6")),
        "delete.retention.ms": rng.choice(("0", "500", "2000", "86400000")),
    }
    if rng.random() < 0.3:
        configs["max.compaction.lag.ms"] = "700"
    return TopicPlan(name, rng.choice((1, 1, 2)), min(nodes, 3), configs)


def _draw_send(rng: random.Random, number: int, kept: TopicPlan, compacted: tuple[TopicPlan, ...], lasts_s: float) -> Op:
    topic = kept if rng.random() < 0.2 else rng.choice(compacted)
    return Op(
        _time(rng, lasts_s),
        rng.choice((0, 0, 1)),
        "send",
        topic.name,
        rng.randrange(topic.partitions),
        count=rng.choice((1, 1, 3, 10)),
        payload_bytes=rng.choice((0, 20, 100)),
        keys=0 if topic is kept else rng.choice((2, 7, 7, 30)),
        value=f"v{number}",
    )


def _draw_poll(rng: random.Random, lasts_s: float) -> Op:
    reader = rng.choice((KEEPING_READER, COMPACTED_READER))
    return Op(_time(rng, lasts_s), reader, "restart-reader" if rng.random() < 0.1 else "poll")


def _time(rng: random.Random, lasts_s: float) -> float:
    return round(rng.uniform(BEGIN_S, lasts_s), 4)
