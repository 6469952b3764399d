"""The schedule comes from the seed alone, strikes with everything that a target can suffer, and fills the time."""

import itertools

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import LEAST_FAULT_S, PAUSE_S, draw, possible
from tests.chaos.targets import Ability

EVERYTHING = list(FAULTS)


def shown(seed: int, names: list[str] = EVERYTHING) -> list[str]:
    return [str(planned) for planned in draw(seed, seconds=300, names=names)]


def test_a_seed_draws_one_schedule() -> None:
    """Again the same, parameters and pauses included; with another seed another one."""
    assert shown(7) == shown(7)
    assert shown(7) != shown(8)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_comes_before_any_comes_again(seed: int) -> None:
    """No kind is left out by chance for long."""
    names = [planned.fault.name for planned in draw(seed, seconds=len(FAULTS) * LEAST_FAULT_S * 3, names=EVERYTHING)]
    decks = [names[start : start + len(FAULTS)] for start in range(0, len(names), len(FAULTS))]
    assert [sorted(deck) for deck in decks] == [sorted(EVERYTHING)] * 3
    assert decks[0] != decks[1]


def test_the_schedule_outlasts_the_round() -> None:
    """Even if every fault took the least time, there would be one for each moment; a short round has at least one."""
    plan = draw(1, seconds=600, names=["kill"])
    assert len(plan) * LEAST_FAULT_S >= 600
    assert len(draw(1, seconds=0.1, names=["kill"])) == 1


def test_only_what_was_asked_for() -> None:
    """Names given on the command line are the whole choice."""
    assert {planned.fault.name for planned in draw(3, seconds=60, names=["pause", "move"])} == {"pause", "move"}


@pytest.mark.parametrize(
    ("abilities", "missing"),
    [
        (set(Ability), set()),
        (set(Ability) - {Ability.DISKS}, {"disk-full", "power-loss"}),
        (set(Ability) - {Ability.ISOLATE}, {"isolate"}),
        (set(Ability) - {Ability.LINKS}, {"bridge", "cut-both-ways", "cut-one-way", "deaf", "leader-alone", "mute"}),
        (set(Ability) - {Ability.FILES}, {"damage-raft", "damage-segment", "damage-store"}),
    ],
)
def test_a_target_suffers_what_it_can(abilities: set[Ability], missing: set[str]) -> None:
    """Each ability brings its faults; without it they are not drawn."""
    assert set(possible(frozenset(abilities))) == set(EVERYTHING) - missing


def test_what_is_drawn_varies_and_stays_in_bounds() -> None:
    """Over some seeds every choice is made: who is struck, how many lose power, short pauses and long ones, cuts and flips."""
    drawn = [planned for seed in range(30) for planned in draw(seed, seconds=300, names=EVERYTHING)]
    faults = {name: [one.fault for one in drawn if one.fault.name == name] for name in EVERYTHING}
    assert {str(fault.victim) for fault in faults["kill"]} == {"leader", "controller", "coordinator", "random"}
    assert {fault.count for fault in faults["power-loss"]} == {1, 2, 3}
    assert {fault.stand_still for fault in faults["power-loss"]} == {True, False}
    assert {fault.kill for fault in faults["topics"]} == {True, False}
    assert {(fault.cut, fault.clean) for fault in faults["damage-store"]} == set(itertools.product([True, False], repeat=2))
    held = [fault.hold_s for fault in faults["pause"]]
    assert min(held) < 2 < 10 < max(held), "pauses within the session timeout and far over it"
    assert all(PAUSE_S[0] <= one.pause_s <= PAUSE_S[1] for one in drawn)
    assert {one.settles for one in drawn} == {True, False}
