"""What is aimed at: bounds of ratios to a peer, and of our own figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.figures import OURS, Figures, Key
from tests.bench.table import number

KAFKA, YARDSTICK = "kafka", "yardstick"
ACKNOWLEDGED, NEW_CLIENT = "to the next acknowledgment", "to a new client's acknowledgment"
MORE_TIME, MORE_CPU = "time per MB", "brokers' processor time per MB"


@dataclass(frozen=True, slots=True)
class Target:
    """`case` is how the case begins or, with a star in front, what is in it. `against` is the peer of a ratio; without one the
    bound is that of our own median."""

    workload: str
    case: str
    what: str
    bound: float
    at_least: bool = False
    against: str | None = None

    def meets(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def keys(self, figures: Figures) -> list[Key]:
        return [key for key in figures.lines() if key[0] == self.workload and key[2] == self.what and self._is_case(key[1])]

    def _is_case(self, case: str) -> bool:
        return self.case[1:] in case if self.case.startswith("*") else case.startswith(self.case)


def ratio(workload: str, case: str, what: str, bound: float, *, at_least: bool = False, against: str = KAFKA) -> Target:
    return Target(workload, case, what, bound, at_least, against)


TARGETS = (
    ratio("throughput", "", "rate", 1.0, at_least=True),
    ratio("throughput", "after the start", "resident memory", 1 / 3),
    ratio("throughput", "1 KiB, one producer", "brokers' peak memory", 1 / 2),
    ratio("latency", "1,000 records/s", "acknowledged, p50", 1.0),
    ratio("latency", "1,000 records/s", "acknowledged, p99", 1.0),
    ratio("latency", "half of the peak rate", "acknowledged, p99", 1.0),
    ratio("consuming", "from the page cache", "rate", 1.0, at_least=True),
    ratio("failover", "kill -9", ACKNOWLEDGED, 1 / 10),
    Target("failover", "kill -9", ACKNOWLEDGED, 0.7),
    # A node that is silent keeps its connections: clients that were there wait for their own timeouts, whoever the cluster is.
    ratio("failover", "SIGSTOP", NEW_CLIENT, 1 / 3),
    ratio("failover", "cable", NEW_CLIENT, 1 / 3),
    Target("failover", "planned move", "longest time without acknowledgment", 100),
    ratio("start", "empty cluster", "to ready", 1 / 3),
    Target("many", "*partitions instead of", MORE_TIME, 1.3),
    Target("many", "*partitions instead of", MORE_CPU, 1.3),
    Target("growth", "*instead of", MORE_TIME, 1.3),
    Target("growth", "*instead of", MORE_CPU, 1.3),
    ratio("yardstick", "", "rate", 0.7, at_least=True, against=YARDSTICK),
    ratio("yardstick", "", "acknowledged, p50", 1.0, against=YARDSTICK),
    ratio("yardstick", "", "acknowledged, p99", 1.0, against=YARDSTICK),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    what: str
    wanted: str
    seen: float
    met: bool


def judged(figures: Figures, targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """Of every target that was measured."""
    return [verdict for target in targets for key in target.keys(figures) if (verdict := _verdict(figures, target, key))]


def _verdict(figures: Figures, target: Target, key: Key) -> Verdict | None:
    seen = figures.ratio(key, target.against) if target.against else figures.median(key, OURS)
    if seen is None:
        return None
    workload, case, what, unit = key
    bound = f"{'at least' if target.at_least else 'at most'} {number(target.bound)}"
    measure = f"of {target.against}'s" if target.against else unit.name
    return Verdict(f"{workload}: {case}: {what}", f"{bound} {measure}", seen, target.meets(seen))


def as_text(verdicts: Sequence[Verdict]) -> str:
    return "\n".join(
        f"{'met   ' if each.met else 'MISSED'}  {number(each.seen):>8}  {each.wanted:24}  {each.what}" for each in verdicts
    )


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    lines = [f"| {each.what} | {each.wanted} | {number(each.seen)} | {'met' if each.met else 'missed'} |" for each in verdicts]
    return "\n".join(["| target | wanted | seen | |", "|---|---|---|---|", *lines])
