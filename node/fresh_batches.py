"""Batches that were appended just now, kept for a follower that has everything before them: sending them reads nothing back."""

from collections import deque
from dataclasses import dataclass, replace

from quorumlog.host.ports import Buffer
from quorumlog.partitions.results import Appended

PINNED_MAX = 2  # a batch may keep memory of so many times its own size; a smaller one is copied


@dataclass(slots=True)
class Room:
    """Bytes that the fresh batches of one stream may hold in all."""

    left: int


class FreshBatches:
    """Of one partition, in order and without a gap, for one follower."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._batches: deque[Appended] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def add(self, batch: Appended, next_offset: int) -> None:
        """Keep the batch, if it comes right behind what is kept, or `next_offset` where nothing is, and if there is room."""
        end = self._batches[-1].last_offset + 1 if self._batches else next_offset
        if batch.base_offset == end and batch.size <= self._room.left and not batch.duplicate:
            self._room.left -= batch.size
            self._batches.append(batch)

    def take(self, max_bytes: int) -> tuple[list[Buffer], int, int]:
        """At least one batch, then as many as fit: (buffers, their size, the offset behind them)."""
        buffers: list[Buffer] = []
        size, next_offset = 0, -1
        while self._batches and (not buffers or size + self._batches[0].size <= max_bytes):
            batch = self._batches.popleft()
            buffers += batch.buffers
            size += batch.size
            next_offset = batch.last_offset + 1
        self._room.left += size
        return buffers, size, next_offset

    def clear(self) -> None:
        self._room.left += sum(batch.size for batch in self._batches)
        self._batches.clear()


def unpinned(batch: Appended) -> Appended:
    """The batch, copied where it would keep much more memory than its own: a small one of a large request."""
    if all(_held(buffer) <= PINNED_MAX * batch.size for buffer in batch.buffers):
        return batch
    return replace(batch, buffers=[bytes(buffer) for buffer in batch.buffers])


def _held(buffer: Buffer) -> int:
    """Bytes that the buffer keeps in memory."""
    owner = buffer.obj if isinstance(buffer, memoryview) else buffer
    return len(owner) if isinstance(owner, bytes | bytearray) else len(buffer)
