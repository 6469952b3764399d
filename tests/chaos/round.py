"""One round: work on a cluster, the planned faults one after the other, healing, and what the faults did to the work."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from tests.chaos.faults import Struck
from tests.chaos.faults.damage import DamagedFile
from tests.chaos.schedule import Planned
from tests.chaos.screen import Screen
from tests.chaos.stage import Disorder, Place, Stage
from tests.chaos.targets import TargetError
from tests.chaos.workloads import Running, WorkloadError

WARM_UP_S = 3.0
READY_TIMEOUT_S = 60.0
IN_SYNC_S = 10.0
FINISH_S = 90.0
FAILOVER_S = 6.0
"""Longest time that a fault on one node may hold up what the others lead."""

FAILURES = (Disorder, TargetError, WorkloadError, KafkaException, OSError, AssertionError)
"""What faults and work raise when the cluster does not do what it must; the last from clients that are never answered."""


@dataclass(frozen=True, slots=True)
class Made:
    """A fault as it happened; times on the history's clock, in seconds.

    `silence_s` is the longest time in which some partition acknowledged nothing, from the fault until the next one;
    `others_silence_s` the same of the partitions that no victim led, acknowledgments and reads, where that can be judged.
    """

    name: str
    struck: Struck
    begin: float
    end: float
    in_sync_s: float | None
    silence_s: float
    others_silence_s: float | None


@dataclass
class Course:
    """What came of a round so far. `complaints` say what the cluster, or the round itself, did not do."""

    made: list[Made] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    in_sync_s: float | None = None
    ended_early: str = ""


class Round:
    """Owns nothing: target and work belong to the caller."""

    def __init__(self, stage: Stage, work: Running, screen: Screen) -> None:
        self._stage = stage
        self._work = work
        self._screen = screen
        self._damaged: set[int] = set()
        self.course = Course()

    def play(self, plan: Iterable[Planned], seconds: float) -> Course:
        """Make the faults for so long, heal, wait for everything that is under way. Raises nothing: it is in the complaints."""
        ends = self._now() + seconds
        time.sleep(min(WARM_UP_S, seconds / 4))
        for planned in plan:
            if self._now() > ends or self.course.complaints or self.course.ended_early:
                break
            self._attempt(planned)
        self._screen.doing("healing")
        self._complain_of(self._heal)
        self._screen.doing("reading everything")
        self._complain_of(lambda: self._work.finish(FINISH_S))
        return self.course

    def _attempt(self, planned: Planned) -> None:
        self._screen.doing(planned.fault.name)
        self._complain_of(lambda: self._make(planned), planned.fault.name)

    def _make(self, planned: Planned) -> None:
        fault, before = planned.fault, self._stage.places()
        begin = self._now()
        struck = fault.begin(self._stage)
        self._screen.say(f"{fault.name}: {struck}")
        time.sleep(fault.hold_s)
        fault.end(self._stage)
        if isinstance(fault, DamagedFile):
            self._damaged.update(struck.victims)
        self._wait_ready()
        in_sync_s = self._stage.wait_in_sync(IN_SYNC_S) if planned.settles else None
        end = self._now()
        time.sleep(planned.pause_s)
        others = self._others(before, struck)
        made = Made(
            *(fault.name, struck, begin, end, in_sync_s),
            silence_s=self._silence([place.key for place in before], begin),
            others_silence_s=self._silence(others, begin, reads=True) if others else None,
        )
        self.course.made.append(made)
        self._judge(made)

    def _wait_ready(self) -> None:
        """Every node that may run runs, and serves. One that ends by itself after its files were damaged is lost."""
        exited = [node for node in self._stage.living if not self._stage.target.is_running(node)]
        try:
            self._stage.target.wait_ready(READY_TIMEOUT_S)
        except TargetError:
            exited = [node for node in self._stage.living if not self._stage.target.is_running(node)]
            if not exited:
                raise
        for node in exited:
            if node not in self._damaged:
                raise Disorder(f"node {node} has ended by itself:\n{self._stage.target.log_tails()[node]}")
            self._stage.lost.add(node)
            self.course.ended_early = f"node {node} has stopped over its damaged files, and stays down"
            self._screen.say(self.course.ended_early)

    def _heal(self) -> None:
        if self._stage.target.links is not None:
            self._stage.target.links.heal()
        for node in self._stage.living:
            self._stage.target.resume(node)
            if not self._stage.target.is_running(node):
                self._stage.target.start_node(node, wait=False)
        self._wait_ready()
        self.course.in_sync_s = self._stage.wait_in_sync(IN_SYNC_S)

    def _judge(self, made: Made) -> None:
        if made.others_silence_s is not None and made.others_silence_s > FAILOVER_S:
            waited = f"held up what the others lead for {made.others_silence_s:.1f} s"
            self.course.complaints.append(f"{made.name} of {made.struck}, at {made.begin:.1f} s, {waited}")

    def _others(self, before: Sequence[Place], struck: Struck) -> list[str]:
        """What one victim must not hold up: nothing to be judged where an earlier fault may do so."""
        if len(struck.victims) != 1 or any(len(place.in_sync) < len(place.replicas) for place in before):
            return []
        return [place.key for place in before if place.leader not in struck.victims]

    def _silence(self, keys: Sequence[str], begin: float, *, reads: bool = False) -> float:
        now = self._now()
        marks = [self._work.acks, *([self._work.reads] if reads else ())]
        known = [(mark, key) for mark in marks for key in set(mark.keys()).intersection(keys)]
        return max((mark.silence(key, begin, now) for mark, key in known), default=0.0)

    def _complain_of(self, deed: Callable[[], object], what: str = "") -> None:
        try:
            deed()
        except FAILURES as error:
            self.course.complaints.append(f"{what}{': ' if what else ''}{error}")
            self._screen.say(self.course.complaints[-1])

    def _now(self) -> float:
        return time.monotonic() - self._work.started
