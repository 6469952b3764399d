"""What is measured, one file a workload. `measure(contestant, bench)` runs one round and returns its figures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench.contestants import Contestant, Site
from tests.bench.figures import Figure


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each. With these a whole run takes some forty minutes on a calm machine, Kafka's turns included."""

    rounds: int = 3
    seconds: float = 6.0  # of a phase
    warm_up_s: float = 8.0
    faults: int = 3  # of each kind
    stored_mb: int = 600  # read by consumers, and there at a restart
    short_mb: int = 200  # of a log that grows
    long_mb: int = 2_000
    partitions: int = 1_000
    grown_partitions: int = 3_000
    producers: int = 100
    connections: int = 1_000
    groups: int = 200
    topics: int = 50


FULL = Scale()
QUICK = Scale(
    rounds=1,
    seconds=1.0,
    warm_up_s=0.5,
    faults=1,
    stored_mb=12,
    short_mb=6,
    long_mb=24,
    partitions=30,
    grown_partitions=60,
    producers=8,
    connections=30,
    groups=4,
    topics=3,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a workload needs beside the one that is measured."""

    site: Site
    scale: Scale
    lines: str | None  # the file of real order lines
    yardstick: str | None  # the script of the yardstick
    half_peak: Callable[[], float]  # records of 1 KiB a second
    say: Callable[[str], None]


Workload = Callable[[Contestant, Bench], Iterable[Figure]]
