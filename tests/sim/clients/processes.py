"""Numbers for the processes of a history: each does one thing at a time."""

import heapq
import itertools


class Processes:
    """Hands out numbers that no one else has. Shared by all clients of a workload."""

    def __init__(self, *, first: int = 0) -> None:
        self._numbers = itertools.count(first)

    def new(self) -> int:
        return next(self._numbers)


class Slots:
    """The processes of one client that has several operations under way: each operation is lent one that is free.

    A process whose operation may yet happen is never lent again, as with Jepsen: what it would do next need not come after it.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._free: list[int] = []

    def lend(self) -> int:
        return heapq.heappop(self._free) if self._free else self._processes.new()

    def give_back(self, process: int) -> None:
        heapq.heappush(self._free, process)
