"""The machine as the rest of the house sees it: a clock, a disk, a key-value store, and the other nodes.

The production implementations stand beside this file; the simulator brings its own. Everything that can differ between two
runs (time, disk content, message arrival) enters through one of these, so that a seed decides a whole cluster's history.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


class StorageError(Exception):
    """A disk or the store failed to write or to sync. The node must stop: what is durable is no longer known.

    Never retry after one: the kernel may have dropped the dirty pages of a failed fsync (fsyncgate, 2018).
    """


class PeerGone(Exception):
    """The stream or call to another node ended: it closed, died, or did not answer in time."""


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds since an arbitrary start. All timeouts and deadlines use this."""
        ...

    def wall_ms(self) -> int:
        """Unix time in milliseconds. Only record timestamps and retention use this."""
        ...


class Worker(Protocol):
    """Does blocking work beside the event loop, one piece at a time. Its opener owns and closes it."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raised."""
        ...

    def close(self) -> None:
        """Nothing may be under way any more."""
        ...


class DiskFile(Protocol):
    """A file that grows at its end, can be read anywhere and cut. Its opener owns and closes it."""

    path: str

    def size(self) -> int:
        """Bytes appended so far, synced or not."""
        ...

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Write all buffers at the end, in order. Raises StorageError if not everything was written."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer at the end of the file."""
        ...

    def sync(self) -> None:
        """Make everything appended so far durable. Blocking; may be called from another thread, concurrently with append.

        Once it has failed on a disk, no later one can be believed until `Disk.has_failed_sync` was attended to.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes (durable after the next sync)."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A node's data directory. Paths are relative to its root, with `/` between names."""

    def open(self, path: str) -> DiskFile:
        """Open for append and read, creating the file if it is missing. The directory must exist."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        ...

    def make_directory(self, path: str, *, durable: bool = True) -> None:
        """Create a directory and its parents; fine if it is there already. Where `durable` is False, only the parents are it."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomically move a file or directory over `new`, durably."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file, or a directory with all it holds; fine if it is missing."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the creation and removal of names in a directory durable."""
        ...

    def sync_all(self, files: Sequence[DiskFile], directories: Sequence[str]) -> None:
        """What `DiskFile.sync` and `sync_directory` do, for many at once. Blocking; may be called from another thread."""
        ...

    def read_file(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        ...

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a file so that a reader finds the old or the new content whole, whatever happens; durable on return."""
        ...

    def has_failed_sync(self) -> bool:
        """Did a file's sync fail, in this process or one before, for as long as memory may hold what the medium does not?

        The kernel takes the pages of a failed sync for clean: the next sync succeeds and saves nothing. Only another file, with
        the same content, is synced honestly.
        """
        ...

    def forget_failed_sync(self) -> None:
        """All that could have been lost is in new files, and synced there."""
        ...


@dataclass(slots=True)
class WriteBatch:
    """Changes to a KVStore that happen together, in order:

    ('put', key, value), ('delete', key, b''), ('delete_range', from, to)
    """

    operations: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def put(self, key: bytes, value: bytes) -> None:
        self.operations.append(("put", key, value))

    def delete(self, key: bytes) -> None:
        self.operations.append(("delete", key, b""))

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove every key with start <= key < end."""
        self.operations.append(("delete_range", start, end))

    def __bool__(self) -> bool:
        return bool(self.operations)


class KVStore(Protocol):
    """An ordered store of byte keys, shared by the parts of one node (each has its own key prefix). Safe from several threads."""

    def get(self, key: bytes) -> bytes | None: ...

    def write(self, batch: WriteBatch) -> None:
        """Apply the batch atomically. It survives the death of the process at once, a power cut only after `sync`."""
        ...

    def sync(self) -> None:
        """Make everything written so far durable. Blocking, without holding the interpreter's lock."""
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, ascending."""
        ...

    def floor(self, key: bytes, lowest: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest key in lowest <= k <= key."""
        ...

    def close(self) -> None: ...


class PeerStream(Protocol):
    """An ordered, bidirectional stream of byte messages to one other node. Its end is seen as PeerGone by both sides."""

    node_id: int

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send the buffers as one message; waits while the other side is behind (flow control). Raises PeerGone."""
        ...

    async def receive(self) -> bytes:
        """The next message. Raises PeerGone at the end of the stream."""
        ...

    async def close(self) -> None: ...


StreamHandler = Callable[[PeerStream], Awaitable[None]]
CallHandler = Callable[[int, bytes], Awaitable[bytes]]


class Peers(Protocol):
    """The other nodes of the cluster, as authenticated by their certificates (or by loopback where there are none)."""

    def serve_stream(self, service: str, handler: StreamHandler) -> None:
        """Run `handler` for each stream that another node opens on `service`; the stream closes when it returns."""
        ...

    def serve_call(self, method: str, handler: CallHandler) -> None: ...

    def set_address(self, node_id: int, host: str, port: int) -> None:
        """Where a node listens for peers. Later connections use it."""
        ...

    async def connect(self, node_id: int, service: str, timeout_s: float) -> PeerStream:
        """Open a stream. Raises PeerGone."""
        ...

    async def call(self, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        """One request, one answer. Raises PeerGone if there is none in time."""
        ...

    async def is_refused(self, node_id: int) -> bool:
        """True if the node's machine answers but nothing listens on the node's port: its process is gone."""
        ...
