"""The round itself: what it takes for a failure, what it heals, and when it stops making faults."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from tests.chaos import round as chaos_round
from tests.chaos.faults import Fault, Struck
from tests.chaos.faults.damage import DamagedStore
from tests.chaos.round import FAILOVER_S, Course, Round
from tests.chaos.schedule import Planned
from tests.chaos.screen import Screen
from tests.chaos.stage import Disorder, Place, Role, Stage, Victim
from tests.chaos.targets import TargetError
from tests.chaos.workloads import Counts, WorkloadError
from tests.chaos.workloads.record import Marks


@dataclass
class FakeTarget:
    """Three nodes that do as they are told."""

    name = "fake"
    nodes = (1, 2, 3)
    bootstrap = ""
    links: Any = None
    running: set[int] = field(default_factory=lambda: {1, 2, 3})
    paused: set[int] = field(default_factory=set)

    def is_running(self, node: int) -> bool:
        return node in self.running

    def resume(self, node: int) -> None:
        self.paused.discard(node)

    def start_node(self, node: int, *, wait: bool = True) -> None:
        self.running.add(node)

    def wait_ready(self, _timeout_s: float) -> None:
        return

    def log_tails(self) -> dict[int, str]:
        return dict.fromkeys(self.nodes, "its last words")


class FakeStage(Stage):
    """One partition led by each node."""

    behind = False

    def places(self) -> list[Place]:
        in_sync = (1, 2) if self.behind else tuple(node for node in (1, 2, 3) if node not in self.lost)
        return [Place("orders", node - 1, node, (1, 2, 3), in_sync) for node in (1, 2, 3)]

    def wait_in_sync(self, timeout_s: float) -> float:
        if self.behind:
            raise Disorder("not in sync")
        return 0.25


class FakeWork:
    """Its times are those that a test has put into the marks."""

    def __init__(self) -> None:
        self.started, self.counts, self.acks, self.reads = 0.0, Counts(), Marks(), Marks()
        self.is_finished = False
        self.failure: Exception | None = None

    def finish(self, _timeout_s: float) -> None:
        self.is_finished = True
        if self.failure:
            raise self.failure


@dataclass
class Deed(Fault):
    """A fault that does what a test wants."""

    name = "deed"
    deed: Callable[[], object] = lambda: None
    undo: Callable[[], object] = lambda: None
    victims: tuple[int, ...] = (1,)

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=0.0)

    def begin(self, stage: Stage) -> Struck:
        self.deed()
        return Struck(self.victims)

    def end(self, stage: Stage) -> None:
        self.undo()


class Scene:
    """A round on a clock that moves as the test wants: every sleep and every look at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.target, self.work = FakeTarget(), FakeWork()
        self.stage = FakeStage(self.target)  # type: ignore[arg-type]
        monkeypatch.setattr(chaos_round, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def play(self, *faults: Fault, settles: bool = True) -> Course:
        plan = [Planned(fault, pause_s=1.0, settles=settles) for fault in faults]
        return Round(self.stage, self.work, Screen(60)).play(plan, 60)  # type: ignore[arg-type]

    def acknowledge(self, key: str, *, until: float) -> Callable[[], None]:
        """A deed: time passes, and until then the partition acknowledges ten times a second."""

        def pass_time() -> None:
            for tenth in range(int(until * 10)):
                self.work.acks.add(key, tenth / 10)

        return pass_time


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_a_quiet_round_has_nothing_to_complain_of(scene: Scene) -> None:
    """Faults are made one after the other, the work is finished, the time until all were in sync is told."""
    course = scene.play(Deed(0.5), Deed(0.5))
    assert (course.complaints, course.in_sync_s, course.ended_early) == ([], 0.25, "")
    assert [(made.name, made.end - made.begin) for made in course.made] == [("deed", 0.5)] * 2
    assert scene.work.is_finished


def test_time_ends_the_faults(scene: Scene) -> None:
    """What does not fit into the round is not made."""
    assert len(scene.play(*[Deed(20.0)] * 9).made) == 3


def test_a_node_that_ends_by_itself_is_a_failure(scene: Scene) -> None:
    """Nobody killed it, nothing of it was damaged: its last words are in the complaint, and no other fault is made."""
    course = scene.play(Deed(0.0, deed=lambda: scene.target.running.discard(2)), Deed(0.0))
    assert len(course.complaints) == 1
    assert "node 2 has ended by itself" in course.complaints[0]
    assert "its last words" in course.complaints[0]
    assert course.made == []
    assert scene.work.is_finished


def test_a_node_with_damaged_files_may_stop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays down, the round ends early, and all is well if the others are in sync."""
    monkeypatch.setattr(DamagedStore, "begin", lambda self, stage: Struck((2,), "damaged"))
    monkeypatch.setattr(DamagedStore, "end", lambda self, stage: scene.target.running.discard(2))
    course = scene.play(DamagedStore(0.0, 0, clean=True, cut=True, place=0.5), Deed(0.0))
    assert course.complaints == []
    assert "node 2" in course.ended_early
    assert scene.stage.lost == {2}
    assert 2 not in scene.target.running
    assert [made.name for made in course.made] == ["damage-store"]


@pytest.mark.parametrize("error", [Disorder("no"), TargetError("no"), OSError("no"), AssertionError("no")])
def test_a_fault_that_fails_ends_the_faults_not_the_round(scene: Scene, error: Exception) -> None:
    """Whatever it left behind is healed: cuts, pauses, nodes that are down; then the work is finished and judged."""

    def fail() -> None:
        scene.target.running.discard(3)
        scene.target.paused.add(1)
        raise error

    course = scene.play(Deed(0.0, deed=fail), Deed(0.0))
    assert course.complaints == ["deed: no"]
    assert scene.target.running == {1, 2, 3}
    assert not scene.target.paused
    assert scene.work.is_finished


def test_replicas_that_stay_behind_are_a_failure(scene: Scene) -> None:
    """At the end all must be in sync."""
    scene.stage.behind = True
    course = scene.play(Deed(0.0), settles=False)
    assert (course.complaints, course.in_sync_s) == (["not in sync"], None)


def test_work_that_does_not_finish_is_a_failure(scene: Scene) -> None:
    """An answer that never comes, a reader that does not reach the end."""
    scene.work.failure = WorkloadError("behind the end")
    assert scene.play(Deed(0.0)).complaints == ["behind the end"]


@pytest.mark.parametrize(("silent_s", "is_fine"), [(FAILOVER_S - 1.0, True), (FAILOVER_S + 1.0, False)])
def test_one_victim_must_not_hold_up_the_others(scene: Scene, silent_s: float, is_fine: bool) -> None:
    """A partition that another node leads acknowledges nothing: for the time of a fail-over that may be, for longer not."""
    course = scene.play(Deed(silent_s, deed=scene.acknowledge("orders-1", until=3.0)))
    assert (course.complaints == []) is is_fine
    silence = course.made[0].others_silence_s
    assert silence == pytest.approx(silent_s + 1.0, abs=0.2)  # the pause after the fault counts


def test_the_coordinator_leads_states_of_transactions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number picks one of its partitions; where there are none yet, it is the leader of most partitions."""
    assert scene.stage.node_of(Victim(Role.COORDINATOR, 5)) == 1
    states = [Place("__transaction_state", number, leader, (1, 2, 3), (1, 2, 3)) for number, leader in enumerate((3, 2, -1))]
    monkeypatch.setattr(scene.stage, "places", lambda: [Place("orders", 0, 1, (1, 2, 3), (1, 2, 3)), *states])
    assert [scene.stage.node_of(Victim(Role.COORDINATOR, number)) for number in (0, 1, 2)] == [3, 2, 3]


def test_what_the_victim_led_may_stand_still(scene: Scene) -> None:
    """It is told, and is no failure; neither is what several victims hold up."""
    one = scene.play(Deed(20.0, deed=scene.acknowledge("orders-0", until=3.0)))
    several = scene.play(Deed(20.0, deed=scene.acknowledge("orders-1", until=3.0), victims=(1, 3)))
    assert one.complaints == several.complaints == []
    assert one.made[0].silence_s > 20
    assert several.made[0].others_silence_s is None


def test_others_are_not_judged_while_the_last_fault_is_felt(scene: Scene) -> None:
    """Replicas that were behind already may be what everyone waits for."""
    scene.stage.behind = True
    course = scene.play(Deed(20.0, deed=scene.acknowledge("orders-1", until=3.0)), settles=False)
    assert course.made[0].others_silence_s is None
