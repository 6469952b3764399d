"""Compaction against a dictionary: what goes, what stays, and that nothing else changes for anybody."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from quorumlog.partitions.partition import Partition
from quorumlog.partitions.rebuild import rebuild
from quorumlog.wire.batches import NO_TIMESTAMP
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.records import Record
from tests.partitions.compaction_stage import (
    COMPACT,
    Pair,
    close_segment,
    compact,
    headers,
    keyed,
    last_values,
    put,
    records,
    with_config,
)
from tests.partitions.stage import Host, joined, state_of, stored
from tests.sim.store import SimStore

KEYS = [b"", b"a", b"b", b"key c", b"d" * 40]
pairs = st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.just(b""), st.binary(max_size=60)))
batches = st.lists(
    st.tuples(st.lists(pairs, min_size=1, max_size=6), st.sampled_from(list(Compression)), st.integers(-1, 2)),
    min_size=1,
    max_size=40,
)
plans = st.lists(
    st.one_of(
        st.tuples(st.just("put"), batches),
        st.tuples(st.just("compact"), st.sampled_from([48, 200, 1 << 16])),
        st.tuples(st.just("elect"), st.just(0)),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([1, 100_000_000])),
    ),
    min_size=2,
    max_size=8,
)


class Walk:
    """A partition, and beside it all records that were ever written, in a list."""

    def __init__(self) -> None:
        self.host = Host(config=COMPACT)
        self.epoch = 1
        self.partition = self.host.leader()
        self.written: list[Record] = []
        self.sequences: dict[int, int] = {}
        self.wall_ms = 1000

    def put(self, many: list[tuple[list[Pair], Compression, int]]) -> None:
        for some, compression, producer_id in many:
            sequence = self.sequences.get(producer_id, 0)
            known = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence} if producer_id >= 0 else {}
            base = put(self.partition, some, wall_ms=self.wall_ms, compression=compression, **known)
            self.sequences[producer_id] = sequence + len(some)
            self.written += [Record(base + i, 1000 + i, key, value, (("n", b"%d" % i),)) for i, (key, value) in enumerate(some)]
        self.host.flush(self.partition, sync_store=True)

    def compact(self, map_bytes: int) -> None:
        close_segment(self.partition, self.host)
        before, producers, epochs = records(self.partition), self.producers(), self.epochs()
        done = compact(self.partition, self.host, wall_ms=self.wall_ms, map_bytes=map_bytes)
        assert done is not None
        self.check(before, done.end_offset)
        assert (self.producers(), self.epochs()) == (producers, epochs)

    def elect(self, _: int) -> None:
        self.epoch += 1
        self.host.lead(self.partition, leader_epoch=self.epoch)

    def crash(self, power: bool) -> None:
        self.host.flush(self.partition, sync_store=True)
        before, producers, epochs = records(self.partition), self.producers(), self.epochs()
        self.host.crash(power=power)
        self.epoch += 1
        self.partition = self.host.leader(leader_epoch=self.epoch)
        assert self.partition.damage is None
        assert (records(self.partition), self.producers(), self.epochs()) == (before, producers, epochs)

    def wait(self, ms: int) -> None:
        self.wall_ms += ms

    def check(self, before: list[Record], end_offset: int) -> None:
        """Nothing came up that was not there, and of each key the last is there, unless that was a deletion."""
        left = records(self.partition)
        was = {record.offset: record for record in before}
        assert all(was[record.offset] == record for record in left)
        assert [record for record in left if record.offset >= end_offset] == [r for r in before if r.offset >= end_offset]
        assert last_values(left) == last_values(self.written)
        clean = [record.key for record in left if record.offset < end_offset]
        assert len(set(clean)) == len(clean)

    def producers(self) -> dict[int, tuple[int, int]]:
        return {number: (state.epoch, state.last_sequence) for number, state in self.partition.known_producers()}

    def epochs(self) -> tuple[list[int], list[int]]:
        return list(self.partition._log.epochs.epochs), list(self.partition._log.epochs.starts)


@given(plans)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_compacted_log_says_what_the_whole_one_said(plan: list[tuple[str, object]]) -> None:
    """However it is written, compacted in one pass or many, led and crashed: the same last values, offsets and producers."""
    walk = Walk()
    for step, argument in plan:
        getattr(walk, step)(argument)
    walk.host.flush(walk.partition)
    _check_reads(walk.partition)
    _check_rebuilt(walk)
    walk.partition.close()
    again = walk.host.open()
    assert again.recovery.clean
    assert records(again) == records(walk.partition)


def _check_reads(partition: Partition) -> None:
    """From every offset a reader gets what comes next, whatever was there."""
    whole = stored(partition)
    for offset in range(partition.log_end_offset):
        result = partition.read(offset, max_bytes=1)
        expected = next(data for base, _, data in whole if base + _last_delta(data) >= offset)
        assert joined(result.buffers) == expected


def _last_delta(data: bytes) -> int:
    return int.from_bytes(data[23:27], "big")


def _check_rebuilt(walk: Walk) -> None:
    """The segments alone tell all of it, holes and epochs included."""
    store = SimStore(walk.host.store._rng)
    walk.host.flush(walk.partition)
    reports = rebuild(walk.host.disk, store, wall_ms=walk.wall_ms, config=COMPACT)
    assert [report.report.damage for report in reports] == [None]
    host = Host(config=COMPACT)
    host.disk, host.store = walk.host.disk, store
    again = host.open()
    assert again.recovery.clean
    assert stored(again) == stored(walk.partition)
    assert (again._log.epochs.epochs, again._log.epochs.starts) == walk.epochs()


def test_the_last_of_each_key_stays_at_its_offset() -> None:
    """A thousand records of ten keys become ten."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for i in range(200):
        put(partition, [(b"k%d" % (i % 10), b"%d" % i)] * 5)
    close_segment(partition, host)
    compact(partition, host)
    assert [(record.offset, record.key) for record in records(partition)] == [
        (5 * i + 4, b"k%d" % (i % 10)) for i in range(190, 200)
    ]
    assert partition.log_end_offset == 1000
    assert partition.dirt(1000).ratio == 0


