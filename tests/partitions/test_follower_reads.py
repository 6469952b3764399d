"""Consumers who read from a follower (KIP-392): what they get, when they are sent back to the leader, and whom a leader names."""

import pytest

from quorumlog.partitions.partition import Partition, ReadResult
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.partitions.stage import Host, joined, send, state_of

TWO = (1, 2)


def in_state(partition: Partition, *, epoch: int = 1, isr: tuple[int, ...] = TWO, change: int = 1) -> Partition:
    """Led by node 1; each change of the state has its number."""
    state = state_of(leader=1, leader_epoch=epoch, partition_epoch=change, isr=isr, replicas=TWO)
    partition.apply_state(state, 0.0)
    return partition


def leader_and_follower() -> tuple[Partition, Partition]:
    return in_state(Host().open()), in_state(Host(node_id=2).open())


def take(follower: Partition, leader: Partition, *, high_watermark: int, epoch: int = 1) -> None:
    """What the leader sends: all that the follower lacks, and how far is committed."""
    data = joined(leader.read(follower.log_end_offset, max_bytes=1 << 20, up_to_end=True).buffers)
    follower.apply_fetched(epoch, data, high_watermark=high_watermark, log_start_offset=leader.log_start_offset, wall_ms=1000)


def read(partition: Partition, offset: int, **how: int) -> ReadResult:
    return partition.read(offset, max_bytes=1 << 20, from_follower=True, **how)


def refusal(partition: Partition, offset: int, **how: int) -> ErrorCode:
    with pytest.raises(ClusterError) as refused:
        read(partition, offset, **how)
    return refused.value.code


def test_only_what_the_leader_says_is_committed_is_read() -> None:
    """The follower holds more; a reader at its mark waits, and one who does not ask for a follower is told who leads."""
    leader, follower = leader_and_follower()
    for value in (b"a", b"b", b"c"):
        send(leader, [value])
    take(follower, leader, high_watermark=2)
    found = read(follower, 0)
    assert (found.next_offset, found.high_watermark, follower.log_end_offset) == (2, 2, 3)
    assert read(follower, 2).size == 0
    with pytest.raises(ClusterError, match="does not lead"):
        follower.read(0, max_bytes=100)


def test_beyond_its_log_it_does_not_guess() -> None:
    """The leader may have that offset: OFFSET_OUT_OF_RANGE would have the reader begin elsewhere. Before its start it is sure."""
    leader, follower = leader_and_follower()
    for _ in range(3):
        send(leader, [b"x"])
    take(follower, leader, high_watermark=3)
    assert refusal(follower, 4) is ErrorCode.offset_not_available
    follower.apply_fetched(1, b"", high_watermark=3, log_start_offset=2, wall_ms=1000)
    assert refusal(follower, 1) is ErrorCode.offset_out_of_range
    assert read(follower, 3, last_fetched_epoch=9).diverging is None, "a follower cannot know of the newest epochs"


def test_the_epoch_of_the_reader_is_held_against_its_own() -> None:
    """As at the leader: so a reader and a follower never take each other's past for the present."""
    leader, follower = leader_and_follower()
    take(follower, leader, high_watermark=0)
    assert refusal(follower, 0, current_leader_epoch=0) is ErrorCode.fenced_leader_epoch
    assert refusal(follower, 0, current_leader_epoch=2) is ErrorCode.unknown_leader_epoch


def test_it_serves_nobody_before_the_leader_has_matched_its_log() -> None:
    """An unclean election dropped what this follower still holds as committed: nobody may read that in the new epoch."""
    leader, follower = leader_and_follower()
    send(leader, [b"lost"])
    take(follower, leader, high_watermark=1)
    assert read(follower, 0).size > 0
    in_state(follower, epoch=2, change=2)
    assert follower.high_watermark == 1
    assert refusal(follower, 0) is ErrorCode.not_leader_or_follower
    assert refusal(follower, 0, current_leader_epoch=2) is ErrorCode.not_leader_or_follower


def test_it_serves_nobody_while_it_hears_nothing_from_the_leader() -> None:
    """Its reader would see no end of the silence. With the next word of the leader it serves again."""
    leader, follower = leader_and_follower()
    take(follower, leader, high_watermark=0)
    follower.on_leader_lost()
    assert refusal(follower, 0) is ErrorCode.not_leader_or_follower
    take(follower, leader, high_watermark=0)
    assert read(follower, 0).size == 0


def test_out_of_the_in_sync_set_it_serves_nobody() -> None:
    """It may be far behind, for long; the leader names it no more, and it sends its readers back."""
    leader, follower = leader_and_follower()
    take(follower, leader, high_watermark=0)
    in_state(follower, isr=(1,), change=2)
    assert refusal(follower, 0) is ErrorCode.not_leader_or_follower


def test_a_leader_names_those_who_have_what_is_asked_for() -> None:
    """In-sync followers on a stream that have flushed up to the offset, the furthest first."""
    three = (1, 2, 3, 4)
    leader = Host().open()
    leader.apply_state(state_of(leader=1, leader_epoch=1, partition_epoch=1, isr=(1, 2, 3), replicas=three), 0.0)
    for _ in range(5):
        send(leader, [b"x"])
    for node, flushed in ((2, 3), (3, 4), (4, 5)):
        position = leader.position()
        assert leader.on_follower_position(node, type(position)(1, 5, flushed, 1), 1.0) is None
    assert leader.read_replicas(3) == (3, 2)
    assert leader.read_replicas(4) == (3,), "node 4 has it too, but is not in sync"
    assert leader.read_replicas(5) == ()
    leader.on_follower_lost(3)
    assert leader.read_replicas(3) == (2,)
