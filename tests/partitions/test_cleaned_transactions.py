"""Compaction of transactions: aborted records go, and the marks that tell of it stay as long as anybody may need them."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from quorumlog.partitions.aborted import AbortedTransaction
from quorumlog.partitions.cleaned_transactions import CleanedTransactions
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog
from quorumlog.partitions.log import Log
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.segment import Segment
from quorumlog.partitions.swap import PendingSwap
from quorumlog.wire.batches import BatchHeader, read_header
from quorumlog.wire.records import Record, build_batch
from tests.partitions.compaction_stage import close_segment, compact, headers, put, records, with_config
from tests.partitions.stage import Host

ABORT, COMMIT = 0, 1


class Transactions:
    """A log that gets batches of transactions, past the doors that refuse them."""

    def __init__(self) -> None:
        self.host = Host(config=with_config(delete_retention_ms=100))
        self.partition = self.host.leader()
        self.aborted: list[AbortedTransaction] = []
        put(self.partition, [(b"first", b"of its epoch")])

    def add(self, batch: bytes) -> int:
        log = self.partition._log
        base = log.end_offset
        header = read_header(batch)._replace(base_offset=base, leader_epoch=1)
        prefix = struct.pack(">qii", base, header.batch_length, 1)
        log.append([prefix, batch[16:]], header, 1000)
        self.partition._after_append(0.0)
        return base

    def records(self, producer_id: int, sequence: int, *keys: bytes) -> int:
        built = build_batch(
            [Record(i, 1000, key, b"v%d" % sequence) for i, key in enumerate(keys)],
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
            is_transactional=True,
        )
        return self.add(built)

    def mark(self, producer_id: int, kind: int) -> int:
        key, value = struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0)
        record = Record(0, 1000, key, value)
        return self.add(build_batch([record], producer_id=producer_id, producer_epoch=0, is_transactional=True, is_control=True))

    def abort(self, producer_id: int, first_offset: int) -> int:
        last = self.mark(producer_id, ABORT)
        self.aborted.append(AbortedTransaction(producer_id, first_offset, last, 0))
        return last

    def compact(self, wall_ms: int) -> CleanedLog:
        close_segment(self.partition, self.host)
        gone: list[int] = []

        def swap_in(log: Log, old: Sequence[Segment], cleaned: CleanedGroup) -> PendingSwap:
            gone.extend(cleaned.marks_gone)
            return original(log, old, cleaned)

        original = Log.swap_in
        with (
            patch.object(Partition, "aborted_between", lambda _self, _start, _end: tuple(self.aborted)),
            patch.object(Log, "swap_in", swap_in),
        ):
            done = compact(self.partition, self.host, wall_ms=wall_ms)
        assert done is not None
        self.aborted = [one for one in self.aborted if one.last_offset not in gone]
        return done

    def marks(self) -> list[BatchHeader]:
        return [header for header in headers(self.partition) if header.is_control]


def test_aborted_records_go_at_once_and_do_not_hide_older_ones() -> None:
    """The last committed value of a key is its last."""
    log = Transactions()
    put(log.partition, [(b"a", b"old"), (b"b", b"old")])
    first = log.records(7, 0, b"a", b"c")
    log.abort(7, first)
    log.records(8, 0, b"b")
    log.mark(8, COMMIT)
    put(log.partition, [(b"z", b"end")])
    log.compact(2000)
    assert [(record.offset, record.key, record.value) for record in records(log.partition)] == [
        (0, b"first", b"of its epoch"),
        (1, b"a", b"old"),
        (6, b"b", b"v0"),
        (8, b"z", b"end"),
    ]


def test_a_mark_stays_until_its_records_are_gone_and_then_for_a_while() -> None:
    """Pass by pass: records go, the mark gets its time, the mark goes, but for what its producer needs."""
    log = Transactions()
    first = log.records(7, 0, b"a")
    log.abort(7, first)
    log.records(7, 1, b"b")
    log.mark(7, COMMIT)
    put(log.partition, [(b"z", b"end")])
    log.compact(2000)
    assert [mark.delete_horizon_ms for mark in log.marks()] == [-1, -1]
    log.compact(3000)
    assert [one.producer_id for one in log.aborted] == [7]
    assert [mark.delete_horizon_ms for mark in log.marks()] == [3100, -1]
    log.compact(3099)
    assert len(log.marks()) == 2
    log.compact(3100)
    assert log.aborted == []  # without a mark, a consumer would go on leaving out what the producer writes
    (left,) = log.marks()
    assert left.base_offset == 4
    assert [record.key for record in records(log.partition)] == [b"first", b"b", b"z"]


def test_the_mark_of_a_commit_goes_when_all_its_records_were_replaced() -> None:
    """Nothing is left that a reader would have to wait for."""
    log = Transactions()
    log.records(7, 0, b"a")
    log.mark(7, COMMIT)
    put(log.partition, [(b"a", b"later")])
    log.compact(2000)
    assert [mark.delete_horizon_ms for mark in log.marks()] == [-1]
    log.partition._log.producers.clear()
    log.compact(2500)  # its last batch, emptied, was kept for it
    log.compact(3000)
    assert [mark.delete_horizon_ms for mark in log.marks()] == [3100]
    log.compact(3200)
    assert log.marks() == []
    assert [record.key for record in records(log.partition)] == [b"first", b"a"]


def test_a_mark_that_is_all_that_is_known_of_a_producer_stays_whole() -> None:
    """Who replays the log must understand it; and the next transaction of that producer is another."""
    log = Transactions()
    first = log.records(7, 0, b"a")
    log.abort(7, first)
    put(log.partition, [(b"z", b"end")])
    state = log.partition._log.producers.get(7)
    assert state is not None
    log.partition._log.producers._producers[7] = replace(state, batches=[])
    for wall_ms in (2000, 3000, 3200):
        log.compact(wall_ms)
    assert [mark.record_count for mark in log.marks()] == [1]
    log.records(7, 1, b"a")
    log.mark(7, COMMIT)
    put(log.partition, [(b"y", b"end")])
    log.compact(4000)
    assert [record.key for record in records(log.partition)] == [b"first", b"z", b"a", b"y"]


def test_a_mark_that_another_broker_emptied_ends_nothing_that_follows() -> None:
    """Kafka leaves such; a log may have been copied from one."""
    transactions = CleanedTransactions([AbortedTransaction(7, 0, 1, 0)])
    marks = [_header(number, is_control=number == 1) for number in range(3)]
    assert transactions.is_aborted(marks[0])
    assert transactions.is_idle(marks[1], None)
    assert not transactions.is_aborted(marks[2])


def _header(offset: int, *, is_control: bool) -> BatchHeader:
    batch = build_batch([Record(0, 1000, b"k", b"v")], producer_id=7, is_transactional=True, is_control=is_control)
    return read_header(batch)._replace(base_offset=offset)
