"""Snapshots of the state machine: one file, replaced atomically, sent in bounded pieces.

    raft/snapshot:  magic "QLS1" | index u64 | term u64 | body length u64 | crc u32 | body      crc over everything else

Taken inside the tick, without a fork: once gRPC has run, forked children die.
"""

import struct
import zlib
from dataclasses import dataclass

from quorumlog.host.ports import Disk, StorageError
from quorumlog.raft.errors import Fatal
from quorumlog.raft.messages import SnapshotChunk

_DIRECTORY = "raft"
_PATH = "raft/snapshot"
_MAGIC = b"QLS1"
_FIELDS = struct.Struct(">4sQQQ")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state right after the entry at `index`, which had `term`."""

    index: int
    term: int
    body: bytes


def encode_snapshot(snapshot: Snapshot) -> bytes:
    fields = _FIELDS.pack(_MAGIC, snapshot.index, snapshot.term, len(snapshot.body))
    return fields + _CRC.pack(zlib.crc32(snapshot.body, zlib.crc32(fields))) + snapshot.body


def parse_snapshot(blob: bytes) -> Snapshot:
    """Raises ValueError saying what is wrong with the bytes."""
    if len(blob) < HEADER_BYTES:
        raise ValueError(f"a snapshot of {len(blob)} bytes has no whole header ({HEADER_BYTES})")
    fields, body = blob[: _FIELDS.size], blob[HEADER_BYTES:]
    magic, index, term, length = _FIELDS.unpack(fields)
    if magic != _MAGIC or length != len(body):
        raise ValueError(f"a snapshot begins with {magic!r} and claims {length} bytes, it has {len(body)}")
    if _CRC.unpack_from(blob, _FIELDS.size)[0] != zlib.crc32(body, zlib.crc32(fields)):
        raise ValueError(f"the snapshot at {index} fails its checksum")
    return Snapshot(index, term, body)


class SnapshotStore:
    """The latest durable snapshot of one voter. Owned by its Quorum; the disk outlives it."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.durable_index = 0
        """Everything up to here may be dropped from the log."""

    def load(self) -> Snapshot | None:
        """What is on the disk. Raises Fatal if it is damaged: the log before it is gone, so nothing can replace it."""
        try:
            snapshot = parse_snapshot(self._disk.read_file(_PATH))
        except FileNotFoundError:
            return None
        except (OSError, StorageError, ValueError) as error:
            raise Fatal(f"{_PATH} is unreadable: {error}") from error
        self.durable_index = snapshot.index
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Durable when it returns."""
        try:
            self._disk.make_directory(_DIRECTORY)
            self._disk.write_atomic(_PATH, encode_snapshot(snapshot))
        except (OSError, StorageError) as error:
            raise Fatal(f"{_PATH} cannot be written: {error}") from error
        self.durable_index = snapshot.index


@dataclass(slots=True)
class _Transfer:
    snapshot: Snapshot
    blob: bytes
    sent_bytes: int
    acknowledged_bytes: int
    progress_at: float


class SnapshotSender:
    """Sends a leader's snapshot to followers that need it, a few chunks ahead of what each has acknowledged."""

    def __init__(self, store: SnapshotStore, *, chunk_bytes: int, chunks_in_flight: int, stall_s: float) -> None:
        self._store = store
        self._chunk_bytes = chunk_bytes
        self._window_bytes = chunk_bytes * chunks_in_flight
        self._stall_s = stall_s
        self._transfers: dict[int, _Transfer] = {}

    def next_chunk(self, follower: int, now: float) -> SnapshotChunk | None:
        """The next piece for a follower, or None while it must first acknowledge what it has."""
        transfer = self._transfer(follower, now)
        if transfer.sent_bytes == len(transfer.blob) or transfer.sent_bytes - transfer.acknowledged_bytes >= self._window_bytes:
            return None
        data = transfer.blob[transfer.sent_bytes : transfer.sent_bytes + self._chunk_bytes]
        chunk = SnapshotChunk(transfer.snapshot.index, transfer.snapshot.term, transfer.sent_bytes, len(transfer.blob), data)
        transfer.sent_bytes += len(data)
        return chunk

    def _transfer(self, follower: int, now: float) -> _Transfer:
        transfer = self._transfers.get(follower)
        # No progress: pieces were lost, or the follower could not use what it got. Begin again with what is newest.
        if transfer is None or now - transfer.progress_at > self._stall_s:
            transfer = self._transfers[follower] = self._begin(now)
        return transfer

    def _begin(self, now: float) -> _Transfer:
        snapshot = self._store.load()
        if snapshot is None:
            raise Fatal("a follower needs the log's beginning, which is trimmed, and there is no snapshot")
        return _Transfer(snapshot, encode_snapshot(snapshot), sent_bytes=0, acknowledged_bytes=0, progress_at=now)

    def on_acknowledged(self, follower: int, index: int, received_bytes: int, now: float) -> bool:
        """True if that is progress, so that more may be sent."""
        transfer = self._transfers.get(follower)
        if transfer is None or transfer.snapshot.index != index:
            return False
        if not transfer.acknowledged_bytes < received_bytes <= transfer.sent_bytes:
            return False
        transfer.acknowledged_bytes, transfer.progress_at = received_bytes, now
        return True

    def cancel(self, follower: int) -> None:
        self._transfers.pop(follower, None)

    def cancel_all(self) -> None:
        self._transfers.clear()


class SnapshotReceiver:
    """Puts a leader's chunks together, in order, from one leader in one term at a time."""

    def __init__(self) -> None:
        self._source: tuple[int, int, int] | None = None
        self._received = bytearray()

    @property
    def progress(self) -> tuple[int, int]:
        """Index of the snapshot on its way (0: none) and bytes received of it."""
        return (self._source[2], len(self._received)) if self._source else (0, 0)

    def on_chunk(self, leader: int, term: int, chunk: SnapshotChunk) -> bytes | None:
        """The whole file once it is complete. A chunk out of order is ignored: the leader begins again."""
        source = (leader, term, chunk.index)
        if chunk.offset == 0:
            self._source, self._received = source, bytearray()
        if self._source != source or chunk.offset != len(self._received):
            return None
        self._received += chunk.data
        if len(self._received) < chunk.total_bytes:
            return None
        blob = bytes(self._received)
        self.forget()
        return blob

    def forget(self) -> None:
        self._source, self._received = None, bytearray()
