"""The durable half of a voter: its log, its term and its vote, in the node's key-value store.

    b"raft/entry/" + index u64  ->  term u64 | crc u32 | command        crc over key, term and command
    b"raft/vote"                ->  term u64 | vote i64 | crc u32       vote -1 = none; crc over the rest

Changes are gathered in memory and become durable together at `barrier`: one atomic batch, one sync. Nothing may leave the process
between a change and its barrier. What the journal refuses is a broken invariant of Raft, so it refuses with Fatal.
"""

import struct
import zlib
from typing import NamedTuple, overload

from quorumlog.host.ports import KVStore, StorageError, WriteBatch
from quorumlog.raft.errors import Fatal

COMMAND = 0
NO_OP = 1
"""The first byte of an entry's command: for the state machine, or a leader's mark that says nothing."""

_ENTRY_PREFIX = b"raft/entry/"
_ENTRY_END = b"raft/entry0"
_VOTE_KEY = b"raft/vote"
_INDEX = struct.Struct(">Q")
_TERM_CRC = struct.Struct(">QI")
_TERM_VOTE = struct.Struct(">Qq")
_CRC = struct.Struct(">I")
_NO_VOTE = -1


class Entry(NamedTuple):
    """One entry of the log. The order of the fields is the core's."""

    command: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of an entry
    term: int


FIRST_ENTRY = Entry(bytes([NO_OP]), 1, 0)
"""Every log begins with it, so that there is always an entry before the next one. Committed by construction."""


def begin_journal(batch: WriteBatch) -> None:
    """Add an empty journal to the batch that formats a store."""
    batch.put(_entry_key(FIRST_ENTRY.index), _entry_value(FIRST_ENTRY))
    batch.put(_VOTE_KEY, _vote_value(0, None))


class Journal:
    """Log, term and vote of one voter, mirrored in memory. Owned by its Quorum; the store outlives it."""

    def __init__(self, store: KVStore) -> None:
        self._store = store
        self._batch = WriteBatch()
        self._term, self._vote = _load_vote(store)
        self._entries = _load_entries(store)
        self._refuse_broken_log()

    def _refuse_broken_log(self) -> None:
        if not self._entries:
            raise Fatal("the raft journal holds no entry at all")
        for before, after in zip(self._entries, self._entries[1:], strict=False):
            if after.index != before.index + 1 or after.term < before.term:
                raise Fatal(f"the raft journal is broken between {before.index} and {after.index}")
        if self.last.term > self._term:
            raise Fatal(f"the raft journal ends in term {self.last.term}, above the voter's term {self._term}")

    @property
    def term(self) -> int:
        return self._term

    @property
    def vote(self) -> int | None:
        return self._vote

    @property
    def first(self) -> Entry:
        """The oldest entry kept. It is committed by construction: it is the very first or one that a snapshot covers."""
        return self._entries[0]

    @property
    def last(self) -> Entry:
        return self._entries[-1]

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, position: int) -> Entry: ...
    @overload
    def __getitem__(self, position: slice) -> list[Entry]: ...
    def __getitem__(self, position: int | slice) -> Entry | list[Entry]:
        """By position in what is kept, not by log index."""
        return self._entries[position]

    def entry(self, index: int) -> Entry | None:
        """The entry at a log index, or None if it is not kept or does not exist."""
        position = index - self._entries[0].index
        return self._entries[position] if 0 <= position < len(self._entries) else None

    def append(self, entry: Entry) -> None:
        if entry.index != self.last.index + 1 or entry.term < self.last.term:
            self._refuse(f"entry {entry.index} of term {entry.term} cannot follow {self.last.index} of term {self.last.term}")
        self._entries.append(entry)
        self._batch.put(_entry_key(entry.index), _entry_value(entry))

    def truncate_from(self, index: int) -> None:
        """Drop the entries at `index` and behind it. The first entry stays: it is committed."""
        if index <= self.first.index:
            self._refuse(f"truncating from {index} would drop the committed entry {self.first.index}")
        if index <= self.last.index:
            self._delete_keys(index, self.last.index)
            del self._entries[index - self.first.index :]

    def trim_before(self, index: int) -> None:
        """Drop the entries before `index`, which must be kept. The caller holds a durable snapshot that covers them."""
        position = index - self.first.index
        if not 0 <= position < len(self._entries):
            self._refuse(f"cannot trim to {index}: the log holds {self.first.index} to {self.last.index}")
        if position:
            self._delete_keys(self.first.index, index - 1)
            del self._entries[:position]

    def restart_at(self, index: int, term: int) -> None:
        """Forget the log; a durable snapshot that ends at `index` takes its place."""
        self._delete_keys(self.first.index, self.last.index)
        entry = Entry(bytes([NO_OP]), index, term)
        self._entries = [entry]
        self._batch.put(_entry_key(index), _entry_value(entry))

    def set_vote(self, term: int, vote: int | None) -> None:
        """Enter a term, or give the one vote there is in it."""
        if term < self._term:
            self._refuse(f"the term would go back from {self._term} to {term}")
        if term == self._term and self._vote is not None and vote != self._vote:
            self._refuse(f"a second vote in term {term}: {self._vote} has it, {vote} would get it")
        self._term, self._vote = term, vote
        self._batch.put(_VOTE_KEY, _vote_value(term, vote))

    def barrier(self) -> None:
        """Make every change so far durable, all or none. Raises Fatal if storage fails: an fsync that failed is never retried."""
        if not self._batch:
            return
        batch, self._batch = self._batch, WriteBatch()
        try:
            self._store.write(batch)
            self._store.sync()
        except StorageError as error:
            raise Fatal(f"the raft journal could not be written: {error}") from error

    def _refuse(self, reason: str) -> None:
        raise Fatal(f"raft journal: {reason}")

    def _delete_keys(self, first: int, last: int) -> None:
        self._batch.delete_range(_entry_key(first), _entry_key(last + 1))


