"""A node's storage on a real machine: the data directory, and the RocksDB store inside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from quorumlog.host.disk import RealDisk
from quorumlog.host.store import RocksStore

STORE_DIRECTORY = "store"
EXIT_REFUSED = 1


@contextmanager
def open_storage(data_dir: str, *, create: bool = False) -> Iterator[tuple[RealDisk, RocksStore]]:
    """Both, for this process alone; closed at the end. Raises StorageError if there is no such directory, or it is in use."""
    disk = RealDisk(data_dir, create=create)
    try:
        store = RocksStore(os.path.join(data_dir, STORE_DIRECTORY))
        try:
            yield disk, store
        finally:
            store.close()
    finally:
        disk.close()
