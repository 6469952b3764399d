"""The pure rules of replicas: what is committed, who is in sync, what an acknowledgment proves."""

import hypothesis.strategies as st
from hypothesis import given

from quorumlog.partitions.replica import ReplicaCore

ALL = (1, 2, 3)


def leader(*, isr=ALL, end=100, flushed=100, high_watermark=0, min_insync=1, epoch=5, now=0.0) -> ReplicaCore:
    core = ReplicaCore(
        1,
        lag_time_max_s=10.0,
        proposal_timeout_s=5.0,
        min_insync_replicas=min_insync,
        log_end_offset=end,
        flushed_offset=flushed,
        high_watermark=high_watermark,
    )
    core.lead(leader_epoch=epoch, replicas=ALL, isr=isr, now=now)
    return core


def match(core: ReplicaCore, **flushed: int) -> None:
    for name, offset in flushed.items():
        core.on_position(int(name[1:]), offset, 0.0)


def test_high_watermark_is_the_smallest_flushed_offset_in_sync() -> None:
    """Nobody outside counts, everybody inside does."""
    core = leader(isr=(1, 2))
    match(core, n2=40, n3=20)
    assert core.high_watermark == 40
    assert core.on_acknowledged(2, 5, 60, 1.0)
    assert core.high_watermark == 60
    assert not core.on_acknowledged(3, 5, 100, 1.0)


def test_acknowledgment_of_another_epoch_proves_nothing() -> None:
    """Rule 3: the follower may have been cut since."""
    core = leader(isr=(1, 2))
    match(core, n2=40)
    assert not core.on_acknowledged(2, 4, 100, 1.0)
    assert not core.on_acknowledged(2, 6, 100, 1.0)
    assert core.high_watermark == 40


def test_a_new_leader_knows_the_end_when_all_it_began_with_is_committed() -> None:
    """Its predecessor may have committed, and told, more than it has heard of."""
    core = leader(isr=(1, 2))
    assert not core.knows_committed
    match(core, n2=40)
    assert (core.high_watermark, core.knows_committed) == (40, False)
    core.on_acknowledged(2, 5, 100, 1.0)
    assert core.knows_committed
    core.on_appended(200, 2.0)
    assert core.knows_committed


def test_follower_counts_only_after_its_log_matched() -> None:
    """Rule 1: an acknowledgment without a position in this epoch is of no use, nor is one from before."""
    core = leader(isr=(1, 2))
    assert not core.on_acknowledged(2, 5, 100, 1.0)
    match(core, n2=100)
    assert core.high_watermark == 100
    core.on_appended(200, 1.0)
    core.on_flushed(200)
    core.lead(leader_epoch=6, replicas=ALL, isr=(1, 2), now=2.0) if not core.is_leader else None
    core.follow(leader_epoch=6, replicas=ALL, isr=(1, 2))
    core.lead(leader_epoch=7, replicas=ALL, isr=(1, 2), now=2.0)
    assert not core.on_acknowledged(2, 7, 200, 3.0)
    assert core.high_watermark == 100


def test_in_sync_set_grows_only_from_the_start_of_the_epoch() -> None:
    """Rule 4: at the high watermark alone a follower may miss what this leader is bound to commit."""
    core = leader(isr=(1, 2), end=100, high_watermark=50)
    match(core, n3=60)
    assert core.isr_wanted(1.0) is None
    core.on_acknowledged(3, 5, 100, 2.0)
    assert core.isr_wanted(2.0) == ALL


def test_in_sync_set_grows_only_from_the_high_watermark() -> None:
    """Rule 4, later in the epoch."""
    core = leader(isr=(1, 2))
    match(core, n2=100, n3=100)
    core.on_appended(200, 1.0)
    core.on_flushed(200)
    core.on_acknowledged(2, 5, 200, 1.0)
    assert core.high_watermark == 200
    core.on_acknowledged(3, 5, 150, 1.5)
    assert core.isr_wanted(2.0) is None
    core.on_acknowledged(3, 5, 200, 2.5)
    assert core.isr_wanted(3.0) == ALL


def test_larger_set_counts_while_a_change_is_in_flight() -> None:
    """Growing: the newcomer counts at once. Shrinking: who would leave goes on counting."""
    core = leader(isr=(1, 2))
    match(core, n2=100, n3=100)
    core.isr_proposed(ALL, 1.0)
    core.on_appended(200, 1.0)
    core.on_flushed(200)
    assert not core.on_acknowledged(2, 5, 200, 1.0)
    assert core.high_watermark == 100
    assert core.on_acknowledged(3, 5, 180, 1.0)
    assert core.high_watermark == 180
    assert core.isr_wanted(2.0) is None


