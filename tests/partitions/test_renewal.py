"""A process dies of a failed sync, the machine goes on: what the next one calls flushed must be so."""

import pytest

from quorumlog.host.ports import StorageError
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.rebuild import rebuild
from quorumlog.partitions.renewal import renew_unpromised
from tests.partitions.stage import Host, send, stored


def die_of_a_failed_sync(host: Host, partition: Partition) -> None:
    """No file that is dirty gets synced."""
    flush = partition.begin_flush()
    assert flush is not None
    for file in flush.files:
        host.disk.fail_next("sync", path=file.path)
        with pytest.raises(StorageError):
            file.sync()
    host.crash(power=False)


def cut_power(host: Host) -> Partition:
    """With what the store has synced, so that it claims the most that it can."""
    host.store.sync()
    host.crash(power=True)
    return host.open()


@pytest.mark.parametrize("seed", range(8))
def test_what_a_failed_sync_left_in_memory_is_saved_before_it_counts_as_flushed(seed: int) -> None:
    """Otherwise the recovery's own sync succeeds, saves nothing, and a power cut takes what was claimed."""
    host = Host(seed)
    partition = host.leader()
    send(partition, [b"a"])
    host.flush(partition, sync_store=True)
    send(partition, [b"b"])
    die_of_a_failed_sync(host, partition)
    renew_unpromised(host.disk, host.store)
    partition = host.open()
    before = stored(partition)
    assert partition.flushed_offset == 2
    partition = cut_power(host)
    assert partition.damage is None
    assert stored(partition) == before


@pytest.mark.parametrize("seed", range(8))
def test_without_it_flushed_records_are_lost(seed: int) -> None:
    """The disk of these tests lies as a kernel does."""
    host = Host(seed)
    partition = host.leader()
    send(partition, [b"a"] * 5)
    die_of_a_failed_sync(host, partition)
    assert host.open().flushed_offset == 5
    assert all(host.disk.unsynced_bytes(path) for path in host.disk.files(host.directory))


def test_all_segments_behind_the_checkpoint_are_copied() -> None:
    """The log rolled several times during the sync that failed."""
    host = Host(3)
    partition = host.leader()
    send(partition, [b"first" * 50] * 4)
    host.flush(partition)
    for i in range(40):
        send(partition, [b"v%d" % i * 20])
    names = host.segment_names()
    assert len(names) > 4
    die_of_a_failed_sync(host, partition)
    renewed = renew_unpromised(host.disk, host.store)
    assert renewed == [f"{host.directory}/{name}" for name in names if f"{host.directory}/{name}" in renewed]
    partition = host.open()
    before = stored(partition)
    assert partition.flushed_offset == 44
    assert all(host.disk.unsynced_bytes(path) == 0 for path in host.disk.files(host.directory))
    assert stored(cut_power(host)) == before
    assert host.segment_names() == names


def test_what_a_checkpoint_vouches_for_is_left_alone() -> None:
    """Of many partitions only those that were being written to cost something."""
    host = Host()
    partition = host.leader()
    for i in range(60):
        send(partition, [b"v%d" % i])
    assert len(host.segment_names()) > 2
    host.flush(partition)
    other = host.disk.open("other")
    host.disk.fail_next("sync")
    with pytest.raises(StorageError):
        other.sync()
    host.crash(power=False)
    assert renew_unpromised(host.disk, host.store) == []
    assert not host.disk.has_failed_sync()


def test_without_a_failed_sync_nothing_is_copied() -> None:
    """kill -9 alone leaves the kernel with what it has to write."""
    host = Host()
    partition = host.leader()
    send(partition, [b"a"])
    host.crash(power=False)
    assert renew_unpromised(host.disk, host.store) == []


@pytest.mark.parametrize("operation", ["append", "sync", "read"])
def test_a_renewal_that_fails_is_done_again(operation: str) -> None:
    """Until it has succeeded the disk remembers, and the old file is there."""
    host = Host(5)
    partition = host.leader()
    send(partition, [b"a"])
    send(partition, [b"b"])
    before = stored(partition)
    die_of_a_failed_sync(host, partition)
    host.disk.fail_next(operation, path=host.directory)
    with pytest.raises(StorageError):
        renew_unpromised(host.disk, host.store)
    host.crash(power=False)
    assert host.disk.has_failed_sync()
    assert len(renew_unpromised(host.disk, host.store)) == 1
    assert stored(host.open()) == before
    assert stored(cut_power(host)) == before


def test_rebuild_vouches_for_nothing_that_a_failed_sync_left_in_memory() -> None:
    """It ends with a checkpoint, so it has to care as a start does."""
    host = Host(5)
    partition = host.leader()
    send(partition, [b"a"])
    before = stored(partition)
    die_of_a_failed_sync(host, partition)
    rebuild(host.disk, host.store, wall_ms=1000)
    assert stored(cut_power(host)) == before
