"""What clients do in a run about events that come again, as plain data: several producers send the same ones."""

import random

from .plan import BEGIN_S, COMPRESSIONS, ClientPlan, Op, TopicPlan, WorkloadPlan

SENDS_PER_S, POLLS_PER_S = 30, 4
WEEK_MS = "604800000"  # no simulated clock jumps so far
PRODUCERS, READER = 4, 4


def draw_events(rng: random.Random, nodes: int, lasts_s: float) -> WorkloadPlan:
    """Idempotent producers, and others that try once: what came of that nobody knows, and so it is sent again."""
    topics = tuple(_draw_topic(rng, f"d{number}", nodes) for number in range(rng.randint(1, 2)))
    kinds = ("idempotent", "idempotent", "plain", rng.choice(("idempotent", "plain", "leader")))
    clients = (
        *(
            ClientPlan(kind, compression=rng.choice(COMPRESSIONS), delivery_timeout_s=rng.choice((1.0, 3.0, 10.0)))
            for kind in kinds
        ),
        ClientPlan("reader", topics=tuple(topic.name for topic in topics), partition_bytes_max=rng.choice((300, 4096, 1 << 20))),
    )
    pool = int(lasts_s * SENDS_PER_S * rng.choice((0.2, 0.5, 0.8)))
    ops = [_draw_send(rng, topics, pool, lasts_s) for _ in range(int(lasts_s * SENDS_PER_S))]
    ops += [Op(_time(rng, lasts_s), READER, "poll") for _ in range(int(lasts_s * POLLS_PER_S))]
    return WorkloadPlan(topics, clients, tuple(sorted(ops, key=lambda op: op.at)))


def _draw_topic(rng: random.Random, name: str, nodes: int) -> TopicPlan:
    configs = {"quorumlog.dedup.window.ms": WEEK_MS, "compression.type": rng.choice(("producer", "producer", "zstd"))}
    return TopicPlan(name, rng.choice((1, 1, 2)), min(nodes, 3), configs)


def _draw_send(rng: random.Random, topics: tuple[TopicPlan, ...], pool: int, lasts_s: float) -> Op:
    """Events come soon after each other, as those do that are sent again."""
    at = _time(rng, lasts_s)
    topic, newest = rng.choice(topics), int(pool * at / lasts_s)
    numbers = [max(0, newest - int(rng.expovariate(0.2))) for _ in range(rng.choice((1, 1, 1, 3)))]
    return Op(
        at,
        rng.randrange(PRODUCERS),
        "send",
        topic.name,
        rng.randrange(topic.partitions),
        payload_bytes=rng.choice((0, 20, 100)),
        value=" ".join(f"e{number}" for number in numbers),
        is_event=True,
    )


def _time(rng: random.Random, lasts_s: float) -> float:
    return round(rng.uniform(BEGIN_S, lasts_s), 4)
