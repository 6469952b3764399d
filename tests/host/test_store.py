import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorumlog.host.ports import KVStore, StorageError, WriteBatch
from quorumlog.host.store import RocksStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    store = RocksStore(str(tmp_path / "store"))
    yield store
    store.close()


def content(store: KVStore) -> list[tuple[bytes, bytes]]:
    return list(store.scan(b"k", b"m"))


def put(*pairs: tuple[bytes, bytes]) -> WriteBatch:
    return WriteBatch([("put", key, value) for key, value in pairs])


KEYS = st.binary(max_size=2)
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), KEYS, st.just(b"")),
    st.tuples(st.just("delete_range"), KEYS, KEYS).filter(lambda operation: operation[1] <= operation[2]),
)


def apply_to_dict(twin: dict[bytes, bytes], operations: list[tuple[str, bytes, bytes]]) -> dict[bytes, bytes]:
    result = dict(twin)
    for operation, first, second in operations:
        if operation == "put":
            result[first] = second
        elif operation == "delete":
            result.pop(first, None)
        else:
            result = {key: value for key, value in result.items() if not first <= key < second}
    return result


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(OPERATIONS, max_size=6), max_size=6), KEYS, KEYS)
def test_answers_like_a_dictionary(
    store: RocksStore, batches: list[list[tuple[str, bytes, bytes]]], low: bytes, high: bytes
) -> None:
    """Reads after any writes agree with a plain dictionary."""
    store.write(WriteBatch([("delete_range", b"", b"\xff" * 3)]))
    twin: dict[bytes, bytes] = {}
    for operations in batches:
        store.write(WriteBatch(list(operations)))
        twin = apply_to_dict(twin, operations)
    assert list(store.scan(low, high)) == sorted((key, twin[key]) for key in twin if low <= key < high)
    assert store.get(low) == twin.get(low)
    assert store.floor(high, low) == max(((key, twin[key]) for key in twin if low <= key <= high), default=None)


def test_a_long_scan_crosses_pages(store: RocksStore) -> None:
    """Neither the number of pairs nor their size is limited by a page."""
    pairs = [(b"k%05d" % number, b"v" * (number % 7)) for number in range(5000)]
    large = [(b"l%d" % number, bytes(700_000)) for number in range(5)]
    store.write(put(*pairs, *large))
    assert content(store) == pairs + large


def test_writes_go_on_during_a_scan(store: RocksStore) -> None:
    """A scan that is half done survives deletions and a closed store releases its directory although one was begun."""
    store.write(put(*[(b"k%03d" % number, b"") for number in range(500)]))
    scan = store.scan(b"k", b"l")
    assert next(scan)[0] == b"k000"
    store.write(WriteBatch([("delete_range", b"k100", b"l")]))
    assert len(list(scan)) == 99
    begun = store.scan(b"k", b"l")
    next(begun)
    store.close()
    RocksStore(store.path).close()


