"""What the store held at its last sync, written beside it: so a log that was cut is told from one that a crash has torn.

RocksDB takes a write-ahead log or a manifest that ends early for one whose end was never synced, and opens without what is
missing. For a voter that would mean to forget votes and entries that it has acknowledged. So after a sync a witness is written of
what is durable by then, and a store that holds less is refused.

    SYNCED   magic "QLW1" | number of the manifest u64 | its bytes u64 | sequence number u64 | crc u32 of all before it

The witness itself is not synced: a power cut may bring back an older one, which asks for less. One that cannot be read asks for
nothing: it is there to find damage, and must not be damage.
"""

import os
import struct
import zlib
from dataclasses import dataclass

from quorumlog.host.ports import StorageError

FILE_NAME = "SYNCED"
_MANIFEST = "MANIFEST-"
_FIELDS = struct.Struct(">4sQQQ")
_CRC = struct.Struct(">I")
_MAGIC = b"QLW1"


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Durable at some moment: so many bytes of that manifest, and every write up to the sequence number."""

    manifest_number: int
    manifest_bytes: int
    sequence: int


class Witness:
    """Owned by its store, which is open from `open_file` to `close`; one thread at a time."""

    def __init__(self, store_path: str) -> None:
        self._store_path = store_path
        self._path = os.path.join(store_path, FILE_NAME)
        self._file = -1
        self._manifest = ""
        self._manifest_bytes = -1

    def check_manifest(self) -> None:
        """Before RocksDB opens the store, and makes a new manifest of what it finds. Raises StorageError."""
        last = self._read()
        if last is None:
            return
        name = self._current_manifest()
        number, size = _number_of(name), self._size_of(name)
        if number < last.manifest_number or (number == last.manifest_number and size < last.manifest_bytes):
            raise StorageError(
                f"the store {self._store_path} is damaged: its manifest {name or 'is gone and'} has {size} bytes, "
                f"{_MANIFEST}{last.manifest_number:06} had {last.manifest_bytes} at the last sync"
            )

    def check_sequence(self, sequence: int) -> None:
        """When RocksDB has opened the store and says what its last write was. Raises StorageError."""
        last = self._read()
        if last is not None and sequence < last.sequence:
            raise StorageError(
                f"the store {self._store_path} is damaged: its last write is {sequence}, {last.sequence} was synced"
            )

    def open_file(self) -> None:
        """From now on `record` may be called."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._manifest = self._current_manifest()

    def record(self, sequence: int) -> None:
        """Everything up to the sequence number is durable. Raises OSError."""
        size = self._size_of(self._manifest)
        if size < self._manifest_bytes:  # RocksDB has begun another one, since this one had grown too large
            self._manifest = self._current_manifest()
            size = self._size_of(self._manifest)
        if size != self._manifest_bytes:
            self._sync_manifest()  # RocksDB may be about to: what is witnessed must be durable before
            self._manifest_bytes = size
        fields = _FIELDS.pack(_MAGIC, _number_of(self._manifest), size, sequence)
        os.pwrite(self._file, fields + _CRC.pack(zlib.crc32(fields)), 0)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> Witnessed | None:
        try:
            with open(self._path, "rb") as file:
                blob = file.read(_FIELDS.size + _CRC.size)
        except FileNotFoundError:
            return None
        if len(blob) < _FIELDS.size + _CRC.size:
            return None
        magic, number, size, sequence = _FIELDS.unpack_from(blob)
        is_sound = magic == _MAGIC and _CRC.unpack_from(blob, _FIELDS.size)[0] == zlib.crc32(blob[: _FIELDS.size])
        return Witnessed(number, size, sequence) if is_sound else None

    def _current_manifest(self) -> str:
        """The name of the manifest in use; empty if nothing says so."""
        try:
            with open(os.path.join(self._store_path, "CURRENT"), "rb") as file:
                return file.read(100).decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def _size_of(self, manifest: str) -> int:
        try:
            return os.stat(os.path.join(self._store_path, manifest)).st_size if manifest else 0
        except FileNotFoundError:
            return 0

    def _sync_manifest(self) -> None:
        file = os.open(os.path.join(self._store_path, self._manifest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _number_of(manifest: str) -> int:
    digits = manifest.removeprefix(_MANIFEST)
    return int(digits) if digits.isdecimal() else -1
