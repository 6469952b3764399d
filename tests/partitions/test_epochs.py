"""The leader epoch history, against the list of the epoch of every offset."""

import random

import hypothesis.strategies as st
from hypothesis import given

from quorumlog.host.ports import WriteBatch
from quorumlog.partitions.epochs import LeaderEpochs
from quorumlog.partitions.keys import Keys
from tests.partitions.stage import TOPIC_ID
from tests.sim.store import SimStore


@given(
    runs=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=12),
    cut=st.one_of(st.none(), st.integers(0, 40)),
    asked=st.lists(st.integers(0, 40), max_size=5),
)
def test_history_equals_a_list_of_epochs(runs: list[tuple[int, int]], cut: int | None, asked: list[int]) -> None:
    """What it says of an epoch's end, of an offset, after a cut, and after a restart."""
    store, keys = SimStore(random.Random(1)), Keys(TOPIC_ID, 0)
    history, twin, epoch = LeaderEpochs(keys), [], 0
    for step, count in runs:
        epoch += step
        batch = WriteBatch()
        history.assign(epoch, len(twin), batch)
        store.write(batch)
        twin += [epoch] * count
    if cut is not None:
        batch = WriteBatch()
        history.truncate(cut, batch)
        store.write(batch)
        twin = twin[:cut]
    for view in (history, LeaderEpochs.load(store, keys)):
        assert view.latest == (twin[-1] if twin else -1)
        for offset, expected in enumerate(twin):
            assert view.epoch_at(offset) == expected
        for epoch in asked:
            assert view.end_of(epoch, len(twin)) == end_in(twin, epoch)


def end_in(twin: list[int], epoch: int) -> tuple[int, int]:
    held = [e for e in twin if e <= epoch]
    return (max(held) if held else epoch), len(held)


def test_epochs_below_the_log_start_go_and_the_newest_stays() -> None:
    """It is the floor of what may be appended next."""
    store, keys = SimStore(random.Random(1)), Keys(TOPIC_ID, 0)
    history, batch = LeaderEpochs(keys), WriteBatch()
    for epoch, start in ((1, 0), (2, 10), (3, 20)):
        history.assign(epoch, start, batch)
    history.drop_below(15, batch)
    assert history.epochs == [2, 3]
    history.drop_below(500, batch)
    store.write(batch)
    assert LeaderEpochs.load(store, keys).epochs == history.epochs == [3]
