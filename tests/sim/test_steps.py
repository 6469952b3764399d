"""Whoever falls at a step of a transaction's end, by a signal or without power: each transaction is whole or not there."""

import random
from dataclasses import replace

import pytest

from tests.sim.clients.transaction_plan import draw_input, draw_transactions
from tests.sim.plan import Fault, Options, Plan
from tests.sim.run import draw_transactions_plan
from tests.sim.steps import COORDINATOR, HERE, STEPS, Trap
from tests.sim.world import World

LASTS_S = 4.5
FALLS_AT_S = (1.5, 2.9)
SETTINGS = {"transaction_state_log_num_partitions": 1, "offsets_topic_num_partitions": 1, "session_timeout_ms": 600}


def plan_of(kind: str, seed: int) -> Plan:
    """Three nodes, transactions, and the same fall twice: of who is at the step, then of the coordinator."""
    rng = random.Random(f"{seed} {kind}")
    options = Options(settings=SETTINGS | {"heartbeat_interval_ms": 100, "group_initial_rebalance_delay_ms": 0})
    transactions = draw_transactions(rng, LASTS_S)
    falls = tuple(
        Fault(at_s, kind, victim, lasts_s=1.4, chance=chance)
        for at_s, victim, chance in zip(FALLS_AT_S, (HERE, COORDINATOR), (0.0, 0.3), strict=True)
    )
    return replace(
        Plan(seed, options, falls, LASTS_S, draw_input(rng, options.nodes, transactions, LASTS_S)), transactions=transactions
    )


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("step", STEPS)
def test_a_fall_at_this_step_tears_nothing(step: str, how: str) -> None:
    world = World(plan_of(f"{how} at {step}", seed=1))
    world.run()
    assert world.sprung[step] >= 2, world.sprung


def test_a_trap_strikes_once_when_enough_have_passed() -> None:
    trap = Trap("end received", to_pass=2, victim=HERE, power=False)
    told = [trap.springs(step) for step in ("end received", "marker sent", "end received", "end received", "end received")]
    assert told == [False, False, False, True, False]


def test_every_step_is_drawn_for_somebody_to_fall_at() -> None:
    """By either cause, in about half of the seeds; the others are spared."""
    drawn = [[fault for fault in draw_transactions_plan(seed).faults if " at " in fault.kind] for seed in range(150)]
    falls = [[fault for fault in faults if fault.kind.partition(" at ")[2] in STEPS] for faults in drawn]
    assert {fault.kind for faults in falls for fault in faults} == {
        f"{how} at {step}" for how in ("kill", "power") for step in STEPS
    }
    assert {fault.victim for faults in falls for fault in faults} == {HERE, COORDINATOR}
    assert 40 < sum(not faults for faults in falls) < 110