def test_deletions_go_when_their_time_is_over() -> None:
    """The first pass notes when that is, in the batch; one that comes later takes them away."""
    host = Host(config=with_config(delete_retention_ms=50))
    partition = host.leader()
    put(partition, [(b"a", b"1"), (b"b", b"1")])
    put(partition, [(b"a", None), (b"b", b"")])
    close_segment(partition, host)
    compact(partition, host, wall_ms=2000)
    (kept,) = [header for header in headers(partition) if header.record_count]
    assert kept.delete_horizon_ms == 2050
    assert [(record.offset, record.key, record.value, record.timestamp) for record in records(partition)] == [
        (2, b"a", None, 1000),
        (3, b"b", b"", 1001),
    ]
    compact(partition, host, wall_ms=2049)
    assert len(records(partition)) == 2
    compact(partition, host, wall_ms=2050)
    assert [record.key for record in records(partition)] == [b"b"]


def test_a_map_that_is_full_leaves_the_rest_to_later_passes() -> None:
    """Each pass goes as far as its map holds; the log is clean in the end, and right all the way."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for i in range(300):
        put(partition, [(b"key %d" % (i % 100), b"%d" % i)])
    close_segment(partition, host)
    expected = last_values(records(partition))
    ends = []
    while not ends or ends[-1] < 300:
        done = compact(partition, host, map_bytes=24 * 30)
        assert done is not None
        ends.append(done.end_offset)
        assert last_values(records(partition)) == expected
    assert len(ends) > 5
    assert ends == sorted(set(ends))
    assert len(records(partition)) == 100


def test_a_batch_of_more_keys_than_the_map_holds_is_compacted_all_the_same() -> None:
    """Otherwise nothing behind it ever would be."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for _ in range(2):
        put(partition, [(b"%d" % i, b"v") for i in range(100)])
    close_segment(partition, host)
    compact(partition, host, map_bytes=24)
    compact(partition, host, map_bytes=24)
    assert len(records(partition)) == 100


