"""The sparse index, against a list of its entries."""

import random

import hypothesis.strategies as st
from hypothesis import given

from quorumlog.host.ports import WriteBatch
from quorumlog.partitions import index as index_module
from quorumlog.partitions.index import IndexEntry, OffsetIndex
from quorumlog.partitions.keys import Keys
from tests.partitions.stage import TOPIC_ID
from tests.sim.store import SimStore

SEGMENT_OFFSETS = 1000


class Twin:
    def __init__(self) -> None:
        self.entries: list[tuple[int, IndexEntry]] = []

    def floor(self, base: int, offset: int) -> IndexEntry:
        below = [entry for own, entry in self.entries if own == base and entry.offset <= offset]
        return below[-1] if below else IndexEntry(base, 0, -1)

    def floor_time(self, base: int, timestamp: int) -> IndexEntry:
        below = [entry for own, entry in self.entries if own == base and entry.max_timestamp < timestamp]
        return below[-1] if below else IndexEntry(base, 0, -1)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add"] * 6 + ["segment", "drain", "drain all", "truncate", "drop", "reopen"]), st.integers(1, 40)),
    max_size=80,
)


@given(steps=STEPS)
def test_index_equals_a_list(steps: list[tuple[str, int]]) -> None:
    """However entries moved to the store, were cut, dropped or found again by another process."""
    index_module.BLOCK_ENTRIES, index_module.TAIL_ENTRIES_MAX = 4, 6
    try:
        run(steps)
    finally:
        index_module.BLOCK_ENTRIES, index_module.TAIL_ENTRIES_MAX = 128, 2048


def run(steps: list[tuple[str, int]]) -> None:
    store, keys, twin = SimStore(random.Random(1)), Keys(TOPIC_ID, 0), Twin()
    index = OffsetIndex(store, keys)
    base, offset, position, timestamp = 0, 0, 0, -1
    for action, amount in steps:
        batch = WriteBatch()
        match action:
            case "add":
                offset, position, timestamp = offset + amount, position + 10 * amount, timestamp + amount % 3
                index.add(segment_base=base, offset=offset, position=position, max_timestamp=timestamp)
                twin.entries.append((base, IndexEntry(offset, position, timestamp)))
            case "segment":
                base, position, timestamp = offset + 1, 0, -1
                offset = base
            case "drain":
                index.drain(batch, below=offset - amount)
            case "drain all":
                index.drain(batch, below=offset + 1, all_entries=True)
            case "truncate":
                cut = max(base + 1, offset - amount)
                index.truncate(cut, batch)
                twin.entries = [pair for pair in twin.entries if pair[1].offset < cut]
            case "drop":
                bases = sorted({own for own, _ in twin.entries})
                if bases:
                    keep = bases[len(bases) // 2]
                    index.drop_below(keep, batch)
                    twin.entries = [pair for pair in twin.entries if pair[0] >= keep]
            case "reopen":
                index.drain(batch, below=offset + 1, all_entries=True)
                store.write(batch)
                batch, index = WriteBatch(), OffsetIndex(store, keys)
        store.write(batch)
        compare(index, twin, offset)


def compare(index: OffsetIndex, twin: Twin, end: int) -> None:
    bases = sorted({own for own, _ in twin.entries})
    for base, following in zip(bases, [*bases[1:], end + 1], strict=False):
        for offset in range(base, following, max(1, (following - base) // 7)):
            assert index.floor(base, offset) == twin.floor(base, offset)
        for timestamp in (-1, 0, 3, 10, 100):
            assert index.floor_time(base, following, timestamp) == twin.floor_time(base, timestamp)
    last = twin.entries[-1][1].offset if twin.entries else -1
    assert not index.has_stored_from(last + 1)
