import errno
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorumlog.host.disk import LOCK_NAME, RealDisk, RealFile
from quorumlog.host.ports import Disk, StorageError
from tests.sim.disk import SimDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    disk = RealDisk(tmp_path)
    yield disk
    disk.close()


def test_appends_are_read_back_anywhere(disk: RealDisk) -> None:
    """Buffers of every kind land in order; reads stop at the end of the file."""
    file = disk.open("a")
    file.append([b"12", bytearray(b"34"), b"", memoryview(b"x56y")[1:3]])
    assert (file.size(), file.read(0, 100), file.read(2, 3), file.read(6, 5)) == (6, b"123456", b"345", b"")
    file.sync()
    file.close()
    again = disk.open("a")
    again.append([b"7"])
    assert again.read(5, 5) == b"67"
    again.close()


def test_more_buffers_than_one_system_call_takes(disk: RealDisk) -> None:
    """IOV_MAX is no limit for us."""
    buffers = [b"%05d" % number for number in range(2500)]
    file = disk.open("a")
    file.append(buffers)
    file.close()
    assert disk.read_file("a") == b"".join(buffers)


def test_partial_writes_go_on_where_they_stopped(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes three bytes at a time gets all of them."""
    writev = os.writev

    def three_bytes(fd: int, buffers: list[Any]) -> int:
        return writev(fd, [b"".join(buffers)[:3]])

    monkeypatch.setattr(os, "writev", three_bytes)
    file = disk.open("a")
    file.append([b"1", b"2345", b"67", b"8"])
    assert (file.size(), file.read(0, 100)) == (8, b"12345678")
    file.close()


@pytest.mark.parametrize("call", ["writev", "fdatasync", "pread", "ftruncate"])
def test_errors_name_the_file_and_the_reason(disk: RealDisk, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whatever the machine refuses becomes a StorageError."""
    file = disk.open("orders-0")
    file.append([b"12345"])

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match=r"orders-0: ENOSPC \(No space left on device\)"):
        match call:
            case "writev":
                file.append([b"1"])
            case "fdatasync":
                file.sync()
            case "pread":
                file.read(0, 1)
            case _:
                file.truncate(1)
    file.close()


