"""The map of keys against a dictionary."""

import hypothesis.strategies as st
from hypothesis import given

from quorumlog.partitions.offset_map import ENTRY_BYTES, OffsetMap


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 2**62))), st.integers(1, 60))
def test_map_is_a_dictionary_until_it_is_full(puts: list[tuple[bytes, int]], entries: int) -> None:
    """A key that is known finds room always; a new one as long as there is some."""
    offsets = OffsetMap(bytes_max=entries * ENTRY_BYTES, load_max=0.9)
    twin: dict[bytes, int] = {}
    for key, offset in puts:
        if offsets.put(key, offset):
            twin[key] = offset
        else:
            assert key not in twin
            assert len(twin) >= int(0.9 * entries) - 1
        assert len(offsets) == len(twin) <= max(2, entries + 3)
    assert all(offsets.get(key) == twin.get(key, -1) for key, _ in puts)


def test_map_grows_only_as_far_as_it_may() -> None:
    """A hundred thousand keys, of which the first so many fit."""
    offsets = OffsetMap(bytes_max=50_000 * ENTRY_BYTES, load_max=0.9)
    taken = sum(offsets.put(b"%d" % i, i) for i in range(100_000))
    assert 44_000 <= taken <= 45_100
    assert all(offsets.get(b"%d" % i) == i for i in range(taken))
    assert not offsets.put(b"another", 1)
    assert 0.99 <= offsets.utilization <= 1.01
    offsets.widen()
    assert offsets.put(b"another", 1)
