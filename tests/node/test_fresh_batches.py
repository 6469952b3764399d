"""What is kept in memory for a follower."""

from quorumlog.node.fresh_batches import FreshBatches, Room, unpinned
from quorumlog.partitions.results import Appended


def appended(base_offset: int, records: int, size: int, *, duplicate: bool = False) -> Appended:
    return Appended(base_offset, base_offset + records - 1, -1, 0, duplicate, [bytes(size)], size)


def test_batches_come_in_order_as_many_as_fit() -> None:
    """At least one, whatever its size, and the room comes back."""
    room = Room(1000)
    fresh = FreshBatches(room)
    for base in (10, 12, 14):
        fresh.add(appended(base, 2, 100), 10)
    assert room.left == 700
    assert [fresh.take(250)[1:], fresh.take(1)[1:]] == [(200, 14), (100, 16)]
    assert (bool(fresh), room.left) == (False, 1000)


def test_nothing_is_kept_behind_a_gap() -> None:
    """A follower that lacks older records, or batches that found no room, are for the log to answer."""
    fresh = FreshBatches(Room(250))
    fresh.add(appended(10, 2, 100), 5)
    assert not fresh
    fresh.add(appended(10, 2, 100), 10)
    fresh.add(appended(12, 2, 200), 10)
    fresh.add(appended(14, 2, 50), 10)
    assert fresh.take(1000) == ([bytes(100)], 100, 12)
    fresh.add(appended(14, 2, 50), 12)
    assert not fresh


def test_a_duplicate_is_there_already() -> None:
    """It was sent when it was new."""
    fresh = FreshBatches(Room(250))
    fresh.add(appended(10, 2, 0, duplicate=True), 10)
    assert not fresh


def test_what_is_given_up_makes_room() -> None:
    room = Room(250)
    fresh = FreshBatches(room)
    fresh.add(appended(10, 2, 200), 10)
    fresh.clear()
    assert (bool(fresh), room.left) == (False, 250)


def test_a_small_batch_does_not_keep_a_large_request() -> None:
    """Its bytes are copied; a batch that is most of its request is kept as it is."""
    request = bytearray(1000)
    small = Appended(0, 0, -1, 0, False, [b"head", memoryview(request)[10:400]], 394)
    large = Appended(0, 0, -1, 0, False, [b"head", memoryview(request)[10:900]], 894)
    kept = unpinned(small)
    assert kept.buffers == [b"head", bytes(390)]
    assert isinstance(kept.buffers[1], bytes)
    assert unpinned(large) is large
