"""Transactions on a partition: what is stable, what was aborted, who may begin and end, against a twin that reads every batch."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from quorumlog.partitions.aborted import AbortedIndex
from quorumlog.partitions.keys import Keys
from quorumlog.partitions.partition import Partition, Role
from quorumlog.partitions.producers import ProducerStates
from quorumlog.partitions.rebuild import rebuild
from quorumlog.partitions.verification import VERIFYING_MAX, Verifications
from quorumlog.wire.batches import read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.markers import Marker, build_marker, read_marker
from tests.partitions.stage import TINY, TOPIC_ID, Host, batch_of, send, stored
from tests.partitions.transactions import ReadByHand, end, transactional, write
from tests.partitions.trio import Trio, run


def refused(action, *args, **options) -> ErrorCode:
    with pytest.raises(ClusterError) as caught:
        action(*args, **options)
    return caught.value.code


def committed(host: Host, partition: Partition) -> Partition:
    host.flush(partition)
    assert partition.high_watermark == partition.log_end_offset
    return partition


# --- the last stable offset


def test_what_is_open_holds_back_readers_of_committed_records() -> None:
    """Also what others have committed behind it; an end releases as far as the next open one."""
    host = Host()
    partition = host.leader()
    send(partition, [b"before"])
    write(partition, [b"a", b"b"], producer_id=1)
    write(partition, [b"c"], producer_id=2)
    committed(host, partition)
    assert (partition.last_stable_offset, partition.first_unstable_offset) == (1, 1)
    end(partition, producer_id=1, commit=True)
    assert partition.last_stable_offset == 1, "the marker is not committed, and may be cut off"
    committed(host, partition)
    assert partition.last_stable_offset == 3
    end(partition, producer_id=2, commit=False)
    committed(host, partition)
    assert partition.last_stable_offset == partition.high_watermark == 6
    assert partition.first_unstable_offset is None


def test_a_reader_of_committed_records_is_told_what_was_aborted() -> None:
    """Of what it reads and no more; who reads all is told nothing."""
    host = Host()
    partition = host.leader()
    write(partition, [b"a"], producer_id=1)
    end(partition, producer_id=1, commit=False)
    write(partition, [b"b"], producer_id=2)
    end(partition, producer_id=2, commit=True)
    write(partition, [b"c"], producer_id=1, sequence=1)
    end(partition, producer_id=1, commit=False)
    committed(host, partition)
    everything = partition.read(0, max_bytes=1 << 20, isolation_committed=True)
    assert [(one.producer_id, one.first_offset) for one in everything.aborted] == [(1, 0), (1, 4)]
    first = partition.read(0, max_bytes=1, isolation_committed=True)
    assert [one.first_offset for one in first.aborted] == [0]
    assert partition.read(2, max_bytes=1, isolation_committed=True).aborted == ()
    assert partition.read(0, max_bytes=1 << 20).aborted == ()


def test_times_are_looked_up_below_what_the_reader_may_see() -> None:
    """ListOffsets by time, of both isolation levels."""
    host = Host()
    partition = host.leader()
    send(partition, [b"x"], timestamp=500)
    write(partition, [b"a"], producer_id=1)
    committed(host, partition)
    found = partition.offset_for_timestamp(900)
    assert found is not None
    assert found[0] == 1
    assert partition.offset_for_timestamp(900, isolation_committed=True) is None
    assert (partition.max_timestamp()[1], partition.max_timestamp(isolation_committed=True)[1]) == (1, 0)


def test_records_deleted_from_an_open_transaction_are_not_waited_for() -> None:
    """Readers begin at the start of the log."""
    host = Host()
    partition = host.leader()
    write(partition, [b"a"], producer_id=1)
    write(partition, [b"b"], producer_id=1, sequence=1)
    committed(host, partition)
    partition.delete_records(1)
    assert partition.last_stable_offset == 1


# --- beginning and ending


def test_nobody_begins_without_the_coordinators_word() -> None:
    """Nor with a word that was given before the transaction ended (the delayed write of KIP-890)."""
    partition = Host().leader()
    batch = transactional([b"a"], producer_id=1)
    assert refused(partition.append, batch, acks=1, now=0.0, wall_ms=0) is ErrorCode.invalid_txn_state
    asked = partition.transaction_to_verify(batch)
    assert asked is not None
    end(partition, producer_id=1, commit=False)
    assert refused(partition.append, batch, acks=1, now=0.0, wall_ms=0, guard=asked[1]) is ErrorCode.invalid_txn_state
    again = partition.transaction_to_verify(batch)
    assert again is not None
    assert partition.append(batch, acks=1, now=0.0, wall_ms=0, guard=again[1]).base_offset == 1
    assert partition.transaction_to_verify(transactional([b"b"], producer_id=1, sequence=1)) is None, "it is open"
    assert partition.transaction_to_verify(batch) is None, "a repeat"


def test_a_later_request_is_not_the_first_to_be_stored() -> None:
    """The first was refused for the moment: its repeat must still find its place."""
    partition = Host().leader()
    partition.delete_records(-1)
    first = transactional([b"a"], producer_id=1, sequence=5)
    second = transactional([b"b"], producer_id=1, sequence=6)
    guards = [partition.transaction_to_verify(one) for one in (first, second)]
    assert guards[0] is not None
    assert guards[1] is not None
    assert guards[0][1] is guards[1][1], "one question for both"
    late = guards[1][1]
    assert refused(partition.append, second, acks=1, now=0.0, wall_ms=0, guard=late) is ErrorCode.out_of_order_sequence_number


def test_a_second_request_waits_for_the_word_that_the_first_has_asked_for() -> None:
    """Refused at once for its sequence, it would be told so after the first was acknowledged: its producer would see a gap."""
    partition = Host().leader()
    write(partition, [b"last"], producer_id=1)
    end(partition, producer_id=1, commit=True, epoch=1, is_strict=True)
    batches = [transactional([b"%d" % number], producer_id=1, epoch=1, sequence=number) for number in range(2)]
    first, second = (partition.transaction_to_verify(one) for one in batches)
    assert first is not None
    assert second is not None
    assert first[1] is second[1], "one question for both"
    offsets = [partition.append(one, acks=1, now=0.0, wall_ms=0, guard=first[1]).base_offset for one in batches]
    assert offsets == [2, 3]


def test_words_are_forgotten_with_the_leadership_and_bounded() -> None:
    """A hostile producer makes up ids."""
    verifications = Verifications()
    guard = verifications.begin(1, 0, 0)
    for number in range(VERIFYING_MAX):
        verifications.begin(number + 2, 0, 0)
        verifications.note_ended(number, 1)
    verifications.note_ended(VERIFYING_MAX, 1)
    with pytest.raises(ClusterError):
        verifications.check(1, 0, 0, guard)
    assert not verifications.is_ended(0, 1)
    assert verifications.is_ended(1, 1)
    verifications.clear()
    assert not verifications.is_ended(1, 1)


def test_one_producer_has_one_thing_open() -> None:
    """No plain batch beside a transaction, and none of the next epoch before the last one has ended."""
    partition = Host().leader()
    write(partition, [b"a"], producer_id=1)
    plain = batch_of([b"b"], producer_id=1, base_sequence=1)
    assert refused(partition.append, plain, acks=1, now=0.0, wall_ms=0) is ErrorCode.invalid_txn_state
    code = refused(write, partition, [b"b"], producer_id=1, epoch=1)
    assert code is ErrorCode.concurrent_transactions


def test_markers_fence_producers_and_coordinators_of_before() -> None:
    """Also where nothing was open."""
    partition = Host().leader()
    end(partition, producer_id=1, commit=False, epoch=3, coordinator_epoch=7)
    assert refused(write, partition, [b"a"], producer_id=1, epoch=2) is ErrorCode.invalid_producer_epoch
    assert refused(end, partition, producer_id=1, commit=True, epoch=2) is ErrorCode.invalid_producer_epoch
    code = refused(end, partition, producer_id=1, commit=True, epoch=3, coordinator_epoch=6)
    assert code is ErrorCode.transaction_coordinator_fenced
    assert end(partition, producer_id=1, commit=True, epoch=3, coordinator_epoch=7) is not None


def test_a_strict_marker_ends_no_transaction_of_its_own_epoch() -> None:
    """It is a repeat (KIP-1228): done where nothing is open, refused where the next transaction is."""
    partition = Host().leader()
    write(partition, [b"a"], producer_id=1, epoch=0)
    assert end(partition, producer_id=1, commit=True, epoch=1, is_strict=True) is not None
    assert end(partition, producer_id=1, commit=True, epoch=1, is_strict=True) is None
    write(partition, [b"b"], producer_id=1, epoch=1)
    assert refused(end, partition, producer_id=1, commit=True, epoch=1, is_strict=True) is ErrorCode.invalid_producer_epoch
    assert end(partition, producer_id=1, commit=False, epoch=2, is_strict=True) is not None


def test_a_decision_is_carried_out_once() -> None:
    """A marker that was sent again overtakes its first copy: the late one ends no later transaction of an old client either."""
    partition = Host().leader()
    write(partition, [b"a"], producer_id=1)
    assert end(partition, producer_id=1, commit=True, decision=10) is not None
    write(partition, [b"b"], producer_id=1, sequence=1)
    assert end(partition, producer_id=1, commit=True, decision=10) is None
    assert partition.transaction_start(1) == 2
    assert end(partition, producer_id=1, commit=False, decision=11) is not None


def test_who_has_something_open_is_never_forgotten() -> None:
    """Neither for being silent nor for want of room."""
    host = Host()
    partition = host.leader()
    write(partition, [b"a"], producer_id=1)
    send(partition, [b"b"], producer_id=2, base_sequence=0)
    partition.apply_retention(1 << 50)
    assert [producer_id for producer_id, _ in partition.known_producers()] == [1]
    producers = ProducerStates(expiration_ms=1000, producers_max=2)
    for producer_id in (1, 2, 3):
        producers.update(read_header(transactional([b""], producer_id=producer_id)), 0)
    producers.update(read_header(batch_of([b""], producer_id=4, base_sequence=0)), 0)
    assert [producer_id for producer_id, _ in producers.known()] == [1, 2, 3]


def test_a_snapshot_of_before_transactions_can_be_read() -> None:
    """Version 2, as nodes wrote it until now."""
    old = bytes.fromhex("020000000001" + "0000000000000007" + "0003" + "0000000000000064" + "01" + "00000000" + "00000002")
    producers = ProducerStates(expiration_ms=1000, producers_max=2)
    producers.restore(old + (40).to_bytes(8, "big") + (-1).to_bytes(8, "big", signed=True))
    state = producers.get(7)
    assert state is not None
    assert (state.epoch, state.last_heard_ms, state.coordinator_epoch, state.batches) == (3, 100, -1, [(0, 2, 40, -1)])
    again = ProducerStates(expiration_ms=1000, producers_max=2)
    again.restore(producers.encode())
    assert again.get(7) == state


def test_a_snapshot_knows_what_may_still_be_undone() -> None:
    """Ends whose markers were not committed when it was made."""
    producers = ProducerStates(expiration_ms=1000, producers_max=2)
    producers.update(read_header(transactional([b""], producer_id=1))._replace(base_offset=5), 0)
    control = read_header(build_marker(Marker(True, 1), producer_id=1, producer_epoch=0, wall_ms=0))
    producers.end_transaction(control._replace(base_offset=9), Marker(True, 1), 0)
    again = ProducerStates(expiration_ms=1000, producers_max=2)
    again.restore(producers.encode())
    assert [again.transactions.first_unstable(mark) for mark in (8, 9, 10)] == [5, 5, None]


@pytest.mark.parametrize("seed", range(8))
def test_an_abort_that_the_log_lost_is_lost_from_the_index(seed: int) -> None:
    """The store may have kept what the segment did not, behind a clean end."""
    host = Host(seed)
    partition = host.leader()
    write(partition, [b"a"], producer_id=1)
    partition.close()
    end(host.leader(), producer_id=1, commit=False)
    host.store.sync()
    host.crash(power=True)
    again = host.leader(leader_epoch=2)
    told = [(one.producer_id, one.first_offset) for one in again.aborted_between(0, 1 << 40)]
    assert told == ReadByHand.of(stored(again)).aborted(0, 1 << 40)


@pytest.mark.parametrize("is_commit", [False, True])
def test_markers_read_as_written(is_commit: bool) -> None:
    """And other control batches, or emptied ones, are none."""
    marker = Marker(is_commit, 5)
    batch = build_marker(marker, producer_id=3, producer_epoch=2, wall_ms=9)
    header = read_header(batch)
    assert (header.is_control, header.is_transactional, header.base_sequence, header.producer_id) == (True, True, -1, 3)
    assert read_marker(batch, header) == marker
    assert read_marker(batch[:61], header._replace(record_count=0, batch_length=49)) is None
    plain = batch_of([b"x"])
    assert read_marker(plain, read_header(plain)) is None


# --- against the twin, through crashes

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 3)),
        st.tuples(st.just("plain"), st.just(0)),
        st.tuples(st.just("commit"), st.integers(1, 3)),
        st.tuples(st.just("abort"), st.integers(1, 3)),
        st.tuples(st.just("flush"), st.booleans()),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("cut"), st.integers(0, 100)),
        st.tuples(st.just("reopen"), st.booleans()),
    ),
    max_size=40,
)


class Story:
    """One partition, led by one node that crashes and comes back. Sequences do not matter here."""

    def __init__(self) -> None:
        self.host = Host()
        self.partition = self.host.leader()
        self.epoch = 1

    def lead(self) -> None:
        self.epoch += 1
        self.partition = self.host.leader(leader_epoch=self.epoch)
        assert self.partition.damage is None

    def step(self, action: str, detail: int) -> None:
        partition = self.partition
        match action:
            case "write":
                guard = partition.guard_for(detail, 0)
                batch = transactional([b"v" * 40], producer_id=detail, sequence=-1)
                partition.append(batch, acks=1, now=0.0, wall_ms=1000, guard=guard, by_coordinator=True)
            case "plain":
                send(partition, [b"plain"])
            case "commit" | "abort":
                end(partition, producer_id=detail, commit=action == "commit")
            case "flush":
                self.host.flush(partition, sync_store=bool(detail))
            case "crash":
                self.host.crash(power=bool(detail))
                self.lead()
            case "cut":
                # As a follower whose log parted from its leader's, above what is committed.
                span = partition.log_end_offset - partition.high_watermark
                partition._truncate(partition.high_watermark + span * detail // 100)
            case "reopen":
                partition.close()
                if detail:
                    rebuild(self.host.disk, self.host.store, wall_ms=1000, config=TINY)
                self.lead()

    def check(self) -> None:
        partition = self.partition
        twin = ReadByHand.of(stored(partition))
        assert dict(partition._log.producers.transactions._open) == twin.opened
        decided = [one for one in twin.ended if one.marker_offset >= partition.high_watermark]
        assert partition.last_stable_offset == twin.last_stable_offset(partition.high_watermark), (twin, decided)
        end_offset = partition.log_end_offset
        for start in range(0, end_offset + 1, 1 + end_offset // 7):
            for stop in (start + 1, start + 3, end_offset):
                told = [(one.producer_id, one.first_offset) for one in partition.aborted_between(start, stop)]
                assert told == twin.aborted(start, stop), (start, stop)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_what_is_stable_and_aborted_survives_everything(steps: list[tuple[str, int]]) -> None:
    """Crashes of process and power, truncation, a clean end, a store made anew: as if every batch were read each time."""
    story = Story()
    for action, detail in steps:
        story.step(action, int(detail))
        story.check()


class TransactingTrio(Trio):
    """Three producers write transactions and end them; the leader's word is taken for the coordinator's."""

    def produce(self, n: int) -> None:
        partition = self.nodes[n].partition
        if partition is None:
            return
        producer_id, choice = self.rng.randint(1, 3), self.rng.random()
        if choice < 0.2:
            super().produce(n)
        elif choice < 0.6:
            self.counter += 1
            batch = transactional([b"%d from %d" % (self.counter, n)], producer_id=producer_id, sequence=-1)
            guard = partition.guard_for(producer_id, 0)
            self.allow(lambda: partition.append(batch, acks=-1, now=self.now, wall_ms=1000, guard=guard, by_coordinator=True))
        else:
            commit = self.rng.random() < 0.5
            self.allow(lambda: end(partition, producer_id=producer_id, commit=commit))

    def check_node(self, n, node) -> None:
        super().check_node(n, node)
        partition = node.partition
        stable = partition.last_stable_offset
        assert stable <= partition.high_watermark
        batches = stored(partition)
        twin = ReadByHand.of(batches)
        if partition.log_start_offset == 0:
            assert stable == twin.last_stable_offset(partition.high_watermark), (n, twin)
        if partition.role is Role.OFFLINE:
            return
        assert stable <= max(partition.log_start_offset, twin.last_stable_offset(partition.high_watermark)), (n, twin)
        told = [(one.producer_id, one.first_offset) for one in partition.aborted_between(partition.log_start_offset, stable)]
        missing = [one for one in twin.aborted(partition.log_start_offset, stable) if one not in told]
        assert not [one for one in missing if one[0] not in {producer for producer, _ in told}], (n, told, missing)


@pytest.mark.parametrize("seed", range(12))
def test_followers_know_what_the_leader_knows(seed: int) -> None:
    """Under crashes, elections and truncations, each replica judges as a reader of all its batches would."""
    run(seed, steps=250, kind=TransactingTrio, min_insync_replicas=1 + seed % 2)


def test_the_index_forgets_what_nobody_can_read() -> None:
    """With the segments below the start of the log."""
    host = Host()
    partition = host.leader()
    for number in range(30):
        write(partition, [b"v" * 60], producer_id=1, sequence=number)
        end(partition, producer_id=1, commit=False)
    committed(host, partition)
    partition.delete_records(40)
    index = AbortedIndex(host.store, Keys(TOPIC_ID, 0))
    assert next(one.last_offset for one in index.between(0, 1 << 40)) >= 40
    assert index.newest == 59
