"""One file of the log: `<base offset, 20 digits>.log`, byte for byte a Kafka v2 log segment.

The file holds record batches one after the other and nothing else. What is known about it (size, timestamps) is kept in the
catalogue (`keys.py`) and can be read again from the file.
"""

from collections.abc import Sequence
from typing import Protocol

from quorumlog.host.ports import Buffer, DiskFile, StorageError
from quorumlog.wire.batches import NO_TIMESTAMP

SUFFIX = ".log"
CLEANED_SUFFIX = ".cleaned"
RELATIVE_OFFSET_MAX = 2**31 - 1  # an index entry counts from its segment's base offset
_DIGITS = 20


def file_name(base_offset: int) -> str:
    return f"{base_offset:0{_DIGITS}d}{SUFFIX}"


def cleaned_name(base_offset: int) -> str:
    """What a compaction writes beside the segments, until it takes the place of some."""
    return file_name(base_offset) + CLEANED_SUFFIX


def base_offset_of(name: str) -> int | None:
    """The base offset in a segment's file name; None if it is the name of something else."""
    digits = name.removesuffix(SUFFIX)
    if digits == name or len(digits) != _DIGITS or not digits.isdecimal():
        return None
    return int(digits)


class Opener(Protocol):
    """A disk, or so much of one."""

    def open(self, path: str) -> DiskFile: ...


class Segment:
    """Owned by its log, which opens, fills and closes it. The file is opened when it is first used."""

    __slots__ = (
        "_disk", "_file", "_is_torn", "base_offset", "created_ms", "has_gaps", "is_pinned", "max_timestamp", "next_offset",
        "path", "size",
    )  # fmt: skip

    def __init__(self, disk: Opener, directory: str, base_offset: int, *, created_ms: int, has_gaps: bool = False) -> None:
        self._disk = disk
        self._file: DiskFile | None = None
        self._is_torn = False
        self.path = f"{directory}/{file_name(base_offset)}"
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size = 0  # bytes of sound batches; a damaged file may be longer
        self.max_timestamp = NO_TIMESTAMP  # ms, the greatest of any batch
        self.created_ms = created_ms
        self.is_pinned = False  # its file stays open, for the name is about to change
        self.has_gaps = has_gaps  # a compaction, here or at the leader, may have taken batches between two others

    @property
    def file(self) -> DiskFile:
        if self._file is None:
            self._file = self._disk.open(self.path)
        return self._file

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def append(self, buffers: Sequence[Buffer], *, size: int, next_offset: int, max_timestamp: int) -> None:
        """Add batches of `size` bytes in all. Raises StorageError, and from then on always: a part may have been written."""
        if self._is_torn:
            raise StorageError(f"{self.path}: an append failed before")
        try:
            self.file.append(buffers)
        except StorageError:
            self._is_torn = True
            raise
        self.size += size
        self.next_offset = next_offset
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes of sound batches."""
        return self.file.read(position, max(0, min(size, self.size - position)))

    def release(self) -> DiskFile | None:
        """The open file, if any, to be closed by the caller; the next use opens it again."""
        file, self._file = self._file, None
        return file
