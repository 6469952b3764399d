"""Who may find a mutant: each judge runs one seed and says what broke, or None.

`sim`, `groups`, `compaction`, `transactions` and `dedup` are the judges that count: whole clusters, with one workload each. The
others are the older searches for a part of the house each. They judge what the whole cluster cannot come to with the sizes that a
node has (entries of the quorum that are split over several messages, followers behind a thousand entries), or comes to in
hundreds of seeds only. Where even they hardly do, a unit test stands for the situation. Asked about the rest (`--judge`) they
tell which bugs only a whole cluster can show.
"""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from .catalogue import find
from .unit_tests import UNIT_TESTS

TESTS = Path(__file__).parents[2]

Judge = Callable[[int], str | None]


def sim(seed: int) -> str | None:
    """The whole cluster."""
    from tests.sim.run import run_seed

    return run_seed(seed).failure


def groups(seed: int) -> str | None:
    """The whole cluster, with consumer groups."""
    from tests.sim.run import run_seed

    return run_seed(seed, "groups").failure


def compaction(seed: int) -> str | None:
    """The whole cluster, with topics that are compacted."""
    from tests.sim.run import run_seed

    return run_seed(seed, "compaction").failure


def transactions(seed: int) -> str | None:
    """The whole cluster, with transactions."""
    from tests.sim.run import run_seed

    return run_seed(seed, "transactions").failure


def dedup(seed: int) -> str | None:
    """The whole cluster, with topics that drop events which come again."""
    from tests.sim.run import run_seed

    return run_seed(seed, "dedup").failure


def trio(seed: int) -> str | None:
    """Three replicas of one partition."""
    from tests.partitions.trio import run

    return _raised(lambda: run(seed, steps=500, min_insync_replicas=1 + seed % 2))


def raft(seed: int) -> str | None:
    """The quorum alone."""
    from tests.raft.fuzz import run_seed

    return _raised(lambda: run_seed(seed, nodes=3 if seed % 3 else 5, duplicate=True, crash_points=True))


def unit(seed: int) -> str | None:
    """One unit test, by number."""
    if seed >= len(UNIT_TESTS):
        return None
    # The timer of the plugin that limits times is the one that limits ours.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:timeout", "--rootdir", str(TESTS.parent)]
    with redirect_stdout(io.StringIO()) as said:
        verdict = pytest.main([*options, "-c", str(TESTS.parent / "pyproject.toml"), str(TESTS / UNIT_TESTS[seed])])
    if verdict is pytest.ExitCode.OK:
        return None
    assert verdict is pytest.ExitCode.TESTS_FAILED, said.getvalue()
    return f"unit test: {UNIT_TESTS[seed]}"


JUDGES: dict[str, Judge] = {
    "sim": sim,
    "groups": groups,
    "compaction": compaction,
    "transactions": transactions,
    "dedup": dedup,
    "trio": trio,
    "raft": raft,
    "unit": unit,
}


class Stuck(KeyboardInterrupt):
    """Real time ran out. A KeyboardInterrupt, since event loops let nothing else pass."""


def run_planted(judge: str, mutant: str | None, seed: int, seconds_max: float) -> str | None:
    """What the judge finds with the mutant planted, or without any. Raises Moved if it cannot be planted."""
    with find(mutant).planted() if mutant else nullcontext(), _at_most(seconds_max):
        try:
            return JUDGES[judge](seed)
        except Stuck:
            return f"stuck: no end within {seconds_max:.0f} s of real time"


def _raised(run: Callable[[], object]) -> str | None:
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise Stuck after so long, and again and again, in case the bug catches it."""

    def ring(_: int, __: FrameType | None) -> NoReturn:
        raise Stuck

    before = signal.signal(signal.SIGALRM, ring)
    timer_before = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)
