"""A reader of the partitions that its owner names: a group's member."""

from collections.abc import Callable, Iterable
from typing import Any

from quorumlog.checker.history import Operation, Poll

from .client import Client
from .processes import Processes
from .reader import Position, Reader

Key = tuple[str, int]


class AssignedReader(Reader):
    """Each change of what it reads is a new process of the history: it begins anywhere. `on_read(key, offsets)`: was read now."""

    def __init__(
        self,
        client: Client,
        processes: Processes,
        record: Callable[[Operation], None],
        on_read: Callable[[Key, list[int]], None],
        **settings: Any,
    ) -> None:
        super().__init__(client, (), processes, self._hear, **settings)
        self._tell = record
        self._on_read = on_read
        self._places: dict[str, Key] = {}

    def take(self, offsets: dict[Key, tuple[int | None, int]]) -> None:
        """Read these too, each from an offset and the epoch of the record before it; None: from the beginning."""
        for (topic, partition), (offset, epoch) in offsets.items():
            key = f"{topic}-{partition}"
            self._places[key] = (topic, partition)
            self._positions[key] = Position(topic, partition, key, offset=offset, epoch=epoch)
            self.client.want((topic,))
        self._begin()

    def drop(self, keys: Iterable[Key]) -> None:
        for topic, partition in keys:
            self._positions.pop(f"{topic}-{partition}", None)
        self._begin()

    def _begin(self) -> None:
        self._become_new_process()
        if self._positions:
            self._record_assignment()

    def keys(self) -> list[Key]:
        return [self._places[key] for key in self._positions]

    def position(self, key: Key) -> tuple[int, int] | None:
        """The next offset, and the epoch of the record before it; None while it is being looked for."""
        position = self._positions.get(f"{key[0]}-{key[1]}")
        return None if position is None or position.offset is None else (position.offset, position.epoch)

    def start_over(self) -> None:
        """Nothing is read that nobody named."""
        self._begin()

    def _take_partitions(self) -> None:
        """They are named by its owner."""

    def _hear(self, operation: Operation) -> None:
        for step in operation.steps:
            if isinstance(step, Poll):
                self._on_read(self._places[step.key], [offset for offset, _ in step.records])
        self._tell(operation)
