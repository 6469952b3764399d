"""Who shall have which partition of a consumer group: the two assignors of Kafka's coordinator, by name.

    uniform   as even as the subscriptions allow, and of all such assignments one that moves few partitions
    range     of each topic a range of neighbours for each of its members, so that equal partitions of many topics meet

Pure functions of what they are given, whatever the order: the next coordinator would decide the same.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice
from uuid import UUID

from .consumer_records import Partitions

STEPS_MAX = 5_000_000
"""How many subscribers the search for a better balance looks at: about half a second. A group that needs more stays less even."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that can be given partitions of `topics`, which all exist. It was to have `current` so far."""

    member_id: str
    instance_id: str | None
    topics: frozenset[UUID]
    current: Partitions


Counts = Mapping[UUID, int]
"""How many partitions each topic has, of those that anybody reads at least."""

Assignor = Callable[[Sequence[Candidate], Counts], dict[str, Partitions]]


def assign_range(candidates: Sequence[Candidate], counts: Counts) -> dict[str, Partitions]:
    """Static members come first, by their instance ids, so that a restart leaves everybody where he was."""
    ordered = sorted(candidates, key=lambda one: (one.instance_id is None, one.instance_id or one.member_id))
    assigned: dict[str, Partitions] = {one.member_id: {} for one in ordered}
    for topic, names in sorted(_subscribers(ordered).items()):
        quota, extra = divmod(counts[topic], len(names))
        start = 0
        for position, name in enumerate(ordered[index].member_id for index in names):
            end = start + quota + (position < extra)
            if end > start:
                assigned[name][topic] = tuple(range(start, end))
            start = end
    return assigned


def assign_uniform(candidates: Sequence[Candidate], counts: Counts) -> dict[str, Partitions]:
    """Who keeps what he has takes no part in a rebalance: his partitions are read on without a pause."""
    ordered = sorted(candidates, key=lambda one: one.member_id)
    if not ordered:
        return {}
    draft = _Draft(ordered, counts)
    if all(one.topics == ordered[0].topics for one in ordered):
        draft.level_equals()
    else:
        draft.hand_out()
        draft.level()
    return draft.result()


ASSIGNORS: dict[str, Assignor] = {"uniform": assign_uniform, "range": assign_range}


def _subscribers(ordered: Sequence[Candidate]) -> dict[UUID, list[int]]:
    """The members that read each topic, by their places in order."""
    subscribers: dict[UUID, list[int]] = {}
    for index, one in enumerate(ordered):
        for topic in one.topics:
            subscribers.setdefault(topic, []).append(index)
    return subscribers


