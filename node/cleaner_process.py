"""The process that compacts: `python -m quorumlog.node.cleaner_process DATA_DIRECTORY`, started by a node while it has work.

Compaction looks at every record, which in Python holds the interpreter's lock most of the time: in a thread of the node it would
delay every producer. Here it has a lock of its own, the lowest priority, and memory that goes back to the system with it. It
reads segments and writes files beside them; what comes of them is the node's to decide, as all else in the directory is.
"""

import os
import sys
import time
from contextlib import suppress
from typing import Any

from quorumlog.host.disk import RealFile
from quorumlog.host.ports import DiskFile, StorageError
from quorumlog.partitions.cleaner import clean
from quorumlog.partitions.cleaning import CleaningJob
from quorumlog.partitions.scan import DamagedBatch
from quorumlog.wire.batches import BatchError

from .cleaner_frames import Closed, job_of, read_frame, tell, write_frame

LOWEST_PRIORITY = 19
SLEEP_LEAST_S, SLEEP_MOST_S = 0.01, 0.25


class FilesBeside:
    """Implements `Files` in the data directory of a node that runs."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open(self, path: str) -> DiskFile:
        full_path = os.path.join(self._root, path)
        try:
            # An open that could make the file would bring a segment back which the node has just deleted.
            return RealFile(path, full_path, on_failed_sync=_nothing, flags=os.O_RDONLY)
        except StorageError as error:
            raise StorageError(f"{path} is gone: {error}") from error

    def create(self, path: str) -> DiskFile:
        full_path = os.path.join(self._root, path)
        with suppress(FileNotFoundError):
            os.unlink(full_path)
        return RealFile(path, full_path, on_failed_sync=_nothing)

    def sync_directory(self, path: str) -> None:
        fd = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Pace:
    """Sleeps so that no more bytes a second are read and written than is allowed, and for as long as the node lives."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._parent = os.getppid()
        self._free_at = time.monotonic()

    def after(self, size: int) -> None:
        """Raises Closed when the node is gone: what is made now would be nobody's."""
        self._free_at = max(time.monotonic(), self._free_at) + size / self._bytes_per_s
        while True:
            if os.getppid() != self._parent:
                raise Closed
            left_s = self._free_at - time.monotonic()
            if left_s < SLEEP_LEAST_S:
                return
            time.sleep(min(left_s, SLEEP_MOST_S))


def main(root: str) -> None:
    """Until the node closes the pipe, or is gone."""
    take_only_what_is_left()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not end up among the frames

    def write(head: dict[str, Any], rest: bytes = b"") -> None:
        write_frame(answers, head, rest)

    with suppress(Closed, BrokenPipeError):
        while True:
            head, _ = read_frame(sys.stdin.buffer)
            try:
                _run(job_of(head), FilesBeside(root), Pace(head["bytes_per_s"]), write)
            except DamagedBatch as bad:
                write({"damaged": [bad.segment.base_offset, bad.position, bad.offset, bad.reason]})
            except (StorageError, BatchError, OSError) as error:
                write({"failed": str(error)})


def take_only_what_is_left() -> None:
    """Of the processors: whoever else wants one gets it at once. Where Linux does not let us, at least the lowest priority."""
    os.nice(LOWEST_PRIORITY)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _run(job: CleaningJob, files: FilesBeside, pace: Pace, write: Any) -> None:
    for step in clean(job, files):
        if isinstance(step, int):
            pace.after(step)
        else:
            tell(write, step)


def _nothing() -> None:
    """A file that cannot be synced is not handed over; the log has no part in it."""


if __name__ == "__main__":
    main(sys.argv[1])
