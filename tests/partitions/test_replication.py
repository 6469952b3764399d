"""Three replicas under crashes, power cuts, elections and a bad network (see trio.py)."""

import pytest

from tests.partitions.trio import NODES, Trio, run


@pytest.mark.parametrize("seed", range(40))
def test_no_committed_record_is_lost_or_changed(seed: int) -> None:
    """Whatever happens, logs match below the high watermark, and the in-sync set holds all of it; healed, all are equal again."""
    trio = run(seed, steps=500, min_insync_replicas=1 + seed % 2)
    assert trio.state.isr == NODES


def test_a_quiet_trio_commits_on_all_three() -> None:
    """Without faults a record is on three disks and readable everywhere, from each follower too."""
    trio = Trio(0)
    trio.produce(1)
    trio.heal()
    trio.check_readers()
    assert trio.followers_read == 2
    assert {trio.nodes[n].partition.high_watermark for n in NODES} == {trio.nodes[1].partition.log_end_offset}
    assert trio.committed