def test_a_sync_without_writes_costs_nothing(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was written since the last sync is synced."""
    flushes = count_flushes(store, monkeypatch)
    store.sync()
    assert flushes == []
    store.write(put((b"k", b"v")))
    store.sync()
    store.sync()
    assert flushes == [True]


def test_concurrent_syncs_share_one_flush(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads that wait together need at most the flush under way and one more."""
    entered, release = threading.Event(), threading.Event()
    flushes = count_flushes(store, monkeypatch, entered, release)
    store.write(put((b"a", b"1")))
    first = threading.Thread(target=store.sync)
    first.start()
    assert entered.wait(5)
    store.write(put((b"b", b"2")))
    others = [threading.Thread(target=store.sync) for _ in range(8)]
    for thread in others:
        thread.start()
    release.set()
    for thread in (first, *others):
        thread.join(5)
    assert len(flushes) == 2


def test_after_a_failed_sync_nothing_succeeds(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second try could lie, so there is none (fsyncgate)."""

    class Broken:
        def __init__(self, database: object) -> None:
            self.write = database.write  # type: ignore[attr-defined]
            self.close = database.close  # type: ignore[attr-defined]
            self.latest_sequence_number = database.latest_sequence_number  # type: ignore[attr-defined]

        def flush_wal(self, _sync: bool) -> None:
            raise Exception("IO error: no space left")

    monkeypatch.setattr(store, "_db", Broken(store._db))
    store.write(put((b"a", b"1")))
    for _ in range(2):
        with pytest.raises(StorageError, match="no space left"):
            store.sync()
    with pytest.raises(StorageError, match="failed before"):
        store.write(put((b"b", b"2")))


def test_a_store_in_use_and_a_closed_one_are_clear_errors(store: RocksStore) -> None:
    """Two openers at once, or a read after the end, are StorageErrors."""
    with pytest.raises(StorageError, match="cannot open the store"):
        RocksStore(store.path)
    store.close()
    store.close()
    for read in (lambda: store.get(b"k"), lambda: store.floor(b"k", b""), lambda: list(store.scan(b"", b"k"))):
        with pytest.raises(StorageError, match="cannot read the store"):
            read()


WRITER = """
import sys
from quorumlog.host.store import RocksStore
from quorumlog.host.ports import WriteBatch
store = RocksStore(sys.argv[1])
number = 0
while True:
    store.write(WriteBatch([("put", b"%08d" % number, b"v"), ("put", b"twin%08d" % number, b"v")]))
    number += 1
    if number % 100 == 0:
        print(number, flush=True)
"""


def test_kill_9_loses_no_write_and_splits_no_batch(tmp_path: Path) -> None:
    """All that was written before the kill is there, unsynced, and batches are whole."""
    path = str(tmp_path / "store")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(10)]
        process.kill()
        reported += [int(line) for line in process.stdout]
    store = RocksStore(path)
    numbers = [int(key) for key, _ in store.scan(b"0", b":")]
    twins = [int(key[4:]) for key, _ in store.scan(b"twin", b"twio")]
    store.close()
    assert numbers == twins == list(range(len(numbers)))
    assert len(numbers) >= reported[-1]


def test_a_torn_tail_of_the_log_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    """A crash in the middle of a log record does not keep the store from opening."""
    path = tmp_path / "store"
    store = RocksStore(str(path))
    store.write(put((b"a", b"1")))
    store.sync()
    store.write(put((b"b", bytes(1000))))
    shutil.copytree(path, tmp_path / "after the crash")
    store.close()
    (log,) = (tmp_path / "after the crash").glob("*.log")
    log.write_bytes(log.read_bytes()[:-500])
    again = RocksStore(str(log.parent))
    assert (again.get(b"a"), again.get(b"b")) == (b"1", None)
    again.close()


def count_flushes(
    store: RocksStore,
    monkeypatch: pytest.MonkeyPatch,
    entered: threading.Event | None = None,
    release: threading.Event | None = None,
) -> list[bool]:
    """Record every flush of the log; the first one reports `entered` and waits for `release`."""
    flushes: list[bool] = []
    database = store._db

    class Counting:
        write = database.write
        close = database.close
        latest_sequence_number = database.latest_sequence_number

        def flush_wal(self, sync: bool) -> None:
            flushes.append(sync)
            if entered and release and len(flushes) == 1:
                entered.set()
                assert release.wait(5)
            database.flush_wal(sync)

    monkeypatch.setattr(store, "_db", Counting())
    return flushes


SYNCED_COUNT = 60


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a crash leaves it: two tables, a log, every write synced but the last one."""
    path = tmp_path_factory.mktemp("witness") / "store"
    store = RocksStore(str(path))
    for number in range(SYNCED_COUNT):
        store.write(put((b"k%02d" % number, b"v" * 100)))
        store.sync()
        if number in (20, 40):
            store._db.flush()
    store.write(put((b"l", b"never synced")))
    crashed = path.with_name("crashed")
    shutil.copytree(path, crashed)
    store.close()
    return crashed


def reopened(store: Path, name: str, *, cut_to: int) -> list[tuple[bytes, bytes]]:
    """What a copy holds whose last file of that kind was cut. Raises StorageError if it is refused."""
    copy = Path(tempfile.mkdtemp(dir=store.parent)) / "store"
    shutil.copytree(store, copy)
    with max(copy.glob(name)).open("r+b") as file:
        file.truncate(cut_to)
    opened = RocksStore(str(copy))
    try:
        return content(opened)
    finally:
        opened.close()


def size_of(store: Path, name: str) -> int:
    return max(store.glob(name)).stat().st_size


def test_what_was_never_synced_may_be_missing(synced: Path) -> None:
    """The end of the log, as a power cut tears it: the store opens with all that was synced."""
    size = size_of(synced, "*.log")
    assert len(reopened(synced, "*.log", cut_to=size)) == SYNCED_COUNT + 1
    assert len(reopened(synced, "*.log", cut_to=size - 5)) == SYNCED_COUNT


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["*.log", "MANIFEST-*", "*.sst"])
def test_a_store_that_lost_what_was_synced_is_refused(synced: Path, name: str, share: float) -> None:
    """RocksDB alone takes a log or a manifest that was cut for a torn one, and forgets without a word."""
    with pytest.raises(StorageError):
        reopened(synced, name, cut_to=int(size_of(synced, name) * share))


def test_a_store_without_its_manifest_is_refused(synced: Path, tmp_path: Path) -> None:
    """RocksDB alone would begin an empty one."""
    shutil.copytree(synced, tmp_path / "store")
    (tmp_path / "store" / "CURRENT").unlink()
    with pytest.raises(StorageError, match="damaged"):
        RocksStore(str(tmp_path / "store"))


def test_what_was_written_at_the_close_is_witnessed_too(tmp_path: Path) -> None:
    """The tables that a clean stop writes are in the manifest's last bytes."""
    path = tmp_path / "store"
    store = RocksStore(str(path))
    store.write(put((b"k", b"v")))
    store.close()
    size = size_of(path, "MANIFEST-*")
    assert reopened(path, "MANIFEST-*", cut_to=size) == [(b"k", b"v")]
    with pytest.raises(StorageError):
        reopened(path, "MANIFEST-*", cut_to=size - 1)


@pytest.mark.parametrize("witness", [b"", bytes(32), b"QLW1" + bytes(range(28))])
def test_a_witness_that_cannot_be_read_asks_for_nothing(synced: Path, tmp_path: Path, witness: bytes) -> None:
    """It was being written when the power failed, or its own bytes have rotted: the store is as good as before."""
    shutil.copytree(synced, tmp_path / "store")
    (tmp_path / "store" / "SYNCED").write_bytes(witness)
    store = RocksStore(str(tmp_path / "store"))
    assert len(content(store)) == SYNCED_COUNT + 1
    store.close()


def test_what_a_dead_process_had_not_synced_is_in_a_new_table_once_the_store_is_open(tmp_path: Path) -> None:
    """Its log may be in memory only, after a failed sync: no later sync of that file would save it."""
    code = (
        "import os, sys\n"
        "from quorumlog.host.ports import WriteBatch\n"
        "from quorumlog.host.store import RocksStore\n"
        "batch = WriteBatch()\n"
        "batch.put(b'a', b'unsynced')\n"
        "store = RocksStore(sys.argv[1])\n"
        "store.write(batch)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert any(size for name, size in before.items() if name.endswith(".log"))
    store = RocksStore(str(tmp_path))
    try:
        after = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert [name for name in after if name.endswith(".sst") and name not in before]
        assert [name for name in after if name.startswith("MANIFEST-") and name not in before]
        assert not any(size for name, size in after.items() if name.endswith(".log") and name not in before)
        assert store.get(b"a") == b"unsynced"
    finally:
        store.close()