def test_what_is_not_committed_or_active_is_not_touched() -> None:
    """The newest segment, and those with records above the high watermark, stay as they are."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for _ in range(40):
        put(partition, [(b"k", b"x" * 50)])
    host.flush(partition)
    committed = partition.high_watermark
    for _ in range(40):
        put(partition, [(b"k", b"y" * 50)])
    active = partition._log.active.base_offset
    assert active > committed
    done = compact(partition, host)
    assert done is not None
    assert 0 < done.end_offset <= committed
    offsets = [record.offset for record in records(partition)]
    assert offsets == list(range(done.end_offset - 1, 80))


def test_young_records_stay_for_the_shortest_lag() -> None:
    """Consumers that are not further behind than this see every record."""
    host = Host(config=with_config(min_compaction_lag_ms=500))
    partition = host.leader()
    for i in range(60):
        put(partition, [(b"k", b"x" * 50)], timestamp=1000 + 10 * i)
    close_segment(partition, host)
    compact(partition, host, wall_ms=1800)
    stamps = [record.timestamp for record in records(partition)]
    assert stamps[0] <= 1300
    assert [stamp for stamp in stamps if stamp > 1300] == list(range(1310, 1600, 10))


def test_the_longest_lag_makes_a_log_due_and_closes_its_segment() -> None:
    """However clean it is."""
    host = Host(config=with_config(min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=100))
    partition = host.leader()
    put(partition, [(b"k", b"1")], wall_ms=1000)
    host.flush(partition)
    assert partition.cleaning_urgency(1050) == 0
    partition.roll_if_old(1101)
    host.flush(partition)
    assert partition.segment_count == 2
    assert partition.cleaning_urgency(1101) > 1


def test_a_log_is_due_when_it_is_dirty_enough() -> None:
    """The part that is not compacted counts against the whole, without the active segment."""
    host = Host(config=with_config(min_cleanable_dirty_ratio=0.4))
    partition = host.leader()
    for i in range(30):
        put(partition, [(b"%d" % i, b"x" * 60)])
    close_segment(partition, host)
    assert partition.dirt(1000).ratio == 1
    assert partition.cleaning_urgency(1000) == 1
    compact(partition, host)
    put(partition, [(b"0", b"x" * 60)])
    close_segment(partition, host)
    assert 0 < partition.dirt(1000).ratio < 0.4
    assert partition.cleaning_urgency(1000) == 0


def test_a_request_compacts_all_there_is_once() -> None:
    """The active segment is closed for it, and what was asked for is remembered, restarts included."""
    host = Host(config=with_config(min_cleanable_dirty_ratio=1.0))
    partition = host.leader()
    put(partition, [(b"k", b"1")])
    put(partition, [(b"k", b"2")])
    host.flush(partition)
    assert partition.cleaning_urgency(1000) == 0
    asked = replace(host.config, quorumlog_compaction_request=77)
    partition.apply_config(asked)
    assert partition.cleaning_urgency(1000) > 2
    compact(partition, host)
    assert [record.value for record in records(partition)] == [b"2"]
    assert partition.cleaning_urgency(1000) == 0
    host.config = asked
    partition.close()
    assert host.leader(leader_epoch=2).cleaning_urgency(1000) == 0


def test_a_request_waits_until_all_that_it_means_is_committed() -> None:
    """What was written before it may not be left out."""
    host = Host(config=with_config(quorumlog_compaction_request=5))
    partition = host.leader()
    put(partition, [(b"k", b"1")])
    assert partition.cleaning_urgency(1000) == 0
    host.flush(partition)
    assert partition.cleaning_urgency(1000) > 2


def test_a_known_producer_goes_on_where_it_was() -> None:
    """Its last batch stays, without records if need be; it is told of a repeat, and of a gap."""
    host = Host(config=COMPACT)
    partition = host.leader()
    put(partition, [(b"a", b"1"), (b"b", b"1")], producer_id=7, producer_epoch=0, base_sequence=0)
    put(partition, [(b"a", b"2"), (b"b", b"2")])
    close_segment(partition, host)
    compact(partition, host)
    assert [(h.producer_id, h.base_sequence, h.last_sequence, h.record_count) for h in headers(partition)] == [
        (7, 0, 1, 0),
        (-1, -1, -1, 2),
    ]
    store = SimStore(host.store._rng)
    rebuild(host.disk, store, wall_ms=1000, config=COMPACT)
    other = Host(config=COMPACT)
    other.disk, other.store = host.disk, store
    again = other.leader(leader_epoch=2)
    repeated = keyed([(b"a", b"1"), (b"b", b"1")], producer_id=7, producer_epoch=0, base_sequence=0)
    assert again.append(repeated, acks=1, now=0, wall_ms=1000).duplicate
    with pytest.raises(ClusterError) as caught:
        put(again, [(b"a", b"3")], producer_id=7, producer_epoch=0, base_sequence=3)
    assert caught.value.code is ErrorCode.out_of_order_sequence_number
    assert put(again, [(b"a", b"3")], producer_id=7, producer_epoch=0, base_sequence=2) == 4


def test_small_segments_become_one_as_long_as_they_fit() -> None:
    """A log of few keys does not end as thousands of files."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for i in range(400):
        put(partition, [(b"k%d" % (i % 5), b"x" * 40)])
    close_segment(partition, host)
    assert partition.segment_count > 30
    for _ in range(4):
        compact(partition, host)
    assert partition.segment_count == 2  # what is left, and the active one
    assert len(host.segment_names()) == 2


