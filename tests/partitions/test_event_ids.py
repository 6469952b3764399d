"""What is remembered of event ids, against a list of all that was ever learned."""

from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
from hypothesis import given, settings

from quorumlog.partitions.event_ids import MARKS, EventIds, Mark, Pair, hashed

HOUR_MS = 3_600_000
POOL = [hashed(b"%d" % number) for number in range(12)]


def test_an_id_is_known_for_the_window_and_no_longer() -> None:
    """Exact to a sixty-fourth, never shorter; the offset is that of the newest record that has it."""
    ids = EventIds(window_ms=HOUR_MS, ids_max=100)
    ids.learn([(POOL[0], 10), (POOL[1], 11)], 1000)
    assert ids.known(POOL[:3], 1000 + HOUR_MS) == {POOL[0]: 10, POOL[1]: 11}
    assert ids.known(POOL[:3], 1001 + HOUR_MS) == {}
    assert len(ids) == 0
    ids.learn([(POOL[0], 12)], 2000 + HOUR_MS)
    assert ids.known(POOL[:2], 2000 + 2 * HOUR_MS) == {POOL[0]: 12}


def test_a_clock_that_goes_back_makes_ids_live_longer() -> None:
    """Not shorter: time stands still until the clock has caught up."""
    ids = EventIds(window_ms=1000, ids_max=100)
    ids.learn([(POOL[0], 0)], 50_000)
    ids.learn([(POOL[1], 1)], 10_000)
    assert ids.known(POOL[:2], 11_500) == {POOL[0]: 0, POOL[1]: 1}
    assert ids.known(POOL[:2], 51_000) == {POOL[0]: 0, POOL[1]: 1}
    assert ids.known(POOL[:2], 51_100) == {}


def test_where_there_is_no_room_the_oldest_go_early_and_are_counted() -> None:
    """An eighth at a time; of what was learned last seven eighths are there always."""
    ids = EventIds(window_ms=HOUR_MS, ids_max=80)
    every = [hashed(b"n%d" % number) for number in range(1000)]
    for offset, one in enumerate(every):
        ids.learn([(one, offset)], 1000)
        assert len(ids) <= 80
        newest = every[max(0, offset - 69) : offset + 1]
        assert len(ids.known(newest, 1000)) == len(newest)
    assert ids.forgotten_early == 1000 - len(ids)
    assert ids.known(every, 1000) == {one: offset for offset, one in enumerate(every) if offset >= ids.floor}


def test_one_batch_may_have_more_ids_than_there_is_room() -> None:
    ids = EventIds(window_ms=HOUR_MS, ids_max=20)
    every = [(hashed(b"n%d" % number), number) for number in range(500)]
    ids.learn(every, 1000)
    assert 14 <= len(ids) <= 20
    assert ids.known([one for one, _ in every[-14:]], 1000) == dict(every[-14:])


def test_a_smaller_room_and_a_shorter_window_hold_at_once() -> None:
    """A longer one holds for what is still known."""
    ids = EventIds(window_ms=1000, ids_max=100)
    for offset, one in enumerate(POOL):
        ids.learn([(one, offset)], 100 * offset)
    ids.resize(window_ms=500, ids_max=100)
    assert ids.known(POOL, 1100) == {one: offset for offset, one in enumerate(POOL) if offset >= 6}
    ids.resize(window_ms=5000, ids_max=100)
    assert ids.known(POOL, 5500) == {one: offset for offset, one in enumerate(POOL) if offset >= 6}
    ids.resize(window_ms=5000, ids_max=2)
    assert len(ids) <= 2


@dataclass
class Learned:
    """The simple twin: all that was learned and not cut off."""

    window_ms: int
    ids: EventIds
    seen: list[tuple[bytes, int, int]] = field(default_factory=list)  # (id, when, offset)
    chunks: list[tuple[int, list[Mark], list[Pair]]] = field(default_factory=list)
    saved_to: int = 0
    end: int = 0
    wall_ms: int = 10_000
    now_ms: int = 10_000

    def __post_init__(self) -> None:
        self.ids.expire(self.now_ms)

    def tick(self, ms: int) -> None:
        self.wall_ms += ms
        self.now_ms = max(self.now_ms, self.wall_ms)
        self.ids.expire(self.wall_ms)

    def learn(self, numbers: list[int]) -> None:
        known = self.ids.known([POOL[number] for number in numbers], self.wall_ms)
        fresh = [POOL[number] for number in dict.fromkeys(numbers) if POOL[number] not in known]
        pairs = [(one, self.end + place) for place, one in enumerate(fresh)]
        if pairs:
            self.ids.learn(pairs, self.wall_ms)
        self.seen += [(one, self.now_ms, offset) for one, offset in pairs]
        self.end += len(pairs) + 1

    def cut(self, back: int) -> None:
        """At the beginning of a batch."""
        starts = sorted({0, self.end, *(offset for _, _, offset in self.seen)})
        at = starts[max(0, len(starts) - 1 - back)]
        self.ids.forget_from(at)
        self.seen = [one for one in self.seen if one[2] < at]
        self.chunks = [chunk for chunk in self.chunks if chunk[0] <= at]
        self.saved_to = min(self.saved_to, self.chunks[-1][0] if self.chunks else 0)
        self.end = at

    def save(self) -> None:
        marks, pairs = self.ids.since(self.saved_to)
        if pairs:
            self.chunks.append((self.end, [replace(mark) for mark in marks], list(pairs)))
        self.saved_to = self.end

    def reopen(self) -> None:
        """What was learned and not saved is read again, now."""
        self.ids = EventIds(window_ms=self.window_ms, ids_max=1000)
        for _, marks, pairs in self.chunks:
            self.ids.restore([replace(mark) for mark in marks], pairs)
        self.now_ms = max([self.wall_ms, *(marks[-1].last_ms for _, marks, _ in self.chunks)])
        self.seen = [(one, when if at < self.saved_to else self.now_ms, at) for one, when, at in self.seen]
        for one, _, offset in self.seen:
            if offset >= self.saved_to:
                self.ids.learn([(one, offset)], self.now_ms)

    def check(self) -> None:
        found = self.ids.known(POOL, self.wall_ms)
        grain = max(1, self.window_ms // MARKS)
        for one in POOL:
            seen = [(when, offset) for two, when, offset in self.seen if two == one]
            if seen and self.now_ms - seen[-1][0] <= self.window_ms:
                assert found[one] == seen[-1][1]
            if not seen or self.now_ms - seen[-1][0] > self.window_ms + grain:
                assert one not in found, (found[one], seen, self.now_ms)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=4)),
        st.tuples(st.just("tick"), st.sampled_from([1, 3, 10, 60, 200, 700, -5, -400])),
        st.tuples(st.just("cut"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["save", "reopen"]), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([5, 100, 640]))
def test_it_knows_what_was_seen_within_the_window_whatever_happens(steps: list[tuple[str, object]], window_ms: int) -> None:
    """The log is cut, clocks step, what was saved is taken back."""
    twin = Learned(window_ms, EventIds(window_ms=window_ms, ids_max=1000))
    for action, detail in steps:
        getattr(twin, action)(*([] if detail is None else [detail]))
        twin.check()
