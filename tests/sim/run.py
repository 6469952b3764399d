"""One seed, one run, one result."""

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.sim.clients.compaction_plan import draw_compacted, draw_compaction_settings
from tests.sim.clients.dedup_plan import draw_events
from tests.sim.clients.group_plan import draw_group_settings, draw_groups, draw_produced
from tests.sim.clients.plan import WorkloadPlan
from tests.sim.clients.transaction_plan import draw_input, draw_transaction_settings, draw_transactions
from tests.sim.clients.workload import draw_workload
from tests.sim.invariants.sight import Violation
from tests.sim.plan import Options, Plan, draw_falls, draw_faults, draw_options
from tests.sim.world import World

FAULTS_LAST_S = (4.0, 10.0)
OPERATIONS_PER_S = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one run. `failure` is None, or the name of what was violated and a sentence."""

    seed: int
    failure: str | None
    trace: str
    simulated_s: float
    cpu_s: float
    operations: int
    messages: int
    in_sync_after_s: float
    struck: dict[str, int] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    detail: str = ""

    @property
    def kind(self) -> str:
        """Which invariant was violated, or what else went wrong."""
        return "" if self.failure is None else self.failure.split(":", 1)[0]


def draw_plan(seed: int) -> Plan:
    rng = random.Random(f"{seed} plan")
    options = draw_options(rng)
    heal_at_s = rng.uniform(*FAULTS_LAST_S)
    faults = draw_faults(rng, options, heal_at_s)
    workload = draw_workload(rng, nodes=options.nodes, lasts_s=heal_at_s, operations_per_s=OPERATIONS_PER_S)
    return Plan(seed, options, faults, heal_at_s, workload)


def _draw_apart(seed: int, kind: str, draw_settings: Callable[[random.Random], dict[str, int]]) -> tuple[random.Random, Plan]:
    """A cluster with these settings and its faults, to which the workload of its kind is still to be drawn."""
    rng = random.Random(f"{seed} plan with {kind}")
    options = draw_options(rng)
    options = replace(options, settings=options.settings | draw_settings(rng))
    heal_at_s = rng.uniform(*FAULTS_LAST_S)
    return rng, Plan(seed, options, draw_faults(rng, options, heal_at_s), heal_at_s, WorkloadPlan((), (), ()))


def draw_groups_plan(seed: int) -> Plan:
    """The same kinds of clusters and faults, with consumer groups; drawn apart, so that neither kind changes the other."""
    rng, plan = _draw_apart(seed, "groups", draw_group_settings)
    workload = draw_produced(rng, plan.options.nodes, plan.heal_at_s)
    groups = draw_groups(rng, tuple(topic.name for topic in workload.topics), plan.heal_at_s)
    return replace(plan, workload=workload, groups=groups)


def draw_compaction_plan(seed: int) -> Plan:
    """The same kinds of clusters and faults, with topics that are compacted, that of the groups' offsets included."""
    rng, plan = _draw_apart(seed, "compaction", draw_compaction_settings)
    workload = draw_compacted(rng, plan.options.nodes, plan.heal_at_s)
    return replace(plan, workload=workload, groups=draw_groups(rng, ("t0",), plan.heal_at_s))


def draw_transactions_plan(seed: int) -> Plan:
    """The same kinds of clusters and faults, with transactions; and falls at the steps in which they end."""
    rng, plan = _draw_apart(seed, "transactions", draw_transaction_settings)
    transactions = draw_transactions(rng, plan.heal_at_s)
    workload = draw_input(rng, plan.options.nodes, transactions, plan.heal_at_s)
    faults = tuple(sorted((*plan.faults, *draw_falls(rng, plan.heal_at_s)), key=lambda fault: fault.at_s))
    return replace(plan, faults=faults, workload=workload, transactions=transactions)


def draw_dedup_plan(seed: int) -> Plan:
    """The same kinds of clusters and faults, with topics that drop events which come again."""
    rng, plan = _draw_apart(seed, "dedup", lambda _: {})
    return replace(plan, workload=draw_events(rng, plan.options.nodes, plan.heal_at_s))


DRAWINGS: dict[str, Callable[[int], Plan]] = {
    "records": draw_plan,
    "groups": draw_groups_plan,
    "compaction": draw_compaction_plan,
    "transactions": draw_transactions_plan,
    "dedup": draw_dedup_plan,
}


def healthy_plan(seed: int, seconds: float) -> Plan:
    """Three nodes as deployed, and nothing goes wrong."""
    workload = draw_workload(random.Random(f"{seed} plan"), nodes=3, lasts_s=seconds, operations_per_s=OPERATIONS_PER_S)
    return Plan(seed, Options(), (), seconds, workload)


def run_seed(seed: int, workload: str = "records") -> Result:
    return run_plan(DRAWINGS[workload](seed))


def run_plan(plan: Plan) -> Result:
    world = World(plan)
    started = time.process_time()
    failure, detail = None, ""
    try:
        world.run()
    except Violation as violation:
        failure = str(violation)
        detail = traceback.format_exc() if violation.__cause__ is not None else ""
    except Exception as error:
        failure, detail = f"{type(error).__name__}: {error}", traceback.format_exc()
    return Result(
        plan.seed,
        failure,
        world.trace,
        world.loop.now,
        time.process_time() - started,
        len(world.history) + world.events_sent,
        world.messages,
        world.in_sync_after_s,
        dict(world.struck),
        tuple(world.events) if failure else (),
        detail,
    )
