"""What is measured, one file a workload. `measure(contestant, bench)` runs one round and returns its figures."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.contestants import Contestant, Site
from tests.bench.figures import Figure


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each: seconds of a phase and of the warm-up before it, rounds."""

    seconds: float = 8.0
    warm_up_s: float = 8.0
    rounds: int = 3
    faults: int = 3
    growth_mb: tuple[int, int] = (100, 2_000)
    stored_mb: int = 1_000
    partitions: int = 1_000


FULL = Scale()
QUICK = Scale(seconds=1.0, warm_up_s=0.5, rounds=1, faults=1, growth_mb=(10, 50), stored_mb=30, partitions=60)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a workload needs beside the one that is measured."""

    site: Site
    scale: Scale
    lines: str | None  # the file of real order lines
    yardstick: str | None  # the script of the yardstick
    half_peak: Callable[[], float]  # records of 1 KiB a second


Workload = Callable[[Contestant, Bench], list[Figure]]
