"""Assignments are complete, as even as the subscriptions allow, and move what must move and no more."""

from collections.abc import Iterable
from functools import cache
from itertools import product
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.coordinators.assignors import ASSIGNORS, Candidate, assign_range, assign_uniform
from quorumlog.coordinators.consumer_records import Partitions

T = [UUID(int=number) for number in range(1, 60)]
Targets = dict[str, Partitions]


def member(name: str, topics: Iterable[UUID], current: Partitions | None = None, instance_id: str | None = None) -> Candidate:
    return Candidate(name, instance_id, frozenset(topics), current or {})


def next_of(targets: Targets, topics: dict[str, Iterable[UUID]]) -> list[Candidate]:
    """The members with their subscriptions, after `targets`."""
    return [member(name, read, targets.get(name)) for name, read in topics.items()]


def flat(partitions: Partitions) -> set[tuple[UUID, int]]:
    return {(topic, index) for topic, indexes in partitions.items() for index in indexes}


def moved(before: Targets, after: Targets) -> int:
    """Partitions that have another owner than before; those that nobody had do not count."""
    had = set().union(*map(flat, before.values()))
    return sum(len((flat(partitions) - flat(before.get(name, {}))) & had) for name, partitions in after.items())


def loads(targets: Targets) -> list[int]:
    return sorted(len(flat(partitions)) for partitions in targets.values())


def check_complete(targets: Targets, candidates: list[Candidate], counts: dict[UUID, int]) -> None:
    """Each partition that anybody reads has one owner, who reads it."""
    readable = set().union(*(one.topics for one in candidates))
    every = [item for partitions in targets.values() for item in flat(partitions)]
    assert sorted(every) == sorted((topic, index) for topic in readable for index in range(counts[topic]))
    for one in candidates:
        assert targets[one.member_id].keys() <= one.topics


# --- all members read the same


@pytest.mark.parametrize("seed", range(20))
def test_equal_members_have_equal_loads_and_nothing_moves_that_need_not(seed: int) -> None:
    """Against arithmetic: who has more than his share gives up the surplus, and that is all."""
    chance = Random(seed)
    counts = {topic: chance.randint(1, 9) for topic in T[:4]}
    names: list[str] = []
    targets: Targets = {}
    for step in range(30):
        if names and chance.random() < 0.4:
            names.remove(chance.choice(names))
        else:
            names.append(f"m{step}")
        if chance.random() < 0.2:
            counts[chance.choice(T[:4])] += 3
        remaining = {name: targets[name] for name in names if name in targets}
        candidates = next_of(remaining, dict.fromkeys(names, T[:4]))
        targets = assign_uniform(candidates, counts)
        if not names:
            assert targets == {}
            continue
        check_complete(targets, candidates, counts)
        assert loads(targets)[-1] - loads(targets)[0] <= 1
        assert moved(remaining, targets) == least_moves(remaining, names, sum(counts.values()))


def least_moves(remaining: Targets, names: list[str], total: int) -> int:
    quota, extra = divmod(total, len(names))
    held = sorted((len(flat(remaining.get(name, {}))) for name in names), reverse=True)
    return sum(max(0, load - quota - (place < extra)) for place, load in enumerate(held))


def test_one_of_three_leaves_and_the_others_keep_what_they_have() -> None:
    names = ["a", "b", "c"]
    before = assign_uniform(next_of({}, dict.fromkeys(names, T[:1])), {T[0]: 24})
    after = assign_uniform(next_of(before, dict.fromkeys("ac", T[:1])), {T[0]: 24})
    assert loads(after) == [12, 12]
    for name in "ac":
        assert flat(before[name]) < flat(after[name])


# --- subscriptions differ


@cache
def best_loads(subscriptions: tuple[frozenset[UUID], ...], counts: tuple[tuple[UUID, int], ...]) -> list[int]:
    """By trying everything."""
    partitions = [topic for topic, count in counts for _ in range(count)]
    choices = [[index for index, read in enumerate(subscriptions) if topic in read] for topic in partitions]
    best: list[int] = []
    for owners in product(*(choice for choice in choices if choice)):
        found = sorted(owners.count(index) for index in range(len(subscriptions)))
        if not best or sum(load * load for load in found) < sum(load * load for load in best):
            best = found
    return best


SUBSCRIPTIONS = st.lists(st.frozensets(st.sampled_from(T[:3]), min_size=1), min_size=1, max_size=4)
COUNTS = st.fixed_dictionaries({topic: st.integers(1, 2) for topic in T[:3]})


