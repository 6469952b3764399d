"""What transactional producers do in one run, as plain data."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .plan import BEGIN_S, COMPRESSIONS, ClientPlan, Op, TopicPlan, WorkloadPlan

INPUT, OUTPUT = "in", "out"
SENDS_PER_S, TRANSACTIONS_PER_S = 8, 4


@dataclass(frozen=True, slots=True)
class WriterPlan:
    """One transactional id. `version`: of transactions, 1 or 2 (KIP-890). One that moves reads `in` for its group, writes what it
    makes of each record to its own partition of `out`, and commits how far it has come in the same transaction.
    """

    name: str
    version: int
    timeout_ms: int
    moves: bool


@dataclass(frozen=True, slots=True)
class TransactionOp:
    """At `at` seconds writer number `writer` does one transaction, and `ends` it: commit, abort, or leave (it crashes, and what
    comes next does another instance). `usurps`: another instance of the same id does it, beside the one that there is.
    """

    at: float
    writer: int
    partitions: tuple[int, ...]  # of `out` that are written to; of a mover, those of `in` that it reads
    count: int
    ends: str
    usurps: bool
    value: str  # what its values begin with; unique in the plan


@dataclass(frozen=True, slots=True)
class TransactionsPlan:
    writers: tuple[WriterPlan, ...]
    input_partitions: int
    output_partitions: int
    ops: tuple[TransactionOp, ...]  # by time

    def without(self, numbers: set[int]) -> "TransactionsPlan":
        """Without the operations of these numbers."""
        return replace(self, ops=tuple(op for number, op in enumerate(self.ops) if number not in numbers))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def transactions_from_dict(data: Mapping[str, Any]) -> TransactionsPlan:
    """The plan that `as_dict` wrote, also by way of JSON."""
    return TransactionsPlan(
        tuple(WriterPlan(**writer) for writer in data["writers"]),
        data["input_partitions"],
        data["output_partitions"],
        tuple(TransactionOp(**{**op, "partitions": tuple(op["partitions"])}) for op in data["ops"]),
    )


def draw_transactions(rng: random.Random, lasts_s: float) -> TransactionsPlan:
    """One mover at least, and others that only write."""
    writers = tuple(_draw_writer(rng, number) for number in range(rng.randint(2, 4)))
    inputs, outputs = rng.randint(1, 2), len(writers) + rng.randint(0, 2)
    ops = [_draw_op(rng, number, writers, inputs, outputs, lasts_s) for number in range(int(lasts_s * TRANSACTIONS_PER_S))]
    return TransactionsPlan(writers, inputs, outputs, tuple(sorted(ops, key=lambda op: op.at)))


def _draw_writer(rng: random.Random, number: int) -> WriterPlan:
    timeout_ms = rng.choice((1_500, 3_000, 60_000))
    return WriterPlan(f"x{number}", rng.choice((1, 2, 2)), timeout_ms, moves=number == 0 or rng.random() < 0.3)


def _draw_op(
    rng: random.Random, number: int, writers: tuple[WriterPlan, ...], inputs: int, outputs: int, lasts_s: float
) -> TransactionOp:
    writer = rng.randrange(len(writers))
    among = inputs if writers[writer].moves else outputs
    return TransactionOp(
        round(rng.uniform(BEGIN_S, lasts_s), 4),
        writer,
        tuple(sorted(rng.sample(range(among), rng.randint(1, among)))),
        rng.choice((1, 1, 3)),
        rng.choice(("commit", "commit", "commit", "commit", "abort", "abort", "leave")),
        usurps=rng.random() < 0.12,
        value=f"w{number}",
    )


def draw_transaction_settings(rng: random.Random) -> dict[str, int]:
    """Few partitions, so that transactions share their fate."""
    return {
        "transaction_state_log_num_partitions": rng.choice((1, 2, 4)),
        "offsets_topic_num_partitions": rng.choice((1, 2)),
        "group_initial_rebalance_delay_ms": 0,
    }


def draw_input(rng: random.Random, nodes: int, plan: TransactionsPlan, lasts_s: float) -> WorkloadPlan:
    """What movers read: records of an idempotent producer. Whoever reads, reads what is committed."""
    replicas = min(nodes, 3)
    topics = (TopicPlan(INPUT, plan.input_partitions, replicas), TopicPlan(OUTPUT, plan.output_partitions, replicas))
    clients = (
        ClientPlan("idempotent", compression=rng.choice(COMPRESSIONS), delivery_timeout_s=rng.choice((3.0, 10.0))),
        ClientPlan("reader", topics=(INPUT, OUTPUT), max_wait_s=0.2),
    )
    ops = [
        Op(
            round(rng.uniform(BEGIN_S, lasts_s), 4),
            0,
            "send",
            INPUT,
            rng.randrange(plan.input_partitions),
            count=rng.choice((1, 1, 3)),
            value=f"v{number}",
        )
        for number in range(int(lasts_s * SENDS_PER_S))
    ]
    ops += [Op(round(rng.uniform(BEGIN_S, lasts_s), 4), 1, "poll") for _ in range(int(lasts_s * 4))]
    return WorkloadPlan(topics, clients, tuple(sorted(ops, key=lambda op: op.at)), reads_committed=True)