def test_unanswered_proposal_goes_on_counting() -> None:
    """Its answer may be lost and the change decided all the same; another proposal may be made."""
    core = leader(isr=(1, 2))
    match(core, n2=100, n3=100)
    core.isr_proposed(ALL, 1.0)
    core.on_appended(200, 1.0)
    core.on_flushed(200)
    core.on_acknowledged(2, 5, 200, 1.0)
    assert core.isr_wanted(3.0) is None
    assert core.isr_wanted(7.0) == ALL
    assert core.high_watermark == 100
    core.isr_proposed((1, 2), 8.0)
    core.isr_refused()
    assert core.high_watermark == 100
    assert core.effective_isr == {1, 2, 3}
    assert core.set_isr(replicas=ALL, isr=(1, 2), now=9.0)
    assert core.high_watermark == 200


def test_refused_proposal_is_forgotten() -> None:
    """A clear no: only the present set counts again."""
    core = leader(isr=(1, 2))
    match(core, n2=100, n3=100)
    core.isr_proposed(ALL, 1.0)
    core.isr_refused()
    assert core.effective_isr == {1, 2}


def test_nothing_commits_under_min_insync_replicas() -> None:
    """KIP-966: whoever left the set under its minimum misses nothing committed."""
    core = leader(isr=(1,), min_insync=2)
    assert core.high_watermark == 0
    match(core, n2=100)
    assert core.set_isr(replicas=ALL, isr=(1, 2), now=1.0)
    assert core.high_watermark == 100


def test_minimum_is_at_most_the_number_of_replicas() -> None:
    """A topic with one replica works on a cluster that asks for two."""
    core = ReplicaCore(
        1, lag_time_max_s=1, proposal_timeout_s=1, min_insync_replicas=2, log_end_offset=5, flushed_offset=5, high_watermark=0
    )
    core.lead(leader_epoch=1, replicas=(1,), isr=(1,), now=0.0)
    assert core.high_watermark == 5


def test_lagging_follower_is_to_leave_and_an_idle_one_is_not() -> None:
    """Lag is time without having reached the log end; silence at the log end is none."""
    core = leader(isr=ALL)
    match(core, n2=100, n3=100)
    assert core.isr_wanted(1000.0) is None
    core.on_appended(200, 1000.0)
    core.on_flushed(200)
    core.on_acknowledged(2, 5, 200, 1001.0)
    assert core.isr_wanted(1009.0) is None
    assert core.isr_wanted(1011.0) == (1, 2)


def test_follower_that_keeps_up_but_never_reaches_the_end_stays() -> None:
    """Under constant load it reaches what was the end at its last acknowledgment."""
    core = leader(isr=ALL)
    match(core, n2=100, n3=100)
    for i in range(1, 50):
        core.on_appended(100 + 10 * i, float(i))
        core.on_acknowledged(2, 5, 90 + 10 * i, i + 0.5)
        core.on_acknowledged(3, 5, 90 + 10 * i, i + 0.5)
        assert core.isr_wanted(float(i)) is None


@given(
    isr=st.sets(st.integers(2, 5)),
    flushed=st.dictionaries(st.integers(2, 5), st.lists(st.integers(0, 100), min_size=1)),
    own=st.lists(st.integers(0, 100)),
    min_insync=st.integers(1, 5),
)
def test_commit_is_the_smallest_of_the_sorted_newest_offsets(
    isr: set[int], flushed: dict[int, list[int]], own: list[int], min_insync: int
) -> None:
    """Against sorting by hand, whatever is said in whatever order."""
    core = ReplicaCore(
        1,
        lag_time_max_s=10,
        proposal_timeout_s=1,
        min_insync_replicas=min_insync,
        log_end_offset=100,
        flushed_offset=0,
        high_watermark=0,
    )
    members = tuple(sorted({1, *isr}))
    core.lead(leader_epoch=1, replicas=(1, 2, 3, 4, 5), isr=members, now=0.0)
    for node in flushed:
        core.on_position(node, 0, 0.0)
    for node, offsets in flushed.items():
        for offset in offsets:
            core.on_acknowledged(node, 1, offset, 0.0)
    for offset in own:
        core.on_flushed(offset)
    newest = {node: max(offsets) for node, offsets in flushed.items()} | {1: max(own, default=0)}
    expected = sorted(newest.get(node, 0) for node in members)[0] if len(members) >= min_insync else 0
    assert core.high_watermark == expected


def test_replicas_that_a_reassignment_brings_do_not_raise_the_least_number() -> None:
    """One replica under a least number of 2 commits alone while a second is copied; once that is settled, both count."""
    core = ReplicaCore(
        1,
        lag_time_max_s=10,
        proposal_timeout_s=1,
        min_insync_replicas=2,
        log_end_offset=5,
        flushed_offset=3,
        high_watermark=0,
    )
    core.lead(leader_epoch=1, replicas=(1, 2), isr=(1,), adding=(2,), now=0.0)
    assert (core.min_insync_replicas, core.high_watermark) == (1, 3)
    core.set_isr(replicas=(1, 2), isr=(1,), now=0.0)
    core.on_flushed(5)
    assert (core.min_insync_replicas, core.high_watermark) == (2, 3)
