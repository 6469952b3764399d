"""A key-value store in memory that loses, at a power cut, what was not synced."""

import errno
import os
import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from quorumlog.host.ports import StorageError, WriteBatch

_Undo = list[tuple[bytes, bytes | None]]


class SimStore:
    """Implements `KVStore`. Outlives the node that uses it: after `close` or `crash`, `reopen` stands for the next process.

    A power cut keeps a prefix of the write order, as RocksDB's write-ahead log does, and always all that was synced.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._unsynced: list[_Undo] = []  # one entry a batch, oldest first
        self._closed = False
        self._fail_next: dict[str, int] = {}
        self.sync_count = 0

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._values.get(key)

    def write(self, batch: WriteBatch) -> None:
        self._check_open()
        self._fail_if_told("write")
        undo: _Undo = []
        for operation, first, second in batch.operations:
            match operation:
                case "put":
                    self._set(first, bytes(second), undo)
                case "delete":
                    self._set(first, None, undo)
                case "delete_range":
                    for key in self._keys_between(first, second):
                        self._set(key, None, undo)
                case _:
                    raise AssertionError(operation)
        self._unsynced.append(undo)

    def sync(self) -> None:
        self._check_open()
        self._fail_if_told("sync")
        self._unsynced.clear()
        self.sync_count += 1

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        # A snapshot taken at the call, as a RocksDB iterator is: writes that go on meanwhile are not seen.
        self._check_open()
        return iter([(key, self._values[key]) for key in self._keys_between(start, end)])

    def floor(self, key: bytes, lowest: bytes) -> tuple[bytes, bytes] | None:
        self._check_open()
        index = bisect_right(self._keys, key) - 1
        if index < 0 or self._keys[index] < lowest:
            return None
        return self._keys[index], self._values[self._keys[index]]

    def close(self) -> None:
        self._closed = True

    def reopen(self) -> None:
        """What the next process does: the same content, usable again, and durable.

        RocksDB writes its replayed log into a new, synced table when it opens (held by tests/host/test_store.py).
        """
        self._closed = False
        self._unsynced.clear()

    def crash(self, *, power: bool) -> None:
        """End the process that uses the store. With `power`, a suffix of the unsynced batches may be gone as well."""
        self._closed = True
        self._fail_next.clear()
        if not power:
            return
        # All is as likely as some: the operating system may have written the log a moment ago.
        kept = self._rng.choice((len(self._unsynced), self._rng.randint(0, len(self._unsynced))))
        while len(self._unsynced) > kept:
            for key, value in reversed(self._unsynced.pop()):
                self._set(key, value, [])
        # What survived is on disk now, and a later cut cannot take it.
        self._unsynced.clear()

    def fail_next(self, operation: str, error: int = errno.EIO) -> None:
        """Let the next 'write' or 'sync' raise StorageError."""
        assert operation in ("write", "sync"), operation
        self._fail_next[operation] = error

    def unsynced_count(self) -> int:
        """Batches that a power cut could take."""
        return len(self._unsynced)

    def _set(self, key: bytes, value: bytes | None, undo: _Undo) -> None:
        old = self._values.get(key)
        undo.append((key, old))
        if value is None:
            if old is not None:
                del self._values[key]
                del self._keys[bisect_left(self._keys, key)]
            return
        if old is None:
            insort(self._keys, bytes(key))
        self._values[bytes(key)] = value

    def _keys_between(self, start: bytes, end: bytes) -> list[bytes]:
        return self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the store is closed")

    def _fail_if_told(self, operation: str) -> None:
        if error := self._fail_next.pop(operation, 0):
            raise StorageError(f"{operation} failed: {errno.errorcode[error]} ({os.strerror(error)})")
