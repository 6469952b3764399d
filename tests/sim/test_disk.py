import errno
import random
from collections.abc import Callable

import pytest

from quorumlog.host.ports import StorageError
from tests.sim.disk import SECTOR_BYTES, SimDisk


def outcomes(prepare: Callable[[SimDisk], None], path: str, seeds: int = 60) -> set[bytes | None]:
    """All contents (None: no such file) that power cuts left at `path`, over many seeds."""
    seen: set[bytes | None] = set()
    for seed in range(seeds):
        disk = SimDisk(random.Random(seed))
        prepare(disk)
        disk.crash()
        seen.add(disk.read_file(path) if disk.exists(path) else None)
    return seen


def test_synced_bytes_under_a_durable_name_survive() -> None:
    """What was promised is kept, whatever the seed."""

    def prepare(disk: SimDisk) -> None:
        file = disk.open("a")
        file.append([b"kept"])
        file.sync()
        disk.sync_directory("")

    assert outcomes(prepare, "a") == {b"kept"}


def test_an_unsynced_tail_vanishes_stays_or_is_cut() -> None:
    """Nothing before the tail is touched, and each fate occurs."""

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"kept")
        disk.open("a").append([b"ab"])

    seen = outcomes(prepare, "a")
    assert {b"kept", b"kepta", b"keptab"} <= seen
    assert all(content is not None and content.startswith(b"kept") and len(content) <= 6 for content in seen)


def test_an_unsynced_tail_tears_by_sectors() -> None:
    """A cut may leave zeros or rubbish in the middle with good sectors behind."""
    tail = b"x" * (4 * SECTOR_BYTES)

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"")
        disk.open("a").append([tail])

    torn = [content for content in outcomes(prepare, "a") if content and not tail.startswith(content)]
    assert any(bytes(SECTOR_BYTES) in content for content in torn)
    assert any(content.endswith(b"x") for content in torn)


def test_a_name_without_a_directory_sync_may_vanish() -> None:
    """Syncing the file alone does not keep its name."""

    def prepare(disk: SimDisk) -> None:
        file = disk.open("a")
        file.append([b"kept"])
        file.sync()

    assert outcomes(prepare, "a") == {b"kept", None}


def test_a_deletion_without_a_directory_sync_may_be_undone() -> None:
    """Removed files can come back until their directory is synced."""

    def prepare(disk: SimDisk) -> None:
        disk.make_directory("d/e")
        disk.write_atomic("d/e/a", b"old")
        disk.delete("d")

    def prepare_synced(disk: SimDisk) -> None:
        prepare(disk)
        disk.sync_directory("")

    assert outcomes(prepare, "d/e/a") == {b"old", None}
    assert outcomes(prepare_synced, "d/e/a") == {None}


def test_a_truncation_counts_after_the_next_sync() -> None:
    """Before it, the cut bytes may be back; what was appended instead never mixes with them."""

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"12345")
        file = disk.open("a")
        file.truncate(2)
        file.append([b"ab"])

    def prepare_synced(disk: SimDisk) -> None:
        prepare(disk)
        disk.open("a").sync()

    seen = outcomes(prepare, "a")
    assert {b"12345", b"12", b"12ab"} <= seen
    assert outcomes(prepare_synced, "a") == {b"12ab"}


def test_rename_is_durable_for_files_and_directories() -> None:
    """After a rename only the new name exists, with what was synced."""
    disk = SimDisk(random.Random(3))
    disk.make_directory("old/in")
    disk.write_atomic("old/in/a", b"1")
    disk.write_atomic("b", b"2")
    disk.rename("old", "new")
    disk.rename("b", "c")
    disk.crash()
    assert (disk.list(""), disk.list("new"), disk.read_file("new/in/a"), disk.read_file("c")) == (
        ["c", "new"],
        ["in"],
        b"1",
        b"2",
    )


def test_the_death_of_the_process_keeps_everything_but_its_open_files() -> None:
    """kill -9 loses no written byte."""
    disk = SimDisk(random.Random(3))
    file = disk.open("a")
    file.append([b"1", b"2"])
    disk.crash(power=False)
    assert disk.read_file("a") == b"12"
    with pytest.raises(StorageError, match="died"):
        file.append([b"3"])


def test_a_failed_append_may_have_written_a_part() -> None:
    """The disk is full: the error names it, and a prefix of the data may be there."""
    sizes = set()
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        file = disk.open("a")
        disk.fail_next("append", errno.ENOSPC)
        with pytest.raises(StorageError, match="ENOSPC"):
            file.append([b"1234"])
        sizes.add(file.size())
    assert sizes == {0, 1, 2, 3, 4}


def test_a_sync_after_a_failed_sync_saves_nothing() -> None:
    """Going on after a failed fsync loses data although the next fsync succeeds (fsyncgate)."""

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"")
        file = disk.open("a")
        file.append([b"1"])
        disk.fail_next("sync")
        with pytest.raises(StorageError, match="EIO"):
            file.sync()
        file.sync()

    assert b"" in outcomes(prepare, "a")


def test_a_failed_sync_is_remembered_as_long_as_memory_lies() -> None:
    """By the next process too, which finds the bytes and can save them only in another file; not after a power cut."""

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"1")
        file = disk.open("a")
        file.append([b"23"])
        assert not disk.has_failed_sync()
        disk.fail_next("sync")
        with pytest.raises(StorageError, match="EIO"):
            file.sync()
        disk.crash(power=False)
        assert disk.has_failed_sync()
        assert disk.read_file("a") == b"123"
        disk.open("a").sync()
        assert disk.unsynced_bytes("a") == 2
        copy = disk.open("b")
        copy.append([b"123"])
        copy.sync()
        disk.rename("b", "a")

    assert outcomes(prepare, "a") == {b"123"}
    disk = SimDisk(random.Random(3))
    prepare(disk)
    disk.crash()
    assert not disk.has_failed_sync()


def test_what_is_cut_need_not_be_saved() -> None:
    """Bytes that a failed sync left in memory only are no concern once they are gone."""

    def prepare(disk: SimDisk) -> None:
        disk.write_atomic("a", b"1")
        file = disk.open("a")
        file.append([b"23"])
        disk.fail_next("sync")
        with pytest.raises(StorageError, match="EIO"):
            file.sync()
        file.truncate(1)
        file.append([b"4"])
        file.sync()

    assert outcomes(prepare, "a") == {b"14"}


def test_corruption_changes_one_byte_for_good() -> None:
    """A rotten byte reads the same way each time."""
    disk = SimDisk(random.Random(3))
    disk.write_atomic("a", b"12345")
    disk.corrupt("a", 2)
    read = disk.open("a").read(0, 10)
    assert (read[:2], read[3:], read[2:3] != b"3") == (b"12", b"45", True)
    assert disk.read_file("a") == read


def test_a_fault_for_a_path_spares_the_others() -> None:
    """A failing file leaves its neighbours alone."""
    disk = SimDisk(random.Random(3))
    bad, good = disk.open("bad"), disk.open("good")
    disk.fail_next("sync", path="bad")
    good.sync()
    with pytest.raises(StorageError, match="bad"):
        bad.sync()


def test_opening_needs_the_directory() -> None:
    """A missing directory is a clear error."""
    with pytest.raises(StorageError, match="parent directory"):
        SimDisk(random.Random(3)).open("no/such")
