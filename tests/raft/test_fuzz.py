"""Random schedules, a few seeds of them: none breaks a promise with the guards on, some do with a guard off."""

import pytest

from tests.raft.fuzz import Violation, run_seed


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost(seed: int) -> None:
    """Crashes at durable writes, cuts, duplicated frames, snapshots, hand-overs: no promise breaks."""
    run_seed(seed, duplicate=True, crash_points=True)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_among_five(seed: int) -> None:
    """As above with five voters."""
    run_seed(seed, nodes=5, duplicate=True, crash_points=True, steps=1000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_nothing_is_lost_in_many_runs(seed: int) -> None:
    """As above, more of it, plain and hostile in turn."""
    run_seed(seed, nodes=3 if seed % 3 else 5, duplicate=bool(seed % 2), crash_points=bool(seed % 4))


@pytest.mark.parametrize(("guard", "first_seed"), [("s2", 12), ("g4", 3), ("g5", 17), ("g6", 11)])
def test_the_search_finds_a_missing_guard(guard: str, first_seed: int) -> None:
    """With a guard out, a seed soon breaks a promise. (The first seeds are those that did when this was written.)"""
    with pytest.raises(Violation):
        for seed in range(first_seed, first_seed + 60):
            run_seed(seed, off=(guard,), duplicate=True, crash_points=True)
