"""The hunt names the lowest seed that shows a bug and is sound without it; the command says who survives."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sim.mutants import find
from tests.sim.mutants import hunt as hunt_module
from tests.sim.mutants.hunt import Hunt
from tests.sim.mutants.judges import JUDGES, run_planted

MUTANT = find("skips-the-fsync")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def hunted(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int | None, str, list[int]]]:
    """Hunt with a judge of one's own, in threads: (the seed, what broke, the seeds that were run with the bug)."""

    def run(verdict: Callable[[str | None, int], str | None], seeds: range) -> tuple[int | None, str, list[int]]:
        asked: list[int] = []

        def judge(_: str, mutant: str | None, seed: int, __: float) -> str | None:
            if mutant is not None:
                asked.append(seed)
            return verdict(mutant, seed)

        monkeypatch.setattr(hunt_module, "run_planted", judge)
        outcome = Hunt(pool, judge="fake", workers=4, seconds_max=1.0).run(MUTANT, seeds)
        return outcome.seed, outcome.failure, sorted(asked)

    return run


def test_a_survivor_was_given_every_seed(hunted: Callable[..., tuple[int | None, str, list[int]]]) -> None:
    assert hunted(lambda mutant, seed: None, range(3, 20)) == (None, "", list(range(3, 20)))


def test_the_lowest_seed_is_named_whoever_is_first(hunted: Callable[..., tuple[int | None, str, list[int]]]) -> None:
    """Seed 1 takes until seed 3 has failed; it is named all the same."""
    later_is_done = threading.Event()

    def verdict(mutant: str | None, seed: int) -> str | None:
        if mutant is None or seed not in (1, 3):
            return None
        if seed == 3:
            later_is_done.set()
        assert later_is_done.wait(5.0)
        return f"broken at {seed}"

    seed, failure, asked = hunted(verdict, range(200))
    assert (seed, failure) == (1, "broken at 1")
    assert len(asked) < 20


def test_a_seed_that_fails_without_the_bug_proves_nothing(hunted: Callable[..., tuple[int | None, str, list[int]]]) -> None:
    """Seed 2 fails in any case; seed 9 only with the bug."""

    def verdict(mutant: str | None, seed: int) -> str | None:
        return "broken" if seed == 2 or (seed == 9 and mutant is not None) else None

    assert hunted(verdict, range(50))[0] == 9


def test_a_run_without_end_is_found_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the bug catches whatever is raised."""

    def judge(_: int) -> str | None:
        tries = 0
        while tries < 2:
            try:
                while True:
                    pass
            except Exception:
                tries += 1
        return None

    monkeypatch.setitem(JUDGES, "fake", judge)
    assert run_planted("fake", MUTANT.name, 0, 0.02) == "stuck: no end within 0 s of real time"


def test_the_command_tells_found_from_surviving() -> None:
    """The three replicas show a missing sync at once, and know nothing of directories: one row each, and exit status 1."""
    command = [sys.executable, "-m", "tests.sim.mutants", "--judge", "trio", "--seeds", "2", "--workers", "1"]
    names = ["--names", "skips-the-fsync,reuses-a-directory"]
    done = subprocess.run([*command, *names], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 found" in done.stdout
    assert "surviving: reuses-a-directory" in done.stdout
