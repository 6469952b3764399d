"""Where each key was seen last: a table of fixed size, whatever the keys are.

An entry is 24 bytes: 16 of the key's hash (BLAKE2, so that nobody can send two keys that share one), 8 of an offset. The table
grows by itself up to its bound; then it is full, and a compaction goes on with what it has: later passes do the rest.
"""

import struct
from array import array
from hashlib import blake2b

ENTRY_BYTES = 24
HASH_BYTES = 16
SLOTS_FIRST = 1 << 12
GROWTH = 8  # so much that the table before, which lives until all is moved, hardly counts
_HALVES = struct.Struct(">QQ")


class OffsetMap:
    """Owned by one compaction. Open addressing with double hashing; an empty slot has offset 0, so offsets are kept plus 1."""

    def __init__(self, *, bytes_max: int, load_max: float) -> None:
        self._load_max = load_max
        self._slots_max = max(2, bytes_max // ENTRY_BYTES)
        self._count = 0
        self._make(min(SLOTS_FIRST, self._slots_max))

    def __len__(self) -> int:
        return self._count

    @property
    def utilization(self) -> float:
        """How much of what it may hold it holds."""
        return self._count / (self._slots_max * self._load_max)

    def put(self, key: bytes, offset: int) -> bool:
        """Note that the key was seen there. False if the key is new and there is no room."""
        first, second = _HALVES.unpack(blake2b(key, digest_size=HASH_BYTES).digest())
        slot = self._find(first, second)
        if not self._offsets[slot]:
            if self._count >= self._count_max:
                if self._slots >= self._slots_max:
                    return False
                self._grow()
                slot = self._find(first, second)
            self._firsts[slot], self._seconds[slot] = first, second
            self._count += 1
        self._offsets[slot] = offset + 1
        return True

    def get(self, key: bytes) -> int:
        """Where it was seen last; -1 if nowhere."""
        first, second = _HALVES.unpack(blake2b(key, digest_size=HASH_BYTES).digest())
        return self._offsets[self._find(first, second)] - 1

    def widen(self) -> None:
        """Take more than was allowed, for one batch that would not fit otherwise: without it nothing would ever go on."""
        self._slots_max *= 2

    def _find(self, first: int, second: int) -> int:
        """The slot of this key, or the empty one where it would be."""
        firsts, seconds, offsets, slots = self._firsts, self._seconds, self._offsets, self._slots
        slot = first % slots
        if not offsets[slot] or (firsts[slot] == first and seconds[slot] == second):
            return slot
        step = 1 + second % (slots - 1)
        while True:
            slot = (slot + step) % slots
            if not offsets[slot] or (firsts[slot] == first and seconds[slot] == second):
                return slot

    def _make(self, slots: int) -> None:
        self._slots = _prime_from(slots)  # any step then visits every slot
        self._count_max = max(1, min(self._slots - 1, int(self._slots * self._load_max)))
        self._firsts, self._seconds, self._offsets = (array("Q", bytes(8)) * self._slots for _ in range(3))

    def _grow(self) -> None:
        firsts, seconds, offsets = self._firsts, self._seconds, self._offsets
        self._make(min(self._slots * GROWTH, self._slots_max))
        for first, second, offset in zip(firsts, seconds, offsets, strict=True):
            if offset:
                slot = self._find(first, second)
                self._firsts[slot], self._seconds[slot], self._offsets[slot] = first, second, offset


def _prime_from(number: int) -> int:
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number
