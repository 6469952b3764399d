"""The log of one partition, as the history shows it: the values at each offset, and the index of each offset.

An *index* is an offset with the gaps taken out: transactions and lost batches leave offsets at which no client ever sees a
record, so that only the order of the offsets known counts. The log is put together from the sends that committed, where the
client was told an offset, and from every poll, whatever became of its operation: Kafka shows a poller safe data only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class PartitionLog:
    """Filled with `put`, then sealed once; the indexes are there from then on."""

    at: dict[int, str] = field(default_factory=dict)  # offset -> the value first seen there
    conflicts: dict[int, list[str]] = field(default_factory=dict)  # offset -> all values seen there, where they are several
    offsets: list[int] = field(default_factory=list)  # by index
    indexes: dict[int, int] = field(default_factory=dict)  # offset -> index
    first_index: dict[str, int] = field(default_factory=dict)  # value -> the index where it appears first
    repeats: dict[str, list[int]] = field(default_factory=dict)  # value -> all its indexes, where they are several

    def put(self, offset: int, value: str) -> None:
        held = self.at.setdefault(offset, value)
        if held is value or held == value:
            return
        values = self.conflicts.setdefault(offset, [held])
        if value not in values:
            values.append(value)

    def put_all(self, records: Iterable[tuple[int, str]]) -> None:
        hold = self.at.setdefault
        for offset, value in records:
            if hold(offset, value) is not value:  # equal or in conflict
                self.put(offset, value)

    def seal(self) -> None:
        self.offsets = sorted(self.at)
        count = len(self.offsets)
        self.indexes = dict(zip(self.offsets, range(count), strict=True))
        # From the last to the first, so that the first stays; a log without anomalies needs no more than this.
        self.first_index = {self.at[self.offsets[index]]: index for index in reversed(range(count))}
        if self.conflicts or len(self.first_index) < count:
            self._index_repeats()

    def _index_repeats(self) -> None:
        self.first_index = {}
        for index, offset in enumerate(self.offsets):
            for value in self.values_at(offset):
                first = self.first_index.setdefault(value, index)
                if first != index:
                    self.repeats.setdefault(value, [first]).append(index)

    def values_at(self, offset: int) -> tuple[str, ...] | list[str]:
        return self.conflicts.get(offset) or (self.at[offset],)

    def last_index(self, value: str) -> int:
        return self.repeats[value][-1] if value in self.repeats else self.first_index[value]

    def only_index(self, value: str) -> int | None:
        """The index of a value that appears at exactly one offset."""
        return None if value in self.repeats else self.first_index.get(value)
