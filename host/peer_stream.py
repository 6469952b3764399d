"""One gRPC stream between two nodes, seen from either end."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from quorumlog.host.ports import Buffer, PeerGone

MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class GrpcStream:
    """Implements `PeerStream`. Made by GrpcPeers, owned by whoever connected or serves it, closed once.

    A task of its own reads one message ahead, so that the end is seen while nobody receives, and a cancelled `receive`
    loses nothing. A cancelled `send` ends the stream: how much of the message went out is unknown.
    """

    def __init__(
        self,
        node_id: int,
        *,
        read: Callable[[], Awaitable[Any]],
        write: Callable[[bytes], Awaitable[Any]],
        end_of_stream: object,
        hang_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`read` answers `end_of_stream` or raises at the end; `hang_up` tells the other side that we are done."""
        self.node_id = node_id
        self._read = read
        self._write = write
        self._end_of_stream = end_of_stream
        self._hang_up = hang_up
        self._arrived: deque[bytes] = deque()  # one message at most
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._sending = asyncio.Lock()
        self._ended = asyncio.Event()
        self._end_reason = ""
        self._closed = False
        self._reader = asyncio.create_task(self._read_ahead(), name=f"read stream of node {node_id}")

    async def send(self, buffers: Sequence[Buffer]) -> None:
        message = b"".join(buffers)
        assert len(message) <= MESSAGE_BYTES_MAX, len(message)
        async with self._sending:
            self._check_going_on()
            try:
                await self._write(message)
            except asyncio.CancelledError:
                self.end("a message was left half sent")
                # gRPC raises this also when the stream, not we, was cancelled.
                if is_cancelled():
                    raise
            except Exception as error:  # whatever gRPC raises here, this stream is over
                self.end(describe(error))
            self._check_going_on()

    async def receive(self) -> bytes:
        while not self._arrived:
            self._check_going_on()
            self._changed.clear()
            await self._changed.wait()
        self._has_room.set()
        return self._arrived.popleft()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._arrived.clear()
        self.end("it was closed by this node")
        await self._hang_up()

    def end(self, reason: str) -> None:
        """From now on send and receive raise PeerGone, after what has arrived was received."""
        if not self._ended.is_set():
            self._end_reason = reason
        self._ended.set()
        self._changed.set()
        self._has_room.set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def stop_reading(self) -> None:
        """The last thing done to a stream: nothing of it is left running."""
        self._reader.cancel()
        await asyncio.wait({self._reader})

    async def _read_ahead(self) -> None:
        reason = "the other node closed it"
        try:
            while (message := await self._read()) is not self._end_of_stream:
                await self._has_room.wait()
                if not self._ended.is_set():
                    self._arrived.append(message)
                    self._has_room.clear()
                    self._changed.set()
        except asyncio.CancelledError:
            reason = "it was cancelled"
        except Exception as error:
            reason = describe(error)
        self.end(reason)

    def _check_going_on(self) -> None:
        if self._ended.is_set():
            raise PeerGone(f"the stream with node {self.node_id} ended: {self._end_reason}")


def is_cancelled() -> bool:
    """Whether the running task was asked to stop, as against an awaited call that ended as 'cancelled' by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def describe(error: BaseException) -> str:
    """One line that says what gRPC thinks went wrong."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if callable(code) and callable(details) and code() is not None:
        return f"{code().name}: {details()}"
    return str(error) or type(error).__name__
