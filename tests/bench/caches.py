"""The kernel's page cache, emptied of what a cluster has written: the next read comes from the disk."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def drop(directories: Iterable[Path]) -> None:
    """No privilege needed: pages that are on the disk are dropped file by file (posix_fadvise(2))."""
    os.sync()
    for directory in directories:
        for path in directory.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    _drop_file(path)


def _drop_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