@given(SUBSCRIPTIONS, SUBSCRIPTIONS, COUNTS)
def test_different_members_have_the_best_loads_there_are(
    first: list[frozenset[UUID]], second: list[frozenset[UUID]], counts: dict[UUID, int]
) -> None:
    """From nothing, and again after everybody changed his mind; and what is best already stays as it is."""
    targets: Targets = {}
    for subscriptions in (first, second):
        candidates = next_of(targets, {f"m{index}": read for index, read in enumerate(subscriptions)})
        targets = assign_uniform(candidates, counts)
        check_complete(targets, candidates, counts)
        assert loads(targets) == best_loads(tuple(subscriptions), tuple(sorted(counts.items())))
        again = next_of(targets, {f"m{index}": read for index, read in enumerate(subscriptions)})
        assert assign_uniform(again, counts) == targets


def test_a_member_that_comes_is_given_by_its_neighbours() -> None:
    """Fifty topics in a ring, each member reads two of them: those who share no topic with the new one are left in peace."""
    ring = {f"m{index:03}": (T[index % 50], T[(index + 1) % 50]) for index in range(500)}
    counts = dict.fromkeys(T[:50], 100)
    before = assign_uniform(next_of({}, ring), counts)
    after = assign_uniform(next_of(before, ring | {"new": (T[0], T[1])}), counts)
    assert loads(before) == [10] * 500
    assert moved(before, after) == len(flat(after["new"])) == 9
    assert {name for name in before if before[name] != after[name]} <= {name for name in ring if {T[0], T[1]} & {*ring[name]}}


def test_it_is_handed_on_by_way_of_others_where_no_neighbour_has_too_much() -> None:
    counts = {T[0]: 6, T[1]: 6}
    current = {"a": {T[0]: (0, 1, 2, 3, 4)}, "b": {T[0]: (5,), T[1]: (0, 1, 2)}, "c": {T[1]: (3, 4, 5)}}
    after = assign_uniform(next_of(current, {"a": T[:1], "b": T[:2], "c": T[1:2]}), counts)
    assert loads(after) == [4, 4, 4]
    assert moved(current, after) == 2


def test_an_assignment_does_not_depend_on_the_order_in_which_members_are_given() -> None:
    topics = {f"m{index}": T[index % 3 : index % 3 + 2] for index in range(9)}
    counts = dict.fromkeys(T[:4], 7)
    candidates = next_of({}, topics)
    for name, assign in ASSIGNORS.items():
        expected = assign(candidates, counts)
        assert assign(candidates[::-1], counts) == expected, name


def test_a_thousand_members_that_share_five_thousand_partitions_unevenly_are_levelled_within_the_bound() -> None:
    chance = Random(5)
    subscriptions = {f"m{index:04}": chance.sample(T[:50], chance.randint(1, 50)) for index in range(1_000)}
    counts = dict.fromkeys(T[:50], 100)
    before = assign_uniform(next_of({}, subscriptions), counts)
    assert loads(before)[0] == loads(before)[-1] == 5
    one_less = {name: read for name, read in subscriptions.items() if name != "m0500"}
    after = assign_uniform(next_of(before, one_less), counts)
    assert loads(after)[-1] == 6
    assert moved({name: before[name] for name in one_less}, after) <= 5


# --- ranges


def test_range_gives_neighbours_and_the_first_members_one_more() -> None:
    targets = assign_range([member("b", T[:2]), member("a", T[:2]), member("c", T[:1])], {T[0]: 7, T[1]: 3})
    assert targets == {
        "a": {T[0]: (0, 1, 2), T[1]: (0, 1)},
        "b": {T[0]: (3, 4), T[1]: (2,)},
        "c": {T[0]: (5, 6)},
    }


def test_range_has_static_members_first_by_their_instances() -> None:
    candidates = [member("z", T[:1], instance_id="1"), member("a", T[:1]), member("y", T[:1], instance_id="2")]
    assert assign_range(candidates, {T[0]: 3}) == {"z": {T[0]: (0,)}, "y": {T[0]: (1,)}, "a": {T[0]: (2,)}}


def test_range_leaves_members_without_where_there_are_too_few_partitions() -> None:
    targets = assign_range([member(name, T[:1]) for name in "abc"], {T[0]: 2})
    assert targets == {"a": {T[0]: (0,)}, "b": {T[0]: (1,)}, "c": {}}


# --- what there is no more


@pytest.mark.parametrize("name", ASSIGNORS)
def test_partitions_that_are_gone_and_topics_that_are_not_read_any_more_are_let_go(name: str) -> None:
    current = {T[0]: (0, 1, 5), T[1]: (0,)}
    assert ASSIGNORS[name]([member("a", T[:1], current)], {T[0]: 2}) == {"a": {T[0]: (0, 1)}}


@pytest.mark.parametrize("name", ASSIGNORS)
def test_nobody_is_given_nothing(name: str) -> None:
    assert ASSIGNORS[name]([], {}) == {}
    assert ASSIGNORS[name]([member("a", ())], {}) == {"a": {}}
