"""Long logs on small disks: old segments keep their length and their place, and lose their bytes (holes, as in a sparse file).

Whoever asks for such a record gets zeros, so only what is newest may be read. Segments that are rolled are never read again by
those who append, by followers in sync, or at a restart.
"""

import ctypes
import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

KEPT_SEGMENTS = 3  # of each replica, the newest
PUNCH_HOLE, KEEP_SIZE = 0x02, 0x01  # fallocate(2)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch(data_dirs: Iterable[Path], topic: str) -> int:
    """Free what old segments of a topic take; how many there are. Names sort by offset, in Kafka's layout as in ours."""
    paths = sorted(path for directory in data_dirs for path in directory.rglob("*.log") if _is_of(topic, path))
    old = [path for _, segments in groupby(paths, lambda path: path.parent) for path in list(segments)[:-KEPT_SEGMENTS]]
    for path in old:
        _punch_file(path)
    return len(old)


def _is_of(topic: str, path: Path) -> bool:
    """A store's own files are called .log too."""
    return path.parent.name.startswith(f"{topic}-") and path.stem.isdigit()


def _punch_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        if _libc.fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, 0, os.fstat(descriptor).st_size) != 0:
            raise OSError(ctypes.get_errno(), f"fallocate {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
