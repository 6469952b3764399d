"""Which events a partition has seen within its window, by the hash of each event's id, and at which offset.

    oldest [ generation | generation | ... | generation ] newest        each id is in the newest that learned it
           ^ floor: what is below has left the window

Ids are kept in generations, each an eighth of the window or of the room, so that forgetting costs nothing an id: what has left
the window goes a generation at a time. In between the floor tells: *marks* say when the records behind an offset were learned, to
a sixty-fourth of the window. Time never falls here, whatever the clock does; so an id stays for the window at least, and a
sixty-fourth longer at most. Only where there is no more room is it forgotten early, and that is counted.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import takewhile

ID_BYTES = 16  # of the hash: two events of one hash would be one event, so it must not happen
GENERATIONS = 8
MARKS = 64

Pair = tuple[bytes, int]
"""The hash of an id, and the offset of the record that has it."""


def hashed(event_id: bytes) -> bytes:
    return blake2b(event_id, digest_size=ID_BYTES).digest()


@dataclass(slots=True)
class Mark:
    """Records from this offset to the next mark were learned between these times."""

    first_offset: int
    begun_ms: int
    last_ms: int


@dataclass(slots=True)
class _Generation:
    begun_ms: int
    last_offset: int
    ids: dict[bytes, int]  # in the order of their offsets


class EventIds:
    """Owned by what saves it (`Dedup`). Offsets that are learned rise."""

    def __init__(self, *, window_ms: int, ids_max: int) -> None:
        self._window_ms = window_ms
        self._ids_max = ids_max
        self._generations: deque[_Generation] = deque()  # oldest first, none of them empty
        self._marks: deque[Mark] = deque()
        self.now_ms = 0  # the latest that was heard
        self._end = 0  # behind the last record that was learned
        self.floor = 0  # nothing is known of what is below
        self.forgotten_early = 0

    def __len__(self) -> int:
        return sum(len(generation.ids) for generation in self._generations)

    def resize(self, *, window_ms: int, ids_max: int) -> None:
        """What is known stays, as far as it fits."""
        self._window_ms, self._ids_max = window_ms, ids_max
        self.expire(self.now_ms)
        self._make_room()

    def known(self, ids: Sequence[bytes], wall_ms: int) -> dict[bytes, int]:
        """The offsets of those that were seen within the window."""
        self.expire(wall_ms)
        found: dict[bytes, int] = {}
        for generation in self._generations:
            held = generation.ids
            found.update([(one, held[one]) for one in ids if one in held])
        if self._generations and min(found.values(), default=self.floor) < self.floor:
            return {one: offset for one, offset in found.items() if offset >= self.floor}
        return found

    def learn(self, pairs: Sequence[Pair], wall_ms: int) -> None:
        """These records are in the log now."""
        assert pairs[0][1] >= self._end, (pairs[0], self._end)
        self.expire(wall_ms)
        newest = self._marks[-1] if self._marks else None
        if newest is None or self.now_ms - newest.begun_ms >= max(1, self._window_ms // MARKS):
            self._marks.append(Mark(pairs[0][1], self.now_ms, self.now_ms))
        else:
            newest.last_ms = self.now_ms
        self._add(pairs, self.now_ms)

    def forget_from(self, offset: int) -> None:
        """The log was cut there: a record that came again would be taken for one that is gone."""
        generations, marks = self._generations, self._marks
        while generations and generations[-1].last_offset >= offset:
            ids = generations[-1].ids
            while ids:
                one, at = ids.popitem()
                if at < offset:
                    ids[one] = generations[-1].last_offset = at
                    break
            else:
                generations.pop()
        while marks and marks[-1].first_offset >= offset:
            marks.pop()
        self._end = min(self._end, offset)
        self.floor = min(self.floor, offset)

    def expire(self, wall_ms: int) -> None:
        """Forget what has left the window."""
        self.now_ms = max(self.now_ms, wall_ms)
        marks, oldest_ms = self._marks, self.now_ms - self._window_ms
        while marks and marks[0].last_ms < oldest_ms:
            marks.popleft()
            self._raise_floor(marks[0].first_offset if marks else self._end)

    # --- to be saved, and back

    def since(self, offset: int) -> tuple[list[Mark], list[Pair]]:
        """What is known of the records from there on: when they were learned, and their ids."""
        offset = max(offset, self.floor)
        pairs: list[Pair] = []
        for generation in reversed(self._generations):
            pairs += takewhile(lambda pair: pair[1] >= offset, reversed(generation.ids.items()))
            if generation.last_offset < offset:
                break
        pairs.reverse()
        marks: list[Mark] = []
        for mark in reversed(self._marks):
            marks.append(replace(mark))
            if mark.first_offset <= offset:
                break
        marks.reverse()
        return marks, pairs

    def restore(self, marks: Sequence[Mark], pairs: Sequence[Pair]) -> None:
        """Take back what `since` gave; several such in their order."""
        while self._marks and self._marks[-1].first_offset >= marks[0].first_offset:
            self._marks.pop()  # the same, as it was before more was learned
        self._marks.extend(marks)
        self.now_ms = max(self.now_ms, marks[-1].last_ms)
        start = 0
        for mark, following in zip(marks, (*marks[1:], None), strict=True):
            end = len(pairs) if following is None else bisect_left(pairs, following.first_offset, start, key=_offset_of)
            if end > start:
                self._add(pairs[start:end], mark.begun_ms)
            start = end

    # --- inside

    def _add(self, pairs: Sequence[Pair], now_ms: int) -> None:
        room, lasts_ms = max(1, self._ids_max // GENERATIONS), self._window_ms // GENERATIONS
        for start in range(0, len(pairs), room):
            piece = pairs[start : start + room]
            newest = self._generations[-1] if self._generations else None
            if newest is None or now_ms - newest.begun_ms > lasts_ms or len(newest.ids) + len(piece) > room:
                newest = _Generation(now_ms, piece[-1][1], {})
                self._generations.append(newest)
            for one, _ in piece:  # or it would keep its old place among the others
                newest.ids.pop(one, None)
            newest.ids.update(piece)
            newest.last_offset = piece[-1][1]
        self._end = pairs[-1][1] + 1
        self._make_room()

    def _make_room(self) -> None:
        while len(self) > self._ids_max:
            oldest = self._generations[0]
            self.forgotten_early += len(oldest.ids)
            self._raise_floor(oldest.last_offset + 1)
            while len(self._marks) > 1 and self._marks[1].first_offset <= self.floor:
                self._marks.popleft()

    def _raise_floor(self, offset: int) -> None:
        self.floor = max(self.floor, offset)
        while self._generations and self._generations[0].last_offset < self.floor:
            self._generations.popleft()


def _offset_of(pair: Pair) -> int:
    return pair[1]
