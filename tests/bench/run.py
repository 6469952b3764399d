"""A run: every workload, round by round, each contestant in turn (A B A B), so that what the machine does hits all of them alike.

Only one contestant is up at a time: each block starts an empty cluster, warms it up, measures, and takes it down with its data.
"""

import os
import statistics
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.contestants import Contestant, Site
from tests.bench.crew import CrewError
from tests.bench.figures import RECORDS_S, Figure, Figures
from tests.bench.machine import load_average
from tests.bench.workloads import Bench, Scale, Workload, consuming, failover, growth, latency, many, start, throughput, yardstick

WORKLOADS: dict[str, Workload] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "consuming": consuming.measure,
    "many": many.measure,
    "failover": failover.measure,
    "start": start.measure,
    "growth": growth.measure,
    "yardstick": yardstick.measure,
}
LONG = {"many", "start", "growth"}
PEAK = ("throughput", throughput.ONE_KIB, "rate", RECORDS_S)


def rounds_of(workload: str, rounds: int) -> int:
    """Faults are repeated within a turn, and what takes minutes gets a round less, for a whole run to end within the hour."""
    if workload == "failover":
        return 1
    return max(rounds - 1, 1) if workload in LONG else rounds


@dataclass(slots=True)
class Run:
    """Who is measured, how much, and what was found so far. `lines` is the file of real order lines, `yardstick` the script;
    `say` takes a line for whoever waits."""

    site: Site
    scale: Scale
    contestants: Sequence[Contestant]
    lines: str | None
    yardstick: str | None
    say: Callable[[str], None]
    figures: Figures = field(default_factory=Figures)
    failures: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=load_average)

    def measure(self, workloads: Sequence[str]) -> None:
        for workload in workloads:
            for round_ in range(1, rounds_of(workload, self.scale.rounds) + 1):
                for contestant in self._contestants_of(workload):
                    self._block(workload, contestant, round_)

    def _contestants_of(self, workload: str) -> list[Contestant]:
        if workload != yardstick.NAME:
            return list(self.contestants)
        return [*self.contestants, yardstick.contestant()]

    def _block(self, workload: str, contestant: Contestant, round_: int) -> None:
        """A contestant that fails is reported, and the others are measured on."""
        self.say(f"{workload}, round {round_}: {contestant.name}")
        bench = Bench(self.site, self.scale, self.lines, self.yardstick, self.half_peak, self.say)
        try:
            self.figures.add(workload, contestant.name, round_, WORKLOADS[workload](contestant, bench))
        except (CrewError, RuntimeError, OSError, TimeoutError) as error:
            self.failures.append(f"{workload}, round {round_}: {contestant.name}: {type(error).__name__}: {error}")
            self.say("".join(traceback.format_exception(error)))
        os.sync()  # what one contestant left to the kernel to write is not the next one's burden

    def half_peak(self) -> float:
        """Half of what the slowest contestant takes: a rate that all of them can bear, and the same for all."""
        missing = [contestant for contestant in self.contestants if not self.figures.values(PEAK, contestant.name)]
        for contestant in missing:
            self.say(f"the peak rate of {contestant.name}")
            self.figures.add("throughput", contestant.name, 0, self._peak(contestant))
        peaks = [self.figures.values(PEAK, contestant.name) for contestant in self.contestants]
        return min(statistics.median(values) for values in peaks) / 2

    def _peak(self, contestant: Contestant) -> list[Figure]:
        bench = Bench(self.site, self.scale, self.lines, None, lambda: 0.0, self.say)
        with contestant.fresh() as cluster:
            throughput.warm_up(cluster, bench)
            return throughput.measure_case(
                cluster, bench, throughput.ONE_KIB, value_bytes=1024, producers=1, seconds=self.scale.seconds
            )
