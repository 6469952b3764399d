"""Deadlines by key, for one shard: at most one for each key, the earliest first."""

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count

NEVER = float("inf")
STALE_MIN = 1_000  # entries that may be out of date before the heap is built anew

Key = tuple[Hashable, ...]


class Timers:
    """Owned by a shard. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._deadlines: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()  # equal deadlines come in the order in which they were set

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: Key, at: float) -> None:
        """Instead of the deadline that this key had."""
        if self._deadlines.get(key) == at:
            return  # its entry would never be out of date
        self._deadlines[key] = at
        heappush(self._heap, (at, next(self._order), key))
        if len(self._heap) > STALE_MIN + 2 * len(self._deadlines):
            self._heap = sorted(entry for entry in self._heap if self._deadlines.get(entry[2]) == entry[0])

    def cancel(self, key: Key) -> None:
        """Nothing happens if there is none."""
        self._deadlines.pop(key, None)

    def deadline(self, key: Key) -> float:
        return self._deadlines.get(key, NEVER)

    def next_deadline(self) -> float:
        """When `due` has something to give."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Key | None:
        """The key whose deadline has passed first, which is cancelled with that; None if there is none."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        key = heappop(self._heap)[2]
        del self._deadlines[key]
        return key

    def _drop_stale(self) -> None:
        while self._heap and self._deadlines.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
