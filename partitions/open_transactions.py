"""Up to where a log is decided: the transactions that are open, and those that have ended but whose marker is not committed yet.

    first data batch -> open -> marker appended -> decided -> marker below the high watermark -> gone

While a marker may still be cut off, its transaction may yet end the other way, so it holds the last stable offset back as an
open one does (Kafka calls these unreplicated). Owned by the producers of a log.
"""

from collections import deque
from typing import NamedTuple


class Decided(NamedTuple):
    marker_offset: int
    first_offset: int


class OpenTransactions:
    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # first offset by producer id; offsets rise, so the first one is the least
        self._decided: deque[Decided] = deque()  # by marker
        self._decided_least = -1  # the least first offset of those

    def __bool__(self) -> bool:
        return bool(self._open or self._decided)

    def __contains__(self, producer_id: int) -> bool:
        return producer_id in self._open

    def __len__(self) -> int:
        return len(self._open)

    @property
    def decided(self) -> tuple[Decided, ...]:
        return tuple(self._decided)

    def first_offset(self, producer_id: int) -> int | None:
        return self._open.get(producer_id)

    def begin(self, producer_id: int, first_offset: int) -> None:
        self._open[producer_id] = first_offset

    def end(self, producer_id: int, marker_offset: int) -> int | None:
        """The first offset of the transaction that ends there, if the producer had one open."""
        first_offset = self._open.pop(producer_id, None)
        if first_offset is not None:
            self._decide(Decided(marker_offset, first_offset))
        return first_offset

    def first_open(self) -> int | None:
        """The least first offset of those that nothing has ended yet."""
        return next(iter(self._open.values()), None)

    def first_unstable(self, high_watermark: int) -> int | None:
        """Below this everything is decided for good; None if nothing is in the way."""
        self.settle(high_watermark)
        first = self.first_open()
        if not self._decided:
            return first
        return self._decided_least if first is None else min(first, self._decided_least)

    def settle(self, high_watermark: int) -> None:
        """Markers below are final."""
        decided = self._decided
        if not decided or decided[0].marker_offset >= high_watermark:
            return
        while decided and decided[0].marker_offset < high_watermark:
            decided.popleft()
        self._decided_least = min((one.first_offset for one in decided), default=-1)

    def restore(self, opened: dict[int, int], decided: list[Decided]) -> None:
        self.clear()
        self._open.update(sorted(opened.items(), key=lambda item: item[1]))
        for one in decided:
            self._decide(one)

    def clear(self) -> None:
        self._open.clear()
        self._decided.clear()
        self._decided_least = -1

    def _decide(self, one: Decided) -> None:
        self._decided_least = min(self._decided_least, one.first_offset) if self._decided else one.first_offset
        self._decided.append(one)
