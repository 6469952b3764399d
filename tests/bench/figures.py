"""What a benchmark yields: figures, of a contestant and a round, with their medians and ratios."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "quorumlog"


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    more_is_better: bool = False


RECORDS_S = Unit("records/s", more_is_better=True)
RECORDS = Unit("records", more_is_better=True)
MB_S = Unit("MB/s", more_is_better=True)
PER_S = Unit("1/s", more_is_better=True)
MS = Unit("ms")
S = Unit("s")
MIB = Unit("MiB")
CPU_S_M = Unit("CPU s/M records")
CPU_MS_MB = Unit("CPU ms/MB")
TIMES = Unit("x")
BYTES = Unit("bytes")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: of which case ("1 KiB, one producer"), what was measured ("rate"), in which unit."""

    case: str
    what: str
    unit: Unit
    value: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with who was measured, in which workload and round."""

    workload: str
    contestant: str
    round: int
    figure: Figure


Key = tuple[str, str, str, Unit]  # workload, case, what, unit


@dataclass(slots=True)
class Figures:
    """All figures of a run, in the order in which they came."""

    measured: list[Measured] = field(default_factory=list)

    def add(self, workload: str, contestant: str, round_: int, figures: Iterable[Figure]) -> None:
        """Figures as they come: what was found before a failure counts."""
        for figure in figures:
            self.measured.append(Measured(workload, contestant, round_, figure))

    def lines(self) -> list[Key]:
        """Every line of the table once, in order of first appearance."""
        return list(dict.fromkeys((m.workload, m.figure.case, m.figure.what, m.figure.unit) for m in self.measured))

    def contestants(self) -> list[str]:
        return list(dict.fromkeys(m.contestant for m in self.measured))

    def values(self, key: Key, contestant: str) -> list[float]:
        return [
            m.figure.value
            for m in self.measured
            if m.contestant == contestant and (m.workload, m.figure.case, m.figure.what, m.figure.unit) == key
        ]

    def median(self, key: Key, contestant: str) -> float | None:
        values = self.values(key, contestant)
        return statistics.median(values) if values else None

    def ratio(self, key: Key, peer: str) -> float | None:
        """Our median by the peer's: above 1 is more of it, be it records or milliseconds. None where one is nothing or less."""
        ours, theirs = self.median(key, OURS) or 0.0, self.median(key, peer) or 0.0
        return ours / theirs if ours > 0 and theirs > 0 else None

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"workload": m.workload, "contestant": m.contestant, "round": m.round, **asdict(m.figure), "unit": m.figure.unit.name}
            for m in self.measured
        ]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]
