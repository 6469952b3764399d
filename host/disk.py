"""A data directory on a real file system.

    root/
      lock          held (flock) by the one process that uses the directory; released by its death. Its text, always of 64
                    bytes: the pid, and on the next line whether a sync failed (for the next process; see `has_failed_sync`)
      name~         what a crash left of an atomic write; replaced by the next one, never listed

Blocking calls release the interpreter's lock, so a sync in an executor thread lets the event loop go on.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath

from quorumlog.host.file_system import FileSystem
from quorumlog.host.ports import Buffer, DiskFile, StorageError

LOCK_NAME = "lock"
SYNCED_TOGETHER_MIN = 3  # files and directories: for fewer, one sync each is as quick, and leaves alone what others write

_BUFFERS_PER_CALL = 1024  # IOV_MAX on Linux
_SYNC_FAILED = "a sync failed"
_LOCK_BYTES = 64
_UNFINISHED = "~"  # no topic may hold this character, so no partition's directory ends with it


class RealDisk:
    """Implements `Disk` below `root`. Its opener owns it: `close` gives up the lock on the directory."""

    def __init__(self, root: str | os.PathLike[str], *, create: bool = False) -> None:
        """Take the directory for this process. Raises StorageError if it is missing (unless `create`) or in use."""
        self.root = os.path.abspath(root)
        if create:
            _make_directories(self.root)
        if not os.path.isdir(self.root):
            raise StorageError(f"the data directory {self.root} does not exist")
        self._lock, self._has_failed_sync = _take_lock(self.root)
        self._file_system = FileSystem(self.root)

    def volume(self) -> tuple[int, int]:
        """Bytes in all and free, of the file system; -1 for both where it does not tell."""
        try:
            usage = shutil.disk_usage(self.root)
        except OSError:
            return -1, -1
        return usage.total, usage.free

    def close(self) -> None:
        """Let another process use the directory. Files that are still open stay usable, but nothing guards them."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._file_system.close()

    def open(self, path: str) -> DiskFile:
        return RealFile(path, self._resolve(path), on_failed_sync=self._note_failed_sync)

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._resolve(path))

    def list(self, path: str) -> list[str]:
        with _storage_errors("list", path):
            try:
                names = os.listdir(self._resolve(path))
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if not name.endswith(_UNFINISHED))

    def make_directory(self, path: str, *, durable: bool = True) -> None:
        full_path = self._resolve(path)
        if durable:
            _make_directories(full_path)
            return
        _make_directories(os.path.dirname(full_path))
        with _storage_errors("create directory", path), suppress(FileExistsError):
            os.mkdir(full_path, 0o750)

    def rename(self, old: str, new: str) -> None:
        source, target = self._resolve(old), self._resolve(new)
        with _storage_errors(f"rename {old} to", new):
            os.rename(source, target)
            for directory in sorted({os.path.dirname(source), os.path.dirname(target)}):
                _sync_directory(directory)

    def delete(self, path: str) -> None:
        target = self._resolve(path)
        if target == self.root:
            raise ValueError("the data directory itself is not for deleting")
        with _storage_errors("delete", path):
            if os.path.isdir(target) and not os.path.islink(target):
                shutil.rmtree(target)
            elif os.path.lexists(target):
                os.unlink(target)

    def sync_directory(self, path: str) -> None:
        with _storage_errors("sync directory", path):
            _sync_directory(self._resolve(path))

    @property
    def can_sync_together(self) -> bool:
        """Whether many files cost one sync; `FileSystem` says where."""
        return self._file_system.can_sync

    def sync_all(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        if len(files) + len(directories) >= SYNCED_TOGETHER_MIN and self.can_sync_together:
            self._sync_file_system()
            files = [file for file in files if not (isinstance(file, RealFile) and file.device == self._file_system.device)]
            directories = [path for path in directories if self._device_of(path) != self._file_system.device]
        for file in files:
            file.sync()
        for path in directories:
            self.sync_directory(path)

    def read_file(self, path: str) -> bytes:
        with _storage_errors("read", path, but=FileNotFoundError), open(self._resolve(path), "rb") as file:
            return file.read()

    def write_atomic(self, path: str, data: bytes) -> None:
        target = self._resolve(path)
        unfinished = target + _UNFINISHED
        with _storage_errors("write", path):
            # The content must be on the medium before the name points to it, and the name before we promise anything.
            fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                _write_all(fd, [data])
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(unfinished, target)
            _sync_directory(os.path.dirname(target))

    def has_failed_sync(self) -> bool:
        return self._has_failed_sync

    def forget_failed_sync(self) -> None:
        self._has_failed_sync = False
        with _storage_errors("write", LOCK_NAME):
            _write_holder(self._lock, sync_failed=False)

    def _sync_file_system(self) -> None:
        with _storage_errors("sync", self.root):
            try:
                self._file_system.sync()
            except OSError:
                self._note_failed_sync()
                raise

    def _device_of(self, path: str) -> int:
        with _storage_errors("look at", path):
            return os.stat(self._resolve(path)).st_dev

    def _note_failed_sync(self) -> None:
        # In the page cache and nowhere else, like the bytes in doubt: what loses the note, a reboot, loses those too. It goes
        # over bytes that are there already, so a full disk takes it; one that takes no write at all lets nobody lock it either.
        self._has_failed_sync = True
        if self._lock >= 0:
            with suppress(OSError):
                _write_holder(self._lock, sync_failed=True)

    def _resolve(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise ValueError(f"the path {path!r} is not inside the data directory")
        return os.path.join(self.root, *parts)


class RealFile:
    """Implements `DiskFile` over one descriptor in append mode."""

    def __init__(
        self, path: str, full_path: str, *, on_failed_sync: Callable[[], None], flags: int = os.O_RDWR | os.O_CREAT | os.O_APPEND
    ) -> None:
        self.path = path
        self._on_failed_sync = on_failed_sync
        with _storage_errors("open", path):
            self._fd = os.open(full_path, flags | os.O_CLOEXEC, 0o640)
            status = os.fstat(self._fd)
        self._size = status.st_size
        self.device = status.st_dev

    def size(self) -> int:
        return self._size

    def fileno(self) -> int:
        """The descriptor, for `os.sendfile`; it stays this file's to close."""
        return self._fd

    def append(self, buffers: Sequence[Buffer]) -> None:
        with _storage_errors("append to", self.path):
            self._size += _write_all(self._fd, buffers)

    def read(self, offset: int, size: int) -> bytes:
        with _storage_errors("read", self.path):
            data = os.pread(self._fd, size, offset)
            while len(data) < size and (more := os.pread(self._fd, size - len(data), offset + len(data))):
                data += more
        return data

    def sync(self) -> None:
        with _storage_errors("sync", self.path):
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._on_failed_sync()
                raise

    def truncate(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise ValueError(f"cannot cut {self.path} of {self._size} bytes to {size}")
        with _storage_errors("truncate", self.path):
            os.ftruncate(self._fd, size)
            self._size = size

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _write_all(fd: int, buffers: Sequence[Buffer]) -> int:
    """Write everything, however often the kernel takes only a part. The number of bytes."""
    written = 0
    for start in range(0, len(buffers), _BUFFERS_PER_CALL):
        pending = [memoryview(buffer).cast("B") for buffer in buffers[start : start + _BUFFERS_PER_CALL] if len(buffer)]
        while pending:
            count = os.writev(fd, pending)
            written += count
            pending = _behind(pending, count)
    return written


def _behind(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of the views after their first `count` bytes."""
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


def _make_directories(path: str) -> None:
    with _storage_errors("create directory", path):
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            os.mkdir(directory, 0o750)
            _sync_directory(os.path.dirname(directory))


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_lock(root: str) -> tuple[int, bool]:
    """The descriptor that holds the lock, and whether a sync failed in a process before."""
    path = os.path.join(root, LOCK_NAME)
    with _storage_errors("open", path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _read_holder(fd)[0]
        os.close(fd)
        raise StorageError(f"the data directory {root} is in use by another process (pid {holder or 'unknown'})") from error
    sync_failed = _SYNC_FAILED in _read_holder(fd)
    with _storage_errors("write", path):
        _write_holder(fd, sync_failed=sync_failed)
    return fd, sync_failed


def _read_holder(fd: int) -> list[str]:
    return [line.strip() for line in os.pread(fd, _LOCK_BYTES, 0).decode("ascii", "replace").split("\n")]


def _write_holder(fd: int, *, sync_failed: bool) -> None:
    # One write over what is there: no death of the process leaves the file without the note that it had.
    text = f"{os.getpid()}\n{_SYNC_FAILED if sync_failed else ''}".ljust(_LOCK_BYTES - 1) + "\n"
    os.pwrite(fd, text.encode("ascii"), 0)


@contextmanager
def _storage_errors(action: str, path: str, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turn the machine's errors into StorageErrors that name the file and the reason."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        raise StorageError(f"cannot {action} {path}: {name} ({error.strerror})") from error
