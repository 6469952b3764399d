"""Kafka's frames on a TCP stream: an int32 size in bytes, then so many bytes.

receive(bytes as they come) -> whole frames
"""

import struct
from collections.abc import Sequence

from quorumlog.wire.batches import Buffer

SIZE = struct.Struct(">i")


class FrameError(ValueError):
    """A frame size that no client may send. The stream cannot be read any further: close the connection."""


class FrameReader:
    """Splits one connection's bytes into frames. Belongs to the connection, and holds at most one unfinished frame.

    A frame that lies in one piece is a view of the bytes received (which are immutable, so it stays what it is). A frame that
    comes in pieces is collected in a buffer of its own, which grows with what has come and never with what the size claims, and
    which is handed over with the frame.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds a frame, its size field not counted."""
        self._max_bytes = max_bytes
        self._unfinished = bytearray()  # size field included
        self._wanted = SIZE.size  # bytes that _unfinished needs before the next look at it

    @property
    def unfinished_bytes(self) -> int:
        """What is held of the frame that is still coming."""
        return len(self._unfinished)

    def receive(self, data: bytes) -> list[memoryview]:
        """The frames that are complete with `data`, read-only. Raises FrameError on a negative or too large size."""
        view = memoryview(data)
        frames: list[memoryview] = []
        position = self._continue_unfinished(view, frames) if self._unfinished else 0
        while len(view) - position >= SIZE.size:
            start = position + SIZE.size
            end = start + self._frame_size(view, position)
            if end > len(view):
                break
            frames.append(view[start:end])
            position = end
        self._keep(view[position:])
        return frames

    def _continue_unfinished(self, view: memoryview, frames: list[memoryview]) -> int:
        """Gives the unfinished frame what it lacks; returns how much of `view` that took."""
        position = 0
        while self._unfinished and position < len(view):
            lacking = self._wanted - len(self._unfinished)
            self._unfinished += view[position : position + lacking]
            position = min(position + lacking, len(view))
            if len(self._unfinished) == self._wanted:
                self._look_at_unfinished(frames)
        return position

    def _look_at_unfinished(self, frames: list[memoryview]) -> None:
        if self._wanted == SIZE.size:
            self._wanted += self._frame_size(self._unfinished, 0)
        if len(self._unfinished) == self._wanted:
            frames.append(memoryview(self._unfinished).toreadonly()[SIZE.size :])
            self._unfinished = bytearray()
            self._wanted = SIZE.size

    def _keep(self, rest: memoryview) -> None:
        if rest:
            self._unfinished += rest
            if len(rest) >= SIZE.size:
                self._wanted = SIZE.size + self._frame_size(rest, 0)

    def _frame_size(self, buffer: Buffer, position: int) -> int:
        size: int = SIZE.unpack_from(buffer, position)[0]
        if not 0 <= size <= self._max_bytes:
            raise FrameError(f"frame of {size} bytes, allowed are 0 to {self._max_bytes}")
        return size


def framed(parts: Sequence[Buffer]) -> list[Buffer]:
    """The parts of one frame, with the size in front. Nothing is copied: hand the list to a gathering write."""
    return [SIZE.pack(sum(len(part) for part in parts)), *parts]
