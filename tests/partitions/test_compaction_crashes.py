"""A crash before every single thing that a compaction does to the disk and the store: nothing is lost, nothing comes back."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from quorumlog.host.ports import StorageError
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.segment import CLEANED_SUFFIX
from tests.partitions.compaction_stage import COMPACT, close_segment, compact, last_values, put, records
from tests.partitions.stage import Host, stored

DISK = ("open", "append", "sync", "delete", "rename", "sync_directory")
STORE = ("write", "sync")


class Crash(Exception):
    pass


@contextmanager
def crash_before(host: Host, step: int) -> Iterator[list[str]]:
    """Let the process die before the so-manieth thing that is done to the host; a list of those that were done."""
    done: list[str] = []

    def watched(name: str, original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if len(done) == step:
                raise Crash
            done.append(name)
            return original(*arguments)

        return call

    for owner, names in ((host.disk, DISK), (host.store, STORE)):
        for name in names:
            setattr(owner, name, watched(name, getattr(owner, name)))
    try:
        yield done
    finally:
        for owner, names in ((host.disk, DISK), (host.store, STORE)):
            for name in names:
                delattr(owner, name)


def written(seed: int) -> tuple[Host, Partition]:
    """Several segments, compacted once before, and more behind them; all durable but for what the store was told last."""
    host = Host(seed, config=COMPACT)
    partition = host.leader()
    for i in range(40):
        put(partition, [(b"k%d" % (i % 7), b"%d" % i * 9)], producer_id=3, producer_epoch=0, base_sequence=i)
    close_segment(partition, host)
    compact(partition, host)
    for i in range(40, 90):
        put(partition, [(b"k%d" % (i % 9), b"%d" % i * 9 if i % 4 else None)])
    close_segment(partition, host)
    put(partition, [(b"active", b"v")])
    host.flush(partition, sync_store=True)
    return host, partition


@pytest.mark.parametrize("power", [False, True])
def test_a_crash_before_any_step_leaves_the_log_before_or_after(power: bool) -> None:
    """And what a start finds half done it finishes, whatever crashes then."""
    step, is_over = 0, False
    while not is_over:
        host, partition = written(step)
        before, expected = stored(partition), last_values(records(partition))
        with crash_before(host, step) as done:
            try:
                compact(partition, host)
                is_over = len(done) < step
            except Crash:
                pass
        host.crash(power=power)
        again = reopened(host, step, power=power)
        assert last_values(records(again)) == expected
        assert again.log_end_offset == 91
        survivors = {base for base, _, _ in stored(again)}
        assert survivors <= {base for base, _, _ in before}
        assert not any(name.endswith(CLEANED_SUFFIX) for name in host.segment_names())
        put(again, [(b"next", b"v")])
        close_segment(again, host)
        compact(again, host)
        assert last_values(records(again)) == expected | {b"next": b"v"}
        assert len({record.key for record in records(again)}) == len(records(again))
        step += 1
    assert step > 40


def reopened(host: Host, seed: int, *, power: bool) -> Partition:
    """The next process, which dies once more on its way; then the one after it."""
    with crash_before(host, seed % 5):
        try:
            return_early = host.leader(leader_epoch=2)
            assert return_early.damage is None
        except Crash:
            pass
    host.crash(power=power)
    partition = host.leader(leader_epoch=3)
    assert partition.damage is None
    return partition


def test_a_power_cut_while_names_change_takes_no_part_of_the_explanation() -> None:
    """The store may lose all that it was not told to keep: the names on the disk must not be ahead of it."""
    host, partition = written(0)
    with crash_before(host, 10**9) as done:
        compact(partition, host)
    first = done.index("rename")
    assert done[first + 1 : first + 4] == ["delete"] * 3  # of four segments that became one
    for step in range(first + 1, first + 7):
        for seed in range(20):
            host, partition = written(seed)
            expected = last_values(records(partition))
            with crash_before(host, step), suppress(Crash):
                compact(partition, host)
            host.crash(power=True)
            again = host.leader(leader_epoch=2)
            assert again.damage is None
            assert last_values(records(again)) == expected


def test_what_was_swapped_in_stays_after_a_power_cut() -> None:
    """A pass that ended is durable."""
    for seed in range(20):
        host, partition = written(seed)
        compact(partition, host)
        after = stored(partition)
        host.crash(power=True)
        again = host.leader(leader_epoch=2)
        assert stored(again) == after
        assert again.recovery.batches <= 1  # the active segment's


def test_a_disk_that_fails_in_the_middle_leaves_the_log_as_it_was() -> None:
    """There was no room for the new file, say: nothing is taken over."""
    host, partition = written(1)
    before = stored(partition)
    host.disk.fail_next("append", path=host.directory)
    with pytest.raises(Exception, match="append"):
        compact(partition, host)
    partition.abandon_cleaning()
    assert stored(partition) == before
    assert not any(name.endswith(CLEANED_SUFFIX) for name in host.segment_names())


def test_nothing_counts_that_was_made_of_a_log_which_changed() -> None:
    """Retention, a truncation, a deletion: whoever was there first stays in charge."""
    host, partition = written(2)

    def cut() -> None:
        if partition.log_end_offset == 91:
            partition._log.truncate(60, 1000)

    assert compact(partition, host, between=cut) is None
    assert partition.log_end_offset <= 60
    assert partition.damage is None
    host.crash(power=False)
    assert host.leader(leader_epoch=2).damage is None

    host, partition = written(3)
    with pytest.raises(StorageError, match="is gone"):
        compact(partition, host, between=lambda: raise_start(partition))
    partition.abandon_cleaning()
    expected = last_values(records(partition))
    host.crash(power=True)
    assert last_values(records(host.leader(leader_epoch=2))) == expected


@pytest.mark.parametrize("power", [False, True])
def test_the_log_goes_on_in_the_middle_of_a_swap(power: bool) -> None:
    """It is the new one already, before its files have their names: for readers, writers, truncation, retention, the end."""

    def read(partition: Partition, _: Host) -> None:
        assert last_values(records(partition)) == expected

    def write(partition: Partition, host: Host) -> None:
        put(partition, [(b"meanwhile", b"v")])
        expected[b"meanwhile"] = b"v"
        host.flush(partition)

    def cut(partition: Partition, _: Host) -> None:
        partition._log.truncate(70, 1000)

    def forget(partition: Partition, _: Host) -> None:
        partition._log.raise_start(45)

    def end(partition: Partition, _: Host) -> None:
        partition.close()

    for seed, act in enumerate((read, write, cut, forget, end) * 3):
        host, partition = written(seed)
        expected = last_values(records(partition))
        acts = [act]
        compact(partition, host, unfinished=lambda: acts.pop()(partition, host) if acts else None)  # noqa: B023
        before = last_values(records(partition)) if act is not end else expected
        assert before == expected or act in (cut, forget)
        if act is not end:
            host.flush(partition)
        host.crash(power=power)
        again = host.leader(leader_epoch=2)
        assert again.damage is None
        assert last_values(records(again)) == before


def raise_start(partition: Partition) -> None:
    partition._log.raise_start(80)


def test_a_node_that_was_closed_or_deleted_meanwhile_takes_nothing_over() -> None:
    """The pass ends into nothing."""
    host, partition = written(4)
    assert compact(partition, host, between=partition.close) is None
    assert last_values(records(host.leader(leader_epoch=2)))


def test_a_flush_under_way_keeps_its_files() -> None:
    """It may be syncing one that was rolled a moment ago; it is closed after that."""
    host, partition = written(5)
    put(partition, [(b"k", b"v" * 2000)])
    put(partition, [(b"k", b"v" * 2000)])
    flush = partition.begin_flush()
    assert flush is not None
    compact(partition, host)
    for file in flush.files:
        file.sync()
    partition.end_flush(flush)
    assert partition.log_end_offset == 93
