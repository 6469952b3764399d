"""What the members of one consumer group were given, read and committed, judged as they go on, as the simulator judges its own.

A member owns a partition from the callback that assigns it until the one that takes it away. An accepted commit shows that it
still owned, when it sent it, all that it had. So two members own a partition at once if both have commits accepted after the
second one was assigned it. (Generations are no client's to tell.) Every commit carries a token, by which it is known again.

A commit that was answered late may have been sent twice: to a coordinator that was cut off, in whose connection it still is, and
to the next one. When the network heals the first copy arrives, perhaps at a node that coordinates the group again, and sets it
back: OffsetCommit has no sequence that would tell. So such a commit may be there again at any later time.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from quorumlog.checker.history import Operation, Outcome, Send
from tests.sim.invariants.groups import EVERYBODY, GroupBook, Key
from tests.sim.invariants.sight import Violation

COMPLAINTS_MAX = 20
RESENT_AFTER_S = 1.5  # of its answer; one that nothing held up takes milliseconds
LONG_AGO = -1.0  # nobody knows when a member asked for what it was assigned


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """`assigned`: how often a partition was given to somebody; `commits`: requests that were accepted."""

    assigned: int
    processed: int
    commits: int


class GroupWatch:
    """Shared by the members of a group; any thread may use it."""

    def __init__(self, name: str, topic: str, partitions: int, now: Callable[[], float]) -> None:
        self.name = name
        self.keys: list[Key] = [(topic, number) for number in range(partitions)]
        self.complaints: list[str] = []
        self.now = now
        self._book = GroupBook(name)
        self._lock = threading.RLock()
        self._assigned = 0
        self._commits = 0
        self._acknowledged: dict[Key, int] = {}  # the greatest commit that was accepted
        self._resent: dict[Key, dict[str, int]] = {}  # tokens and offsets of commits that may come again
        self._begins_from: dict[tuple[str, Key], int] = {}  # what a member was assigned and has not read of yet: at least here
        self._places: dict[tuple[str, Key], int] = {}  # what a member reads next
        self._names: set[str] = set()

    @property
    def counts(self) -> GroupCounts:
        return GroupCounts(self._assigned, len(self._names), self._commits)

    # --- owning

    def told(self, member: str, keys: Iterable[Key]) -> None:
        """It is assigned these too, and asks next where the group has been in them."""
        with self._lock:
            for key in keys:
                self._assigned += 1
                self._begins_from[member, key] = self._acknowledged.get(key, 0)
                self._places.pop((member, key), None)
                self._judge(
                    lambda key=key: self._book.on_told(member, [key], node_id=EVERYBODY, asked_at=LONG_AGO, now=self.now())
                )

    def given_up(self, member: str, keys: Iterable[Key] | None = None) -> None:
        """None: it has nothing any more."""
        with self._lock:
            self._book.on_given_up(member, keys)

    # --- reading

    def processed(self, member: str, key: Key, records: Iterable[tuple[int, str]]) -> None:
        """Offsets and names, in the order in which they came."""
        with self._lock:
            for offset, name in records:
                self._check_place(member, key, offset)
                self._places[member, key] = offset + 1
                self._names.add(name)
                self._book.on_processed(key, [offset])

    def _check_place(self, member: str, key: Key, offset: int) -> None:
        place = self._places.get((member, key))
        least = self._begins_from.pop((member, key), 0)
        if place is not None and offset != place:
            self._complain(f"{member} reads offset {offset} of {_named(key)} where {place} comes next")
        elif place is None and offset < least and offset not in self._resent.get(key, {}).values():
            self._complain(f"{member} begins at offset {offset} of {_named(key)}, of which {least} was committed before")
        elif place is None and offset > self._book.processed_to.get(key, 0):
            done = self._book.processed_to.get(key, 0)
            self._complain(f"{member} begins at offset {offset} of {_named(key)}, of which all was processed below {done} only")

    # --- committing

    def committing(self, token: str, offsets: Mapping[Key, int]) -> float:
        """It is about to be sent; when that is."""
        with self._lock:
            now = self.now()
            for key, offset in offsets.items():
                self._judge(lambda key=key, offset=offset: self._book.on_commit(key, token, offset, is_of_member=True, now=now))
            return now

    def committed(self, member: str, token: str, offsets: Mapping[Key, int], asked_at: float) -> None:
        with self._lock:
            self._commits += 1
            is_resent = self.now() - asked_at > RESENT_AFTER_S
            for key, offset in offsets.items():
                if is_resent:
                    self._resent.setdefault(key, {})[token] = offset
                self._book.on_committed(key, token, generation=-1, asked_at=asked_at, now=self.now())
                self._acknowledged[key] = max(self._acknowledged.get(key, 0), offset)
            self._judge(lambda: self._book.on_shown(member, node_id=EVERYBODY, asked_at=asked_at))

    def told_committed(self, key: Key, token: str, offset: int, asked_at: float) -> None:
        """What the coordinator says when it is asked; an empty token and -1 for nothing."""
        with self._lock:
            if token in self._resent.get(key, {}):
                return
            self._judge(lambda: self._book.on_fetched(key, token, offset, asked_at=asked_at, now=self.now()))

    # --- the end

    def missing(self, ends: Mapping[Key, int]) -> str | None:
        """What is not processed, or not committed."""
        with self._lock:
            for key, end in ends.items():
                if (done := self._book.processed_to.get(key, 0)) < end:
                    return f"{_named(key)} is processed to offset {done} of {end}"
                if (committed := self._acknowledged.get(key, 0)) < end:
                    return f"{_named(key)} is committed to offset {committed} of {end}"
        return None

    def finish(self) -> list[str]:
        """All complaints."""
        with self._lock:
            self._judge(self._book.finish)
            return [f"group {self.name}: {complaint}" for complaint in self.complaints]

    def unprocessed(self, operations: Iterable[Operation]) -> list[str]:
        """Acknowledged records of the history that no member has seen."""
        keys = {_named(key) for key in self.keys}
        missed = [
            f"{step.value} of {step.key}"
            for operation in operations
            if operation.outcome is Outcome.OK
            for step in operation.steps
            if isinstance(step, Send) and step.key in keys and step.value not in self._names
        ]
        return [f"group {self.name}: {len(missed)} acknowledged records were never processed: {missed[:3]}"] if missed else []

    def _judge(self, judged: Callable[[], object]) -> None:
        try:
            judged()
        except Violation as violation:
            self._complain(str(violation))

    def _complain(self, complaint: str) -> None:
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(complaint)


def _named(key: Key) -> str:
    return f"{key[0]}-{key[1]}"
