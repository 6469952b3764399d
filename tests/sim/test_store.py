import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.host.ports import StorageError, WriteBatch
from tests.sim.store import SimStore

KEYS = st.binary(min_size=1, max_size=2)
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), KEYS, st.just(b"")),
    st.tuples(st.just("delete_range"), KEYS, KEYS),
)
BATCHES = st.lists(st.lists(OPERATIONS, max_size=4), max_size=8)


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


def content(store: SimStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"\xff" * 4))


@given(BATCHES, KEYS, KEYS)
def test_answers_like_a_dictionary(batches: list[list[tuple[str, bytes, bytes]]], low: bytes, high: bytes) -> None:
    """Reads after any writes agree with a plain dictionary."""
    store, twin = SimStore(random.Random(0)), dict[bytes, bytes]()
    for operations in batches:
        store.write(WriteBatch(list(operations)))
        twin = apply_to_dict(twin, operations)
    assert list(store.scan(low, high)) == sorted((key, twin[key]) for key in twin if low <= key < high)
    assert store.get(low) == twin.get(low)
    assert store.floor(high, low) == max(((key, twin[key]) for key in twin if low <= key <= high), default=None)


@given(BATCHES, st.integers(0, 8), st.integers(0, 1000))
def test_a_power_cut_keeps_a_prefix_with_all_that_was_synced(
    batches: list[list[tuple[str, bytes, bytes]]], synced: int, seed: int
) -> None:
    """What is left after a cut is the state after some batch at or behind the last sync."""
    store, states = SimStore(random.Random(seed)), [dict[bytes, bytes]()]
    for index, operations in enumerate(batches, start=1):
        store.write(WriteBatch(list(operations)))
        states.append(apply_to_dict(states[-1], operations))
        if index == synced:
            store.sync()
    store.crash(power=True)
    store.reopen()
    assert content(store) in states[min(synced, len(batches)) if synced <= len(batches) else 0 :]


def test_a_power_cut_does_take_unsynced_writes() -> None:
    """Over some seeds both outcomes occur for one unsynced batch."""
    outcomes = set()
    for seed in range(20):
        store = SimStore(random.Random(seed))
        store.write(WriteBatch([("put", b"k", b"v")]))
        store.crash(power=True)
        store.reopen()
        outcomes.add(store.get(b"k"))
    assert outcomes == {None, b"v"}


def test_the_death_of_the_process_takes_nothing() -> None:
    """Unsynced writes survive kill -9, and are durable when the next process has opened the store."""
    store = SimStore(random.Random(1))
    store.write(WriteBatch([("put", b"k", b"v")]))
    store.crash(power=False)
    store.reopen()
    assert store.get(b"k") == b"v"
    assert store.unsynced_count() == 0


def test_a_closed_store_refuses_and_a_told_fault_happens_once() -> None:
    """Faults are StorageErrors, as from the real store."""
    store = SimStore(random.Random(1))
    store.fail_next("sync")
    with pytest.raises(StorageError, match="EIO"):
        store.sync()
    store.sync()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.get(b"k")


def test_a_scan_does_not_see_later_writes() -> None:
    """Writing while a scan goes on is safe."""
    store = SimStore(random.Random(1))
    store.write(WriteBatch([("put", b"a", b"1"), ("put", b"b", b"2")]))
    scan = store.scan(b"", b"z")
    assert next(scan) == (b"a", b"1")
    store.write(WriteBatch([("delete", b"b", b""), ("put", b"c", b"3")]))
    assert list(scan) == [(b"b", b"2")]
