"""A node's end of its compacting process: started with the first job, ended when there is no more work."""

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

from quorumlog.host.ports import DiskFile, Worker
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog, CleaningJob
from quorumlog.partitions.scan import DamagedBatch
from quorumlog.partitions.segment import Segment

from .cleaner_frames import Closed, done_of, job_head, read_frame, write_frame
from .cleaners import CleaningFailed

MODULE = "quorumlog.node.cleaner_process"


class ProcessCleaner:
    """Implements `Cleaner`. The worker's thread waits for the process, without the interpreter's lock."""

    def __init__(self, root: str, worker: Worker) -> None:
        self._root = root
        self._worker = worker
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: tuple[CleaningJob, float] | None = None
        self._job: CleaningJob | None = None
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def begin(self, job: CleaningJob, *, bytes_per_s: float) -> None:
        self._pending, self._job, self._is_stopped = (job, bytes_per_s), job, False

    async def next(self) -> CleanedGroup | CleanedLog:
        head, rest = await self._worker.run(self._ask)
        if "failed" in head:
            raise CleaningFailed(head["failed"])
        if "damaged" in head:
            assert self._job is not None
            base_offset, position, offset, reason = head["damaged"]
            segment = Segment(_Elsewhere(), self._job.directory, base_offset, created_ms=0)
            raise DamagedBatch(segment, position, offset, reason)
        return done_of(head, rest)

    async def stop(self) -> None:
        self._is_stopped = True
        if self._process is not None:
            self._process.kill()  # the worker's read ends
        await self._worker.run(self._reap)

    async def close(self) -> None:
        await self.stop()
        self._worker.close()

    def _reap(self) -> None:
        """On the worker: it may have started the process a moment ago."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(self) -> tuple[dict[str, Any], bytes]:
        """On the worker."""
        try:
            if self._pending is not None:
                (job, bytes_per_s), self._pending = self._pending, None
                self._process = self._process or self._spawned()
                assert self._process.stdin is not None
                write_frame(self._process.stdin, job_head(job, bytes_per_s))
            process = self._process
            if process is None or process.stdout is None or self._is_stopped:
                raise Closed
            return read_frame(process.stdout)
        except (Closed, OSError, ValueError) as error:
            raise CleaningFailed(f"the compacting process ended: {error!r}") from error

    def _spawned(self) -> subprocess.Popen[bytes]:
        # A plain start of a program (vfork and exec): a fork that goes on in Python would not survive gRPC.
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, os.path.abspath(self._root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the terminal is the node's to hear
        )


class _Elsewhere:
    """A disk of which only names are known here."""

    def open(self, path: str) -> DiskFile:
        raise AssertionError(path)
