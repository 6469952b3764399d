"""A disk in memory that keeps, at a power cut, only what was synced; the rest may vanish, stay partly, or tear."""

import errno
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from quorumlog.host.ports import Buffer, DiskFile, StorageError

SECTOR_BYTES = 512
_OPERATIONS = ("append", "read", "sync")


@dataclass(slots=True, eq=False)
class _Content:
    """What a file holds, now and after a power cut.

    A cut is certain to leave `live[:synced_size]`; `lost_to_truncation` is what the medium still holds behind it because
    a truncation was not synced yet. A sync of `live[lost_from:lost_to]` failed: memory has these bytes, the medium never gets
    them, whatever is synced later (fsyncgate). A truncation is not forgotten so: it is in the file system's journal.
    """

    live: bytearray = field(default_factory=bytearray)
    synced_size: int = 0
    lost_to_truncation: bytes = b""
    lost_from: int = 0
    lost_to: int = 0


class SimDisk:
    """Implements `Disk`. Outlives the node that uses it; files opened before a crash are dead after it.

    Names are durable after `sync_directory`, or after an operation that promises it (`make_directory`, `rename`,
    `write_atomic`). Being pessimistic, syncing a file does not make its name durable, though most file systems would.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, _Content] = {}
        self._durable_files: dict[str, _Content] = {}
        self._directories: set[str] = {""}
        self._unsynced_directories: set[str] = set()
        self._fail_next: dict[str, tuple[int, str]] = {}
        self._has_failed_sync = False
        self.life = 0
        self.appended_bytes = 0
        self.read_bytes = 0
        self.sync_count = 0

    # Disk

    def open(self, path: str) -> DiskFile:
        path = _normal(path)
        if path in self._directories or _parent(path) not in self._directories:
            reason = "is a directory" if path in self._directories else "has no parent directory"
            raise StorageError(f"cannot open {path}: it {reason}")
        return SimFile(self, path, self._files.setdefault(path, _Content()))

    def exists(self, path: str) -> bool:
        path = _normal(path)
        return path in self._files or path in self._directories

    def list(self, path: str) -> list[str]:
        path = _normal(path)
        names = [name for name in (*self._files, *self._directories) if name and _parent(name) == path]
        return sorted(PurePosixPath(name).name for name in names)

    def make_directory(self, path: str, *, durable: bool = True) -> None:
        path = _normal(path)
        if not durable and path not in self._directories:
            self._unsynced_directories.add(path)
        if any(_is_within(path, file) for file in self._files):
            raise StorageError(f"cannot create directory {path}: it is a file or below one")
        while path and path not in self._directories:
            self._directories.add(path)
            # A new directory of the same name: what a removed one held cannot come back.
            self._durable_files = {name: held for name, held in self._durable_files.items() if not _is_within(name, path)}
            path = _parent(path)

    def rename(self, old: str, new: str) -> None:
        old, new = _normal(old), _normal(new)
        if not self.exists(old) or _parent(new) not in self._directories:
            raise StorageError(f"cannot rename {old} to {new}: no such file or directory")
        if old in self._directories:
            self._rename_directory(old, new)
        elif new in self._directories:
            raise StorageError(f"cannot rename {old} to {new}: is a directory")
        else:
            self._durable_files.pop(old, None)
            self._files[new] = self._durable_files[new] = self._files.pop(old)

    def delete(self, path: str) -> None:
        path = _normal(path)
        assert path, "the root is not for deleting"
        for name in [name for name in self._files if _is_within(name, path)]:
            del self._files[name]
        self._directories = {name for name in self._directories if not _is_within(name, path)}
        self._unsynced_directories = {name for name in self._unsynced_directories if not _is_within(name, path)}

    def sync_directory(self, path: str) -> None:
        path = _normal(path)
        if path not in self._directories:
            raise StorageError(f"cannot sync directory {path}: no such directory")
        self._fail_if_told("sync", path)
        self._unsynced_directories = {name for name in self._unsynced_directories if _parent(name) != path}
        for name, content in self._files.items():
            if _parent(name) == path:
                self._durable_files[name] = content
        for name in list(self._durable_files):
            if _is_within(name, path) and not self._survives_in(path, name):
                del self._durable_files[name]

    def sync_all(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        for file in files:
            file.sync()
        for path in directories:
            self.sync_directory(path)

    def read_file(self, path: str) -> bytes:
        path = _normal(path)
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._fail_if_told("read", path)
        self.read_bytes += len(self._files[path].live)
        return bytes(self._files[path].live)

    def write_atomic(self, path: str, data: bytes) -> None:
        path = _normal(path)
        if _parent(path) not in self._directories or path in self._directories:
            raise StorageError(f"cannot write {path}: no such directory, or it is one")
        self._fail_if_told("append", path)
        self._fail_if_told("sync", path)
        self._files[path] = self._durable_files[path] = _Content(bytearray(data), len(data))
        self.appended_bytes += len(data)
        self.sync_count += 1

    def has_failed_sync(self) -> bool:
        return self._has_failed_sync

    def forget_failed_sync(self) -> None:
        self._has_failed_sync = False

    # Faults

    def crash(self, *, power: bool = True) -> None:
        """End the process that uses the disk. With `power`, what was not synced is left to chance."""
        self.life += 1
        self._fail_next.clear()
        if not power:
            return
        self._has_failed_sync = False
        self._lose_directories()
        self._files = self._names_after_power_cut()
        for path in self._files:
            self._directories.update(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")
        for _path, content in sorted(self._files.items()):
            self._cut_power(content)
        self._durable_files = dict(self._files)

    def fail_next(self, operation: str, error: int = errno.EIO, path: str = "") -> None:
        """Let the next 'append', 'read' or 'sync' raise StorageError: of any file, or of those whose path starts with `path`."""
        assert operation in _OPERATIONS, operation
        self._fail_next[operation] = (error, path)

    def corrupt(self, path: str, offset: int) -> None:
        """Flip one to eight bits of the byte at `offset`, for every later reader, as a rotten medium does."""
        content = self._files[_normal(path)].live
        assert 0 <= offset < len(content), (path, offset, len(content))
        content[offset] ^= self._rng.randint(1, 255)

    def files(self, path: str) -> Sequence[str]:
        """The paths of all files below a directory, sorted."""
        return sorted(name for name in self._files if _is_within(name, _normal(path)))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return len(self._files[_normal(path)].live)

    def unsynced_bytes(self, path: str) -> int:
        """Bytes at the end of a file that a power cut could take."""
        content = self._files[_normal(path)]
        return len(content.live) - content.synced_size

    # Used by SimFile

    def append(self, path: str, content: _Content, buffers: Sequence[Buffer]) -> None:
        data = b"".join(buffers)
        try:
            self._fail_if_told("append", path)
        except StorageError:
            # A write that fails may have written a part: whoever goes on after this error must find that out.
            content.live += data[: self._rng.randint(0, len(data))]
            raise
        content.live += data
        self.appended_bytes += len(data)

    def read(self, path: str, content: _Content, offset: int, size: int) -> bytes:
        self._fail_if_told("read", path)
        data = bytes(memoryview(content.live)[offset : offset + size])
        self.read_bytes += len(data)
        return data

    def sync(self, path: str, content: _Content) -> None:
        try:
            self._fail_if_told("sync", path)
        except StorageError:
            content.lost_from, content.lost_to = content.synced_size, len(content.live)
            self._has_failed_sync = True
            raise
        self.sync_count += 1
        # After a failed fsync the kernel takes the dirty pages for clean: the next fsync succeeds and has saved nothing.
        if content.lost_from >= content.lost_to:
            content.synced_size, content.lost_to_truncation = len(content.live), b""

    # Inside

    def _rename_directory(self, old: str, new: str) -> None:
        if _is_within(new, old) and new != old:
            raise StorageError(f"cannot rename {old} to {new}: a directory cannot go into itself")
        if new != old and (new in self._files or self.list(new)):
            raise StorageError(f"cannot rename {old} to {new}: the target is a file or not empty")
        self._durable_files = {name: held for name, held in self._durable_files.items() if not _is_within(name, new)}
        self._files = {_moved(name, old, new): content for name, content in self._files.items()}
        self._durable_files = {_moved(name, old, new): content for name, content in self._durable_files.items()}
        self._directories = {_moved(name, old, new) for name in self._directories}

    def _survives_in(self, directory: str, name: str) -> bool:
        """Whether a durable name is still there once the removals in `directory` itself are durable."""
        child = name if not directory else name[len(directory) + 1 :]
        first = child.split("/")[0]
        return self.exists(_joined(directory, first))

    def _lose_directories(self) -> None:
        """A directory whose name was never synced is gone with all that was synced in it."""
        for path in sorted(self._unsynced_directories):
            self.delete(path)
            self._durable_files = {name: held for name, held in self._durable_files.items() if not _is_within(name, path)}
        self._unsynced_directories.clear()

    def _names_after_power_cut(self) -> dict[str, _Content]:
        survivors = {}
        for path in sorted({*self._files, *self._durable_files}):
            now, durable = self._files.get(path), self._durable_files.get(path)
            chosen = now if now is durable else self._rng.choice((now, durable))
            if chosen is not None:
                survivors[path] = chosen
        return survivors

    def _cut_power(self, content: _Content) -> None:
        kept = bytes(content.live[: content.synced_size])
        if content.lost_to_truncation and self._rng.random() < 0.5:
            content.live = bytearray(kept + content.lost_to_truncation)
        else:
            content.live = bytearray(kept + self._torn(bytes(content.live[content.synced_size :])))
        content.synced_size, content.lost_to_truncation = len(content.live), b""
        content.lost_from = content.lost_to = 0

    def _torn(self, tail: bytes) -> bytes:
        """What a power cut leaves of unsynced bytes: nothing, all, a prefix, or a prefix with sectors of zeros and rubbish."""
        fate = self._rng.choice(("gone", "whole", "prefix", "torn"))
        match fate:
            case "gone":
                return b""
            case "whole":
                return tail
            case "prefix":
                return tail[: self._rng.randint(0, len(tail))]
        torn = bytearray(tail[: self._rng.randint(0, len(tail))])
        for start in range(0, len(torn), SECTOR_BYTES):
            size = min(SECTOR_BYTES, len(torn) - start)
            match self._rng.randrange(4):
                case 0:
                    torn[start : start + size] = bytes(size)
                case 1:
                    torn[start : start + size] = self._rng.randbytes(size)
        return bytes(torn)

    def _fail_if_told(self, operation: str, path: str) -> None:
        error, prefix = self._fail_next.get(operation, (0, ""))
        if error and path.startswith(prefix):
            del self._fail_next[operation]
            raise StorageError(f"{operation} of {path} failed: {errno.errorcode[error]} ({os.strerror(error)})")


class SimFile:
    """Implements `DiskFile` for the process life in which it was opened."""

    def __init__(self, disk: SimDisk, path: str, content: _Content) -> None:
        self.path = path
        self._disk = disk
        self._content = content
        self._life = disk.life
        self._closed = False

    def size(self) -> int:
        self._check_usable()
        return len(self._content.live)

    def append(self, buffers: Sequence[Buffer]) -> None:
        self._check_usable()
        self._disk.append(self.path, self._content, buffers)

    def read(self, offset: int, size: int) -> bytes:
        self._check_usable()
        assert offset >= 0, offset
        assert size >= 0, size
        return self._disk.read(self.path, self._content, offset, size)

    def sync(self) -> None:
        self._check_usable()
        self._disk.sync(self.path, self._content)

    def truncate(self, size: int) -> None:
        self._check_usable()
        content = self._content
        assert 0 <= size <= len(content.live), (self.path, size, len(content.live))
        if size < content.synced_size:
            content.lost_to_truncation = bytes(content.live[size : content.synced_size]) + content.lost_to_truncation
            content.synced_size = size
        content.lost_to = min(content.lost_to, size)
        del content.live[size:]

    def close(self) -> None:
        self._closed = True

    def _check_usable(self) -> None:
        if self._closed or self._life != self._disk.life:
            raise StorageError(f"{self.path} is closed, or was opened by a process that has died")


def _normal(path: str) -> str:
    """A path relative to the root, without `.`; a path that leaves the root is our own mistake."""
    parts = PurePosixPath(path).parts
    assert not path.startswith("/"), path
    assert ".." not in parts, path
    return "/".join(parts)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_within(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(path + "/")


def _moved(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if _is_within(name, old) else name
