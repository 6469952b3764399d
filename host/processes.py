"""Processes of this machine, driven from outside: started so that none is left behind, found again by command line, signalled.

A node process is known by the words of its command line, never by a remembered pid: a pid may belong to a stranger by now.
Reads /proc, so Linux only.
"""

import functools
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

PROC = Path("/proc")
LAUNCHER = Path(__file__).with_name("die_with_parent.py")

Process = subprocess.Popen[bytes]


def spawn(command: Sequence[str], log_file: Path, environment: Mapping[str, str], *, die_with_parent: bool) -> Process:
    """Start a command in a session of its own (a Ctrl-C of ours does not reach it), its output appended to `log_file`.

    With `die_with_parent` the kernel kills it when this process ends, however it ends; the program is an absolute path then.
    """
    if not die_with_parent:
        return _popen(command, log_file, environment)
    bound = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]
    return _spawner(os.getpid()).run(lambda: _popen(bound, log_file, environment))


def _popen(command: Sequence[str], log_file: Path, environment: Mapping[str, str]) -> Process:
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


class _Spawner:
    """One thread that lives as long as this process and is the parent of every bound child.

    The kernel sends the death signal when the *thread* that started the child ends (prctl(2)), so a test that starts its
    cluster from a short-lived thread would lose it. Daemonic: it must not keep the interpreter from exiting.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="quorumlog-spawner", daemon=True).start()

    def run(self, start: Callable[[], Process]) -> Process:
        future: Future[Process] = Future()
        self._orders.put((start, future))
        return future.result(timeout=30)

    def _serve(self) -> None:
        while True:
            start, future = self._orders.get()
            try:
                future.set_result(start())
            except BaseException as error:
                future.set_exception(error)


@functools.lru_cache(maxsize=1)
def _spawner(_pid: int) -> _Spawner:
    """The spawner of this process; a forked child inherits no thread and gets its own."""
    return _Spawner()


def find_process(words: Sequence[str]) -> int | None:
    """The pid of the living process whose command line holds `words` side by side, or None. Its own children do not count."""
    matches = {pid for pid in _pids() if _contains(command_line(pid), words)}
    return min((pid for pid in matches if parent_of(pid) not in matches), default=None)


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _contains(line: Sequence[str], words: Sequence[str]) -> bool:
    wanted = list(words)
    return any(list(line[start : start + len(wanted)]) == wanted for start in range(len(line) - len(wanted) + 1))


def command_line(pid: int) -> list[str]:
    """The words of a process's command line; empty for one that is gone, a zombie, or not ours to read."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def _status_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before them may itself hold spaces and parentheses."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def parent_of(pid: int) -> int | None:
    fields = _status_fields(pid)
    return int(fields[1]) if fields else None


def is_paused(pid: int) -> bool:
    """True for a process stopped by SIGSTOP."""
    return _status_fields(pid)[:1] == ["T"]


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that `spawn` started; KILL, STOP and CONT also reach what it started itself. Fine if it is gone."""
    try:
        if number == signal.SIGTERM:
            os.kill(pid, number)  # the process stops its own children, in its own order
        else:
            os.killpg(pid, number)
    except ProcessLookupError:
        return


def wait_for_effect(pid: int, number: signal.Signals, timeout_s: float) -> bool:
    """Wait until KILL and TERM have ended the process, STOP has stopped it. False if that takes longer than `timeout_s`."""
    if number in (signal.SIGKILL, signal.SIGTERM):
        return wait_gone(pid, timeout_s)
    deadline = time.monotonic() + timeout_s
    while is_paused(pid) != (number == signal.SIGSTOP):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Wait for the end of a process, child of ours or not. False if it is still there after `timeout_s`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)