def test_timestamps_find_records_that_are_left() -> None:
    """An emptied batch keeps its timestamp, and is no answer."""
    host = Host(config=COMPACT)
    partition = host.leader()
    put(partition, [(b"a", b"1")], timestamp=9000, producer_id=7, producer_epoch=0, base_sequence=0)
    put(partition, [(b"a", b"2")], timestamp=5000)
    put(partition, [(b"b", b"1")], timestamp=6000)
    close_segment(partition, host)
    compact(partition, host)
    assert headers(partition)[0].max_timestamp == 9000
    assert headers(partition)[0].newest_timestamp == NO_TIMESTAMP
    assert partition.offset_for_timestamp(5500) == (2, 6000, 1)
    assert partition.offset_for_timestamp(6001) is None
    assert partition.max_timestamp() == (6000, 2)


def test_retention_and_compaction_together_do_both() -> None:
    """Old segments go whole; in the others each key is there once."""
    host = Host(config=with_config(cleanup_policy="compact,delete", retention_ms=1000))
    partition = host.leader()
    for i in range(100):
        put(partition, [(b"%d" % (i % 3), b"x" * 50)], timestamp=1000 + 20 * i)
    close_segment(partition, host, wall_ms=3000)
    assert partition.apply_retention(3000) > 0
    compact(partition, host, wall_ms=3000)
    assert [record.offset for record in records(partition)] == [97, 98, 99]
    assert partition.apply_retention(5000) > 0
    assert records(partition) == []
    assert partition.log_start_offset == 100


def test_a_rotten_batch_is_found_and_nothing_is_taken_over() -> None:
    """What fails its checksum is not copied into a file with a good one."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for _ in range(20):
        put(partition, [(b"k", b"x" * 50)])
    close_segment(partition, host)
    names = host.segment_names()
    host.disk.corrupt(f"{host.directory}/{names[0]}", 70)
    assert compact(partition, host) is None
    assert partition.damage is not None
    assert partition.damage.offset == 0
    assert host.segment_names() == names


def test_a_log_that_is_cut_at_damage_behind_a_hole_ends_before_the_hole() -> None:
    """What lies in the hole was removed, not lost; but the log is known to its last sound batch only (compaction seed 136)."""
    host = Host(config=COMPACT)
    partition = host.leader()
    for key in (b"a", b"b", b"b", b"c"):
        put(partition, [(key, b"x" * 50)])
    close_segment(partition, host)
    compact(partition, host)
    assert [(header.base_offset, header.next_offset) for header in headers(partition)] == [(0, 1), (2, 3), (3, 4)]
    path = f"{host.directory}/{host.segment_names()[0]}"
    host.disk.corrupt(path, host.disk.size(path) // 2)
    assert compact(partition, host) is None
    assert partition.damage is not None
    assert partition.damage.offset == 1
    state = state_of(leader=2, leader_epoch=2, partition_epoch=9, isr=(2,), replicas=(1, 2))
    partition.apply_state(state, 0.0)
    partition.repair_damage()
    assert partition.log_end_offset == 1
    host.crash(power=True)
    again = host.open()
    assert again.damage is None
    assert again.log_end_offset == 1


def test_a_follower_takes_holes_below_the_mark_of_its_leader_only() -> None:
    """What is missing there was compacted; elsewhere it would be lost. That there are holes is known after any crash."""
    leader = Host(config=COMPACT)
    partition = leader.leader()
    for key in (b"a", b"b", b"b", b"c"):
        put(partition, [(key, b"x" * 50)])
    close_segment(partition, leader)
    compact(partition, leader)
    data = b"".join(data for _, _, data in stored(partition))
    host = Host(config=COMPACT)
    follower = host.open()
    follower.apply_state(state_of(leader=2, leader_epoch=1, partition_epoch=1, isr=(2,), replicas=(1, 2)), 0.0)
    with pytest.raises(ClusterError) as caught:
        follower.apply_fetched(1, data, high_watermark=1, log_start_offset=0, wall_ms=1000)
    assert caught.value.code is ErrorCode.corrupt_message
    assert follower.log_end_offset == 0
    follower.apply_fetched(1, data, high_watermark=4, log_start_offset=0, wall_ms=1000)
    host.flush(follower)
    assert stored(follower) == stored(partition)
    host.crash(power=True)
    again = host.open()
    assert again.damage is None
    assert stored(again) == stored(partition)


def test_segments_below_the_start_go_from_a_topic_that_only_compacts() -> None:
    """The start was raised while the topic deleted, too."""
    host = Host(config=with_config(cleanup_policy="compact,delete"))
    partition = host.leader()
    put(partition, [(b"a", b"1")])
    host.flush(partition)
    partition.delete_records(1)
    partition.apply_config(COMPACT)
    assert partition.apply_retention(1000) == 0
    close_segment(partition, host)
    assert partition.apply_retention(1000) == 1
    assert partition.segment_count == 1