def _entry_key(index: int) -> bytes:
    return _ENTRY_PREFIX + _INDEX.pack(index)


def _entry_value(entry: Entry) -> bytes:
    return _TERM_CRC.pack(entry.term, _entry_crc(entry)) + entry.command


def _entry_crc(entry: Entry) -> int:
    return zlib.crc32(entry.command, zlib.crc32(_entry_key(entry.index) + _INDEX.pack(entry.term)))


def _load_entries(store: KVStore) -> list[Entry]:
    return [_parse_entry(key, value) for key, value in store.scan(_ENTRY_PREFIX, _ENTRY_END)]


def _parse_entry(key: bytes, value: bytes) -> Entry:
    try:
        (index,) = _INDEX.unpack(key[len(_ENTRY_PREFIX) :])
        term, crc = _TERM_CRC.unpack_from(value)
    except struct.error as error:
        raise Fatal(f"raft journal: malformed entry at key {key!r}") from error
    entry = Entry(value[_TERM_CRC.size :], index, term)
    if _entry_crc(entry) != crc or not entry.command:
        raise Fatal(f"raft journal: entry {index} fails its checksum")
    return entry


def _vote_value(term: int, vote: int | None) -> bytes:
    body = _TERM_VOTE.pack(term, _NO_VOTE if vote is None else vote)
    return body + _CRC.pack(zlib.crc32(body))


def _load_vote(store: KVStore) -> tuple[int, int | None]:
    value = store.get(_VOTE_KEY)
    # A voter without its vote must stop: to go on as if it had none could elect two leaders in one term.
    if value is None or len(value) != _TERM_VOTE.size + _CRC.size:
        raise Fatal("raft journal: the record of term and vote is missing or malformed")
    body, crc = value[: _TERM_VOTE.size], value[_TERM_VOTE.size :]
    if _CRC.pack(zlib.crc32(body)) != crc:
        raise Fatal("raft journal: the record of term and vote fails its checksum")
    term, vote = _TERM_VOTE.unpack(body)
    return term, None if vote == _NO_VOTE else vote
