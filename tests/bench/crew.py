"""Clients in processes of their own, on the clients' cores, that begin together.

A client is a function `client(gate, ...)`: it prepares itself, calls `gate()`, which returns when all are prepared, does its
work, and returns what it found.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.bench.cores import Cores

PREPARE_TIMEOUT_S = 120.0
END_TIMEOUT_S = 30.0
Gate = Callable[[], None]
Client = Callable[..., Any]


class CrewError(Exception):
    """A client failed; the message is its traceback."""


class Crew:
    """Clients that were started and wait at their gate. Leaving the block ends those that still run."""

    def __init__(self, cores: Cores, clients: Sequence[tuple[Client, tuple[Any, ...]]]) -> None:
        context = multiprocessing.get_context("spawn")  # librdkafka does not survive a fork
        self._lines: list[Connection] = []
        self._processes = []
        for client, arguments in clients:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, cores.clients, client, arguments), daemon=True)
            process.start()
            theirs.close()
            self._lines.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Crew":
        for line in self._lines:
            _expect(line, "ready", PREPARE_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join(END_TIMEOUT_S)
            process.kill()
            process.join()

    def go(self) -> None:
        for line in self._lines:
            line.send("go")

    def tell_to_end(self) -> None:
        """For clients that go on until they are told."""
        for line in self._lines:
            line.send("end")

    def results(self, timeout_s: float) -> list[Any]:
        """What the clients returned, in the order in which they were named. Raises CrewError for the first that failed."""
        deadline = time.monotonic() + timeout_s
        return [_expect(line, "done", deadline - time.monotonic()) for line in self._lines]


def run_clients(cores: Cores, clients: Sequence[tuple[Client, tuple[Any, ...]]], timeout_s: float) -> list[Any]:
    with Crew(cores, clients) as crew:
        crew.go()
        return crew.results(timeout_s)


class WorkersGate:
    """The gate as the client sees it."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def __call__(self) -> None:
        self._line.send(("ready", None))
        assert self._line.recv() == "go"

    def told_to_end(self, wait_s: float) -> bool:
        return self._line.poll(wait_s)


def _work(line: Connection, cores: Sequence[int], client: Client, arguments: tuple[Any, ...]) -> None:
    os.sched_setaffinity(0, cores)
    try:
        line.send(("done", client(WorkersGate(line), *arguments)))
    except EOFError:
        return  # whoever started us has gone
    except BaseException:
        line.send(("failed", traceback.format_exc()))


def _expect(line: Connection, wanted: str, timeout_s: float) -> Any:
    if not line.poll(max(timeout_s, 0)):
        raise CrewError(f"a client is not {wanted} in time")
    try:
        word, result = line.recv()
    except EOFError:
        raise CrewError("a client's process has ended without a word") from None
    if word != wanted:
        raise CrewError(str(result))
    return result
