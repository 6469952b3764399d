"""What will be done to a cluster, and when, drawn from a seed before anything is started."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.targets import Ability

SETTLE_SHARE = 0.75
PAUSE_S = (0.5, 3.0)
LEAST_FAULT_S = 2.0  # no fault with its healing takes less: so a schedule that is drawn by it is never too short


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, the pause after it, and whether all replicas must be in sync before the next one. Without `settles` it may strike
    while the cluster still mends the last one."""

    fault: Fault
    pause_s: float
    settles: bool

    def __str__(self) -> str:
        return f"{self.fault}, then {self.pause_s:.1f} s{'' if self.settles else ' without waiting for sync'}"


def possible(abilities: frozenset[Ability]) -> list[str]:
    """The names of the faults that a target with these abilities can suffer."""
    return [name for name, fault in FAULTS.items() if fault.needs <= abilities]


def draw(seed: int, *, seconds: float, names: Sequence[str]) -> list[Planned]:
    """Enough for a round of that length. Every fault comes once, in drawn order, before any comes again."""
    rng = random.Random(f"faults {seed}")
    planned: list[Planned] = []
    for name in itertools.islice(_decks(rng, names), max(1, int(seconds / LEAST_FAULT_S))):
        fault = FAULTS[name].draw(rng)
        planned.append(Planned(fault, pause_s=rng.uniform(*PAUSE_S), settles=rng.random() < SETTLE_SHARE))
    return planned


def _decks(rng: random.Random, names: Sequence[str]) -> Iterator[str]:
    while True:
        deck = list(names)
        rng.shuffle(deck)
        yield from deck
