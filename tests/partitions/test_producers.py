"""Idempotent producers, against a dictionary of everything ever appended."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from quorumlog.partitions.producers import BATCHES_REMEMBERED, ProducerStates
from quorumlog.wire.batches import SEQUENCE_LIMIT, BatchHeader, read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.partitions.stage import Host, batch_of, changed, send

LAST = SEQUENCE_LIMIT - 1


def header(sequence: int, *, count: int = 1, offset: int = 0, epoch: int = 0, producer_id: int = 7) -> BatchHeader:
    made = read_header(batch_of([b""] * count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence))
    return made._replace(base_offset=offset)


def states(**options: int) -> ProducerStates:
    return ProducerStates(**{"expiration_ms": 1000, "producers_max": 100, **options})


def refusal(producers: ProducerStates, next_header: BatchHeader, *, log_is_whole: bool = False) -> ErrorCode:
    with pytest.raises(ClusterError) as caught:
        producers.check(next_header, 0, log_is_whole=log_is_whole)
    return caught.value.code


def test_repeats_of_the_last_five_are_known_and_older_ones_refused() -> None:
    """A sixth request in flight is against the protocol."""
    producers = states()
    for i in range(8):
        assert producers.check(header(i, offset=100 + i), 0) is None
        producers.update(header(i, offset=100 + i), 0)
    for i in range(3, 8):
        known = producers.check(header(i), 0)
        assert known is not None
        assert (known.first_offset, known.last_offset) == (100 + i, 100 + i)
    assert refusal(producers, header(2)) is ErrorCode.out_of_order_sequence_number
    assert refusal(producers, header(9)) is ErrorCode.out_of_order_sequence_number
    assert producers.check(header(8), 0) is None


def test_sequences_wrap_to_zero() -> None:
    """Also within a batch."""
    producers = states()
    producers.update(header(LAST - 1, count=4, offset=10), 0)
    assert producers.check(header(2), 0) is None
    known = producers.check(header(LAST - 1, count=4), 0)
    assert known is not None
    assert known.last_offset == 13
    producers.update(header(LAST, offset=14), 0)
    assert producers.check(header(0), 0) is None


def test_epochs_fence_and_start_at_zero() -> None:
    """An older epoch is refused, a newer one begins anew."""
    producers = states()
    producers.update(header(5, epoch=3), 0)
    assert refusal(producers, header(6, epoch=2)) is ErrorCode.invalid_producer_epoch
    assert refusal(producers, header(6, epoch=4)) is ErrorCode.out_of_order_sequence_number
    assert producers.check(header(0, epoch=4), 0) is None


def test_unknown_and_expired_producers_may_begin_anywhere() -> None:
    """As Kafka does it: what they sent before may have been deleted."""
    producers = states()
    assert producers.check(header(50), 0) is None
    producers.update(header(50), 0)
    assert producers.check(header(99), 1001) is None
    producers.expire(1001)
    assert len(producers) == 0


def test_least_recently_heard_goes_when_there_are_too_many() -> None:
    """Memory is bounded, whatever clients do."""
    producers = states(producers_max=3)
    for producer_id in (1, 2, 3, 1, 4):
        producers.update(header(0, producer_id=producer_id), 0)
    assert producers.get(2) is None
    assert all(producers.get(i) is not None for i in (1, 3, 4))


@given(
    sent=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1), st.integers(0, 6), st.integers(1, 2)), max_size=60),
    snapshots=st.sets(st.integers(0, 60)),
)
def test_states_equal_a_simple_twin(sent: list[tuple[int, int, int, int]], snapshots: set[int]) -> None:
    """Decisions follow from the list of all appended batches; a snapshot changes nothing."""
    producers, appended, offset = states(), [], 0
    for i, (producer_id, epoch, sequence, count) in enumerate(sent):
        seen = header(sequence, count=count, offset=offset, epoch=epoch, producer_id=producer_id)
        expected = twin_decision(appended, seen)
        try:
            known = producers.check(seen, 0)
            decision = "append" if known is None else known.first_offset
        except ClusterError as error:
            decision = error.code
        assert decision == expected
        if decision == "append":
            producers.update(seen, 0)
            appended.append(seen)
            offset += count
        if i in snapshots:
            snapshot = producers.encode()
            producers = states()
            producers.restore(snapshot)


def twin_decision(appended: list[BatchHeader], seen: BatchHeader) -> object:
    own = [h for h in appended if h.producer_id == seen.producer_id]
    if not own:
        return "append"
    if seen.producer_epoch < own[-1].producer_epoch:
        return ErrorCode.invalid_producer_epoch
    if seen.producer_epoch > own[-1].producer_epoch:
        return "append" if seen.base_sequence == 0 else ErrorCode.out_of_order_sequence_number
    same = [h for h in own if h.producer_epoch == seen.producer_epoch][-BATCHES_REMEMBERED:]
    for h in same:
        if (h.base_sequence, h.last_sequence) == (seen.base_sequence, seen.last_sequence):
            return h.base_offset
    return "append" if seen.base_sequence == same[-1].last_sequence + 1 else ErrorCode.out_of_order_sequence_number


def test_states_survive_crash_and_truncation() -> None:
    """What recovery and truncation leave is what the log says, not what memory said."""
    host = Host()
    partition = host.leader()
    for i in range(40):
        send(partition, [b"value %d" % i], producer_id=9, base_sequence=i)
    host.flush(partition)
    partition._truncate(25)
    assert send(partition, [b"other"], producer_id=9, base_sequence=25) == 25
    host.crash(power=False)
    again = host.leader(leader_epoch=2)
    repeat = batch_of([b"other"], producer_id=9, base_sequence=25)
    answer = again.append(repeat, acks=1, now=0, wall_ms=1000)
    assert answer.duplicate
    assert answer.base_offset == 25
    with pytest.raises(ClusterError):
        again.append(changed(repeat, base_sequence=27), acks=1, now=0, wall_ms=1000)


def test_a_new_producer_begins_at_zero_where_nothing_was_forgotten() -> None:
    """Two requests are under way when the leader dies; the second comes to the new leader first (simulator, seed 8)."""
    producers = states(producers_max=1)
    assert refusal(producers, header(20), log_is_whole=True) is ErrorCode.out_of_order_sequence_number
    assert producers.check(header(20), 0, log_is_whole=False) is None
    assert producers.check(header(0), 0, log_is_whole=True) is None
    for producer_id in (7, 8):
        producers.update(header(0)._replace(producer_id=producer_id), 0)
    again = states()
    again.restore(producers.encode())
    assert again.check(header(20)._replace(producer_id=7), 0, log_is_whole=True) is None, "it may be the one that was forgotten"
    again.clear()
    assert refusal(again, header(20), log_is_whole=True) is ErrorCode.out_of_order_sequence_number
