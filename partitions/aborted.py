"""Which transactions of a log were aborted: what `read_committed` consumers must leave out.

One entry for each, under the offset of its ABORT marker, so they are in the order in which they ended. Made from the batches
alone, on leaders and followers alike, and rebuilt with the producers: the store's writes stay in order, so that a snapshot of
producers that is there vouches for every entry below it.

    key    a + marker offset int64
    value  version uint8, producer id int64, first offset int64, last stable offset int64

The last stable offset is that of the moment after the marker: every transaction that ends later began at or above it, which is
where a search may stop. Source: KIP-98.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from quorumlog.host.ports import KVStore, WriteBatch

from .keys import Keys

VERSION = 1
ENTRY = struct.Struct(">Bqqq")
NOTHING = -1


class AbortedTransaction(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int  # its marker
    last_stable_offset: int


class AbortedIndex:
    """Owned by its log."""

    def __init__(self, store: KVStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.newest = self._find_newest()
        """The last marker of an abort, or -1: who reads behind it, as nearly all do, asks the store nothing."""

    def add(self, aborted: AbortedTransaction, batch: WriteBatch) -> None:
        value = ENTRY.pack(VERSION, aborted.producer_id, aborted.first_offset, aborted.last_stable_offset)
        batch.put(self._keys.aborted(aborted.last_offset), value)
        self.newest = max(self.newest, aborted.last_offset)

    def between(self, start: int, end: int) -> Iterator[AbortedTransaction]:
        """Those of which records may lie from `start` to below `end`."""
        if start > self.newest:
            return
        for key, value in self._store.scan(self._keys.aborted(start), self._keys.end_of(b"a")):
            _, producer_id, first_offset, last_stable_offset = ENTRY.unpack(value)
            if first_offset < end:
                yield AbortedTransaction(producer_id, first_offset, self._keys.number_of(key), last_stable_offset)
            if last_stable_offset >= end:
                return

    def truncate(self, offset: int, batch: WriteBatch) -> None:
        """Forget those that ended at or above `offset`."""
        if self.newest < offset:
            return
        batch.delete_range(self._keys.aborted(offset), self._keys.end_of(b"a"))
        self.newest = self._find_newest(offset)

    def drop_below(self, offset: int, batch: WriteBatch) -> None:
        """Forget those that ended below `offset`, which nobody can read any more."""
        if self.newest != NOTHING:
            batch.delete_range(self._keys.aborted(0), self._keys.aborted(offset))
            self.newest = self.newest if self.newest >= offset else NOTHING

    def _find_newest(self, below: int = 1 << 62) -> int:
        found = self._store.floor(self._keys.aborted(below - 1), self._keys.aborted(0)) if below > 0 else None
        return NOTHING if found is None else self._keys.number_of(found[0])