@dataclass(slots=True)
class _Draft:
    """An assignment in the making. Members are their places in order; what each holds came first first, so that what it got
    last, of which it knows nothing yet, is what it gives away first."""

    ordered: Sequence[Candidate]
    counts: Counts
    holdings: list[dict[UUID, list[int]]] = field(init=False)
    loads: list[int] = field(init=False)
    free: dict[UUID, list[int]] = field(init=False)
    rank: dict[UUID, int] = field(init=False)  # of the topics in order: to compare ids themselves takes ten times as long
    holders: dict[UUID, dict[int, None]] = field(init=False)  # who holds any of a topic
    changed: set[int] = field(init=False)  # members that hold anything else than they had

    def __post_init__(self) -> None:
        """Everybody keeps what he had and may have still."""
        topics = sorted(frozenset[UUID]().union(*(one.topics for one in self.ordered)))
        taken = {topic: bytearray(self.counts[topic]) for topic in topics}
        self.rank = {topic: place for place, topic in enumerate(topics)}
        self.holdings = [_kept(one, taken) for one in self.ordered]
        self.loads = [sum(map(len, held.values())) for held in self.holdings]
        self.free = {topic: [index for index, flag in enumerate(flags) if not flag] for topic, flags in taken.items()}
        self.holders = {topic: {} for topic in topics}
        self.changed = set()
        for member, held in enumerate(self.holdings):
            for topic in held:
                self.holders[topic][member] = None
            if self.loads[member] != sum(map(len, self.ordered[member].current.values())):
                self.changed.add(member)

    def result(self) -> dict[str, Partitions]:
        return {
            one.member_id: self._held(member) if member in self.changed else one.current
            for member, one in enumerate(self.ordered)
        }

    def _held(self, member: int) -> Partitions:
        held = self.holdings[member]
        return {topic: tuple(sorted(held[topic])) for topic in sorted(held, key=self.rank.__getitem__)}

    # --- everybody reads the same

    def level_equals(self) -> None:
        """Those who have more than an even share keep the one more that some must have."""
        quota, extra = divmod(sum(self.counts[topic] for topic in self.ordered[0].topics), len(self.ordered))
        richest_first = sorted(range(len(self.ordered)), key=lambda member: (self.loads[member] <= quota, member))
        limits = [quota] * len(self.ordered)
        for member in richest_first[:extra]:
            limits[member] += 1
        for member, limit in enumerate(limits):
            for _ in range(self.loads[member] - limit):
                topic = next(reversed(self.holdings[member]))
                self.free[topic].append(self._give_up(member, topic))
        self._fill(limits)

    def _fill(self, limits: list[int]) -> None:
        rest = iter([(topic, index) for topic in self.free for index in sorted(self.free[topic])])
        for member, limit in enumerate(limits):
            for topic, index in islice(rest, limit - self.loads[member]):
                self._take(member, topic, index)

    # --- subscriptions differ

    def hand_out(self) -> None:
        """What is free goes to the least burdened who reads it; topics that have the fewest readers for their size go first."""
        subscribers = _subscribers(self.ordered)
        for topic in sorted(subscribers, key=lambda topic: (-self.counts[topic] / len(subscribers[topic]), self.rank[topic])):
            heap = [(self.loads[member], member) for member in subscribers[topic]]
            heapify(heap)
            for index in self.free[topic]:
                load, member = heap[0]
                self._take(member, topic, index)
                heapreplace(heap, (load + 1, member))

    def level(self) -> None:
        """The member with least is given one by the one with most that can reach it, by way of others if need be, until that
        helps nobody: the loads are then as even as they can be (no improving path is left).

        Who can reach the poorest, when that can improve nothing, is done with: nobody else can be reached by them. The search
        starts from the poorest, the one who has just come: so its neighbours give, and not the richest at the other end.
        """
        readable = [sorted(one.topics, key=self.rank.__getitem__) for one in self.ordered]
        heap = [(load, member) for member, load in enumerate(self.loads)]
        heapify(heap)
        sizes = Counter(self.loads)
        most = max(sizes)
        done: set[int] = set()
        steps = 0
        while heap and steps < STEPS_MAX:
            load, poorest = heappop(heap)
            if poorest in done or load != self.loads[poorest]:
                continue
            gives_to, looked_at = self._givers(poorest, readable, done, most)
            steps += looked_at
            richest = max(gives_to, key=self.loads.__getitem__)  # the nearest of them, for they are in that order
            if self.loads[richest] < load + 2:
                done.update(gives_to)
                continue
            sizes.subtract((load, self.loads[richest]))
            self._hand_on(richest, gives_to)
            sizes.update((load + 1, self.loads[richest]))
            while not sizes[most]:
                most -= 1
            heappush(heap, (self.loads[poorest], poorest))
            heappush(heap, (self.loads[richest], richest))

    def _givers(
        self, poorest: int, readable: list[list[UUID]], done: set[int], most: int
    ) -> tuple[dict[int, tuple[int, UUID] | None], int]:
        """Who can give something to it, directly or by way of others: to whom, and of which topic. The nearest come first; the
        search ends at one who has the most of all."""
        gives_to: dict[int, tuple[int, UUID] | None] = {poorest: None}
        topics: set[UUID] = set()
        queue = [poorest]
        looked_at = 0
        for receiver in queue:
            for topic in readable[receiver]:
                if topic not in topics:
                    topics.add(topic)
                    for giver in self.holders[topic]:
                        looked_at += 1
                        if giver not in gives_to and giver not in done:
                            gives_to[giver] = (receiver, topic)
                            if self.loads[giver] == most:
                                return gives_to, looked_at
                            queue.append(giver)
            looked_at += len(readable[receiver])
        return gives_to, looked_at

    def _hand_on(self, giver: int, gives_to: dict[int, tuple[int, UUID] | None]) -> None:
        while (step := gives_to[giver]) is not None:
            receiver, topic = step
            self._take(receiver, topic, self._give_up(giver, topic))
            giver = receiver

    # --- one partition

    def _give_up(self, member: int, topic: UUID) -> int:
        held = self.holdings[member][topic]
        index = held.pop()
        if not held:
            del self.holdings[member][topic], self.holders[topic][member]
        self.loads[member] -= 1
        self.changed.add(member)
        return index

    def _take(self, member: int, topic: UUID, index: int) -> None:
        self.holdings[member].setdefault(topic, []).append(index)
        self.holders[topic][member] = None
        self.loads[member] += 1
        self.changed.add(member)


def _kept(one: Candidate, taken: dict[UUID, bytearray]) -> dict[UUID, list[int]]:
    """What it had of topics that it still reads and of partitions that there still are, none of which anybody else has."""
    kept: dict[UUID, list[int]] = {}
    for topic, indexes in one.current.items():
        if topic in one.topics:
            flags = taken[topic]
            own = [index for index in indexes if index < len(flags) and not flags[index]]
            for index in own:
                flags[index] = 1
            if own:
                kept[topic] = own
    return kept