def test_a_failed_sync_is_remembered_by_the_next_process(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is told to forget, whoever opens the directory meanwhile."""

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    file = disk.open("a")
    file.sync()
    assert not disk.has_failed_sync()
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="EIO"):
        patch.setattr(os, "fdatasync", broken)
        file.sync()
    file.close()
    assert disk.has_failed_sync()
    for _ in range(2):
        disk.close()
        disk = RealDisk(disk.root)
        assert disk.has_failed_sync()
    with pytest.raises(StorageError, match=f"pid {os.getpid()}\\)"):
        RealDisk(disk.root)
    disk.forget_failed_sync()
    assert not disk.has_failed_sync()
    disk.close()
    disk = RealDisk(disk.root)
    assert not disk.has_failed_sync()
    disk.close()


def test_a_failed_sync_is_noted_without_new_room_on_the_disk(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note goes over bytes that are there; a disk that does not take even that hides no error."""
    size = Path(disk.root, LOCK_NAME).stat().st_size

    def broken(*_arguments: object) -> int:
        raise OSError(errno.EROFS, "broken")

    monkeypatch.setattr(os, "fdatasync", broken)
    file = disk.open("a")
    with pytest.raises(StorageError, match="EROFS"):
        file.sync()
    assert Path(disk.root, LOCK_NAME).stat().st_size == size
    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(StorageError, match="cannot sync a: EROFS"):
        file.sync()
    file.close()


def test_a_really_full_disk(disk: RealDisk) -> None:
    """/dev/full, reached through a link, refuses with ENOSPC."""
    os.symlink("/dev/full", os.path.join(disk.root, "full"))
    with pytest.raises(StorageError, match="ENOSPC"):
        disk.open("full").append([b"1"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../b", "a\0b"])
def test_no_path_leaves_the_root(disk: RealDisk, path: str) -> None:
    """Every operation refuses a path that is not inside."""
    for operation in (disk.open, disk.exists, disk.list, disk.make_directory, disk.delete, disk.read_file):
        with pytest.raises(ValueError, match="not inside"):
            operation(path)


def test_the_root_cannot_be_deleted(disk: RealDisk) -> None:
    """An empty path is no way to lose everything."""
    with pytest.raises(ValueError, match="not for deleting"):
        disk.delete("")


def test_what_a_crash_left_of_an_atomic_write_is_not_listed(disk: RealDisk) -> None:
    """A reader sees old or new content and no half-written neighbour."""
    disk.write_atomic("a", b"old")
    Path(disk.root, "a~").write_bytes(b"ne")
    assert disk.list("") == ["a", LOCK_NAME]
    disk.write_atomic("a", b"new")
    assert disk.read_file("a") == b"new"
    assert sorted(os.listdir(disk.root)) == ["a", LOCK_NAME]


def test_a_failed_atomic_write_leaves_the_old_content(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replaced unless the new content is on the medium."""
    disk.write_atomic("a", b"old")

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match="EIO"):
        disk.write_atomic("a", b"new")
    assert disk.read_file("a") == b"old"


def test_a_second_opener_is_told_who_has_the_directory(disk: RealDisk) -> None:
    """One process a directory; giving it up lets the next one in."""
    with pytest.raises(StorageError, match=f"in use by another process \\(pid {os.getpid()}\\)"):
        RealDisk(disk.root)
    disk.close()
    RealDisk(disk.root).close()


def test_the_death_of_the_process_gives_up_the_directory(tmp_path: Path) -> None:
    """kill -9 leaves no lock behind."""
    code = (
        "import sys; from quorumlog.host.disk import RealDisk; disk = RealDisk(sys.argv[1]); print('locked', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(StorageError, match=f"pid {process.pid}"):
            RealDisk(tmp_path)
        process.kill()
        process.wait()
    RealDisk(tmp_path).close()


def test_a_missing_root_is_created_only_on_demand(tmp_path: Path) -> None:
    """A mistyped data directory is an error, not a new empty node."""
    with pytest.raises(StorageError, match="does not exist"):
        RealDisk(tmp_path / "a" / "b")
    RealDisk(tmp_path / "a" / "b", create=True).close()
    assert (tmp_path / "a" / "b").is_dir()


NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/a"])
STEPS = st.one_of(
    st.tuples(st.just("append"), NAMES, st.binary(max_size=5)),
    st.tuples(st.just("truncate"), NAMES, st.integers(0, 6)),
    st.tuples(st.just("write_atomic"), NAMES, st.binary(max_size=5)),
    st.tuples(st.sampled_from(["make_directory", "delete", "sync_directory"]), NAMES, st.none()),
    st.tuples(st.just("rename"), NAMES, NAMES),
)


def perform(disk: Disk, step: tuple[str, str, Any]) -> object:
    """What a step answers, errors reduced to their kind, and what the whole disk holds afterwards."""
    operation, path, argument = step
    result: object = None
    try:
        if operation in ("append", "truncate"):
            file = disk.open(path)
            try:
                if operation == "append":
                    file.append([argument])
                else:
                    file.truncate(min(argument, file.size()))
                file.sync()
                result = file.size(), file.read(1, 3)
            finally:
                file.close()
        elif argument is None:
            getattr(disk, operation)(path)
        else:
            getattr(disk, operation)(path, argument)
    except StorageError:
        result = "refused"
    listings = [(directory, disk.list(directory)) for directory in ("", "d", "d/e", "a", "none")]
    return result, listings, [disk.read_file(name) for name in ("a", "d/a", "d/e/a") if is_file(disk, name)]


def is_file(disk: Disk, name: str) -> bool:
    try:
        disk.read_file(name)
    except (FileNotFoundError, StorageError):
        return False
    return True


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_the_simulated_disk_is_its_twin(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, Any]]) -> None:
    """Real and simulated disk give the same answers to any conversation without crashes."""
    real, sim = RealDisk(tmp_path_factory.mktemp("twin")), SimDisk(random.Random(0))
    sim.write_atomic(LOCK_NAME, b"")
    try:
        for step in steps:
            assert perform(real, step) == perform(sim, step), step
    finally:
        real.close()


def test_a_child_does_not_inherit_the_lock(disk: RealDisk) -> None:
    """A program that the node starts does not keep the directory after the node's death."""
    with subprocess.Popen(["sleep", "10"], close_fds=False) as child:
        disk.close()
        RealDisk(disk.root).close()
        child.kill()


def test_many_are_synced_together(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can, one call for all; few files, and what lies elsewhere, are synced one by one."""
    synced: list[str] = []
    whole = disk._file_system
    monkeypatch.setattr(whole, "sync", lambda: synced.append("all"))
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
    files = [disk.open(name) for name in "abc"]
    whole.can_sync = True
    disk.sync_all(files[:2], [])
    disk.sync_all(files, [""])
    assert synced == ["a", "b", "all"]
    synced.clear()
    cast(RealFile, files[1]).device += 1
    disk.sync_all(files, [""])
    assert synced == ["all", "b"]
    synced.clear()
    whole.can_sync = False
    disk.sync_all(files, [""])
    assert synced == ["a", "b", "c"]
    for file in files:
        file.close()


def test_a_sync_of_all_that_fails_is_remembered(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of one file is."""

    def broken() -> None:
        raise OSError(errno.EIO, "broken")

    files = [disk.open(name) for name in "abc"]
    monkeypatch.setattr(disk._file_system, "can_sync", True)
    monkeypatch.setattr(disk._file_system, "sync", broken)
    with pytest.raises(StorageError, match=r"cannot sync .*: EIO"):
        disk.sync_all(files, [])
    assert disk.has_failed_sync()
    for file in files:
        file.close()
