"""The inner engine: the right one, without pickle, on the time and chance of whoever entered it."""

import pickle
import random
from pathlib import Path

import pysyncobj.pickle
import pysyncobj.syncobj
import pytest

from quorumlog.raft import core
from quorumlog.raft.config import QuorumConfig
from tests.raft.cluster import Cluster, engine_of
from tests.sim.clock import SimClock

SOURCE = Path(pysyncobj.syncobj.__file__).read_bytes()


def test_only_the_very_core_is_accepted() -> None:
    """Private methods are overridden by name: another version, or a changed file, must not be run."""
    core.check_core("0.3.17", SOURCE)
    with pytest.raises(ImportError, match="pysyncobj"):
        core.check_core("0.3.18", SOURCE)
    with pytest.raises(ImportError, match="unchanged"):
        core.check_core("0.3.17", SOURCE + b"\n")


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return setattr, (Bomb, "exploded", True)


def _apply_as_stock(cluster: Cluster) -> None:
    bomb = pickle.dumps(Bomb())
    pysyncobj.SyncObj._SyncObj__doApplyCommand(engine_of(cluster.nodes[1]), b"\x00" + bomb)


def test_nothing_in_the_core_unpickles() -> None:
    """Even if a path to the core's unpickling were left, it would end in an error."""
    Bomb.exploded = False
    with pytest.raises(RuntimeError, match="pickle is disabled"):
        _apply_as_stock(Cluster(1).start_all())
    assert not Bomb.exploded


def test_the_stub_is_what_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the core's own pickle back (S3), a command is code."""
    Bomb.exploded = False
    monkeypatch.setattr(pysyncobj.syncobj, "pickle", pysyncobj.pickle)
    with pytest.raises((KeyError, TypeError)):
        _apply_as_stock(Cluster(1).start_all())
    assert Bomb.exploded


def test_quorums_with_different_clocks_live_in_one_process() -> None:
    """Each entry into the core runs on its own clock and chance, also when one is entered from within another."""
    early, late = SimClock(start_s=1.0), SimClock(start_s=2.0)
    seen = []
    with core.entered(early, random.Random(1)):
        seen.append(pysyncobj.syncobj.monotonicTime())
        with core.entered(late, random.Random(2)):
            seen += [pysyncobj.syncobj.monotonicTime(), pysyncobj.syncobj.random.random()]
        seen += [pysyncobj.syncobj.monotonicTime(), pysyncobj.syncobj.random.random()]
    assert seen == [1.0, 2.0, random.Random(2).random(), 1.0, random.Random(1).random()]
    with pytest.raises(AttributeError):
        pysyncobj.syncobj.monotonicTime()


def test_the_same_seed_runs_the_same_way() -> None:
    """No wall clock, no global chance, no order of a set decides anything."""
    assert _trace(1) == _trace(1) != _trace(2)


def _trace(seed: int) -> list[tuple[float, int, int, bytes]]:
    cluster = Cluster(3, seed=seed).start_all()
    trace = []
    for number in range(150):
        if number == 50:
            cluster.isolate(cluster.leaders()[0])  # who follows is a matter of chance
        cluster.tick(seconds=0.02)
        for (source, destination), queue in sorted(cluster.links.queues.items()):
            trace += [(cluster.clock.now(), source, destination, frame) for frame in queue]
        cluster.deliver_all()
        for leader in cluster.leaders():
            cluster.propose(leader, "x")
    return trace


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_id": 4},
        {"voters": (1, 1, 2)},
        {"voters": (1, -2)},
        {"heartbeat_s": 0.2},
        {"election_timeout_max_s": 0.5},
        {"append_batch_bytes": 1 << 20},
        {"snapshot_chunks_in_flight": 0},
        {"trailing_entries": -1},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    """Among them (S12) a batch that would send a large command down the core's pickling path."""
    settings: dict[str, object] = {"node_id": 1, "voters": (1, 2, 3)} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        QuorumConfig(**settings)  # type: ignore[arg-type]
