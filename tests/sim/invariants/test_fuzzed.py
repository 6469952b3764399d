"""The production partition under the fuzzer of its own tests: silent as it is, and found out with a bug planted."""

from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest

from quorumlog.partitions.partition import Partition
from quorumlog.partitions.replica import ReplicaCore
from tests.partitions import trio

from .sight import Violation
from .stage import KEY, WatchedTrio


def watched_run(seed: int, **options: bool) -> WatchedTrio:
    with patch.object(trio, "Trio", WatchedTrio):
        result = trio.run(seed, steps=500, min_insync_replicas=1 + seed % 2, **options)
    assert isinstance(result, WatchedTrio)
    result.shown.finish()
    return result


@pytest.mark.parametrize("options", [{}, {"power": False}, {"power": False, "fsync": False}])
def test_silence(options: dict[str, bool]) -> None:
    """Crashes, power cuts, elections, deleted records and a bad network break nothing, and need no excuse."""
    runs = [watched_run(seed, **options) for seed in range(6)]
    assert sum(run.shown.watch.model.ledgers[KEY].end for run in runs) > 40
    assert not any(run.shown.watch.excuses for run in runs)


def advance_to_own_end(self: ReplicaCore) -> bool:
    if not self.is_leader or self.flushed_offset <= self.high_watermark:
        return False
    self.high_watermark = self.flushed_offset
    return True


def forget_proposal(self: ReplicaCore, isr: tuple[int, ...], now: float) -> None:
    self._proposal_count += 1
    self._proposed_at = now


BUGS: dict[str, tuple[AbstractContextManager[object], set[str]]] = {
    "the high watermark is what the leader has": (
        patch.object(ReplicaCore, "_advance", advance_to_own_end),
        {"in-sync-is-complete"},
    ),
    "nothing is synced": (patch.object(trio, "sync_together", lambda flushes: None), {"in-sync-is-complete"}),
    "followers do not ask where their logs part": (
        patch.object(Partition, "_divergence", lambda self, last_epoch, end_offset: None),
        {"committed-stays", "in-sync-is-complete"},
    ),
    "the smaller set counts while a change is under way": (
        patch.object(ReplicaCore, "effective_isr", property(lambda self: set(self.isr))),
        {"leader-counts-all"},
    ),
    "a proposal is forgotten at once": (patch.object(ReplicaCore, "isr_proposed", forget_proposal), {"leader-counts-all"}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    """Within 60 seeds, by the invariant that it breaks."""
    planted, expected = BUGS[bug]
    with planted:
        assert first_violation(60) in expected


def first_violation(seeds: int) -> str:
    for seed in range(seeds):
        try:
            watched_run(seed)
        except Violation as violation:
            return violation.name
        except AssertionError:
            continue  # the fuzzer itself, or an assertion of the code, was first
    return "none"
