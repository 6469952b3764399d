"""What the brokers cost: processor time and memory of all their processes, children included, read from /proc."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PROC = Path("/proc")
MIB_KIB = 1024


class Meter:
    """What the processes used between `with` and its end. Its figures are there after the block.

    `peak_mib` adds up each process's own highest resident memory since the block began, which the kernel keeps: at least as
    much as they had together at any time.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = tuple(pids)

    def __enter__(self) -> Self:
        for process in _with_children(self._pids):
            reset_peak(process.pid)
        self._before = cpu_s(self._pids)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self.cpu_s = cpu_s(self._pids) - self._before
        self.peak_mib = sum(_status_kib(process.pid, "VmHWM") for process in _with_children(self._pids)) / MIB_KIB


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time so far, of children that have ended too."""
    total = 0.0
    for process in _with_children(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mib(pids: Sequence[int]) -> float:
    """Proportional resident memory right now: pages that several processes share are counted once."""
    return sum(_pss_kib(process.pid) for process in _with_children(pids)) / MIB_KIB


def reset_peak(pid: int) -> None:
    """Let the kernel begin anew with the highest resident memory of a process (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        (PROC / str(pid) / "clear_refs").write_text("5")


def _with_children(pids: Sequence[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def _status_kib(pid: int, field: str) -> int:
    return _kib(PROC / str(pid) / "status", field)


def _pss_kib(pid: int) -> int:
    return _kib(PROC / str(pid) / "smaps_rollup", "Pss")


def _kib(path: Path, field: str) -> int:
    """A line `Field:  123 kB`; 0 of a process that is gone."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
