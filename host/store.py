"""The node's key-value store in RocksDB."""

import threading
from collections.abc import Iterator

import rocksdict

from quorumlog.host.ports import StorageError, WriteBatch
from quorumlog.host.store_witness import Witness

_MIB = 1024 * 1024
_FIRST_PAGE_COUNT = 32  # many scans want one pair
_PAGE_COUNT_MAX = 2048
_PAGE_BYTES = _MIB


class RocksStore:
    """Implements `KVStore`. Opened by the node at its start and closed by it at its end.

    A write goes to the write-ahead log without a sync: it survives the process, not the power. `sync` makes all writes so
    far durable with `flush_wal`, which lets other threads run; a write with `sync=True` would hold the interpreter's lock
    for the time of the fsync. After the first failure every write and sync fails, since nobody knows any more what is durable.
    """

    def __init__(self, path: str) -> None:
        """Open or create the store. Raises StorageError, also if another process has it open."""
        self.path = path
        self._witness = Witness(path)
        self._witness.check_manifest()
        try:
            self._db = rocksdict.Rdict(path, _options())
        except Exception as error:  # rocksdict has no class of its own for RocksDB's errors
            raise StorageError(f"cannot open the store {path}: {error}") from error
        self._open_witness()
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._written_count = 0
        self._synced_count = 0
        self._failure: StorageError | None = None
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._unread(error) from error
        return value

    def write(self, batch: WriteBatch) -> None:
        changes = _to_rocks(batch)
        with self._write_lock:
            self._check_sound()
            try:
                self._db.write(changes)
            except Exception as error:
                raise self._failed("write to", error) from error
            self._written_count += 1

    def sync(self) -> None:
        target = self._written_count
        # Callers queue up here; the first in line syncs for all that wrote before, and they find their work done.
        with self._sync_lock:
            self._check_sound()
            if self._synced_count >= target:
                return
            covered, sequence = self._written_count, self._db.latest_sequence_number()
            try:
                self._db.flush_wal(True)
                self._witness.record(sequence)
            except Exception as error:
                raise self._failed("sync", error) from error
            self._synced_count = covered

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, ascending. Read in pages: a write made meanwhile is seen if it lies behind the page.

        No RocksDB iterator outlives a page: it would keep the store open after `close`, and old versions on the disk.
        """
        page_count = _FIRST_PAGE_COUNT
        while page := self._page(start, end, page_count):
            yield from page
            start = page[-1][0] + b"\0"  # the smallest key behind the last one
            page_count = min(page_count * 4, _PAGE_COUNT_MAX)

    def floor(self, key: bytes, lowest: bytes) -> tuple[bytes, bytes] | None:
        # No lower bound in the options: rocksdict 0.3.29 takes set_iterate_lower_bound for an upper one.
        try:
            position = self._db.iter()
            position.seek_for_prev(key)
            found = (position.key(), position.value()) if position.valid() else None
            position.status()  # raises what made the position invalid, unless that was the beginning
        except Exception as error:
            raise self._unread(error) from error
        return found if found and found[0] >= lowest else None

    def close(self) -> None:
        """Write the tables out and release the store; fine to call twice. Raises StorageError, but releases it even then."""
        with self._sync_lock, self._write_lock:
            if self._closed:
                return
            self._closed = True
            try:
                sequence = self._db.latest_sequence_number()
                self._db.close()
                if self._failure is None:
                    self._witness.record(sequence)
            except Exception as error:
                raise self._failed("close", error) from error
            finally:
                self._witness.close()

    def _open_witness(self) -> None:
        try:
            self._witness.check_sequence(self._db.latest_sequence_number())
            self._witness.open_file()
        except (StorageError, OSError) as error:
            self._db.close()
            raise StorageError(str(error)) from error

    def _page(self, start: bytes, end: bytes, count_max: int) -> list[tuple[bytes, bytes]]:
        """The first pairs of a range, as many as the page may hold; at least one if there is any."""
        if start >= end:
            return []
        options = rocksdict.ReadOptions()
        options.set_iterate_upper_bound(end)
        try:
            return _read_page(self._db.iter(read_opt=options), start, count_max)
        except Exception as error:
            raise self._unread(error) from error

    def _unread(self, error: Exception) -> StorageError:
        return StorageError(f"cannot read the store {self.path}: {error}")

    def _check_sound(self) -> None:
        if self._failure:
            raise StorageError(f"the store {self.path} failed before: {self._failure}")

    def _failed(self, action: str, error: Exception) -> StorageError:
        self._failure = StorageError(f"cannot {action} the store {self.path}: {error}")
        return self._failure


def _read_page(position: rocksdict.RdictIter, start: bytes, count_max: int) -> list[tuple[bytes, bytes]]:
    page: list[tuple[bytes, bytes]] = []
    size = 0
    position.seek(start)
    while position.valid() and len(page) < count_max and size < _PAGE_BYTES:
        page.append((position.key(), position.value()))
        size += len(page[-1][1])
        position.next()
    position.status()  # raises what made the position invalid, unless that was the end
    return page


def _to_rocks(batch: WriteBatch) -> rocksdict.WriteBatch:
    changes = rocksdict.WriteBatch(raw_mode=True)
    for operation, first, second in batch.operations:
        match operation:
            case "put":
                changes.put(first, second)
            case "delete":
                changes.delete(first)
            case "delete_range":
                changes.delete_range(first, second)
            case _:
                raise AssertionError(operation)
    return changes


def _options() -> rocksdict.Options:
    """A small store beside a large page cache: about 30 MiB of memory, two background threads, and logs that stay short."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    # A crash may tear the last records of the write-ahead log; they were never synced, so nobody was promised them.
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(8 * _MIB)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(64 * _MIB)
    options.set_max_background_jobs(2)
    options.set_max_open_files(256)
    options.set_max_log_file_size(_MIB)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    tables = rocksdict.BlockBasedOptions()
    tables.set_block_cache(rocksdict.Cache(8 * _MIB))
    tables.set_bloom_filter(10, False)
    options.set_block_based_table_factory(tables)
    return options
