"""What members of consumer groups were told, judged as they hear it: no partition has two owners, nothing goes back, nothing
committed is forgotten, nothing is skipped.

A member *owns* a partition from the moment it is told so until it says that it has given it up. It cannot know when it was thrown
out; but an answer that takes it for a member shows that it still owned, when it asked, what it had not given up. An answer that
needed no record may come from a coordinator of the past that does not know it yet, so such an answer counts only against what
the same node has said; one to a commit counts against everybody.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .registers import Register
from .sight import Violation

Key = tuple[str, int]  # topic, partition
EVERYBODY = -1  # in place of a node: what the log vouches for


def named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{topic}-{partition}" for topic, partition in sorted(keys)) or "nothing"


@dataclass(slots=True, eq=False)
class Tenure:
    """A member owns a partition: certainly since `told_at`, and as some answer showed, until `shown[node]`."""

    member: str
    node_id: int  # that told
    asked_at: float
    told_at: float
    shown: dict[int, float] = field(default_factory=dict)

    def until(self, node_id: int) -> float:
        """As far as is certain against what that node said."""
        return max(self.shown.get(EVERYBODY, self.told_at), self.shown.get(node_id, self.told_at))


def _overlap(first: Tenure, second: Tenure) -> bool:
    """Is it certain that both owned at once? The second was given it between its question and the answer."""
    if first.until(second.node_id) <= second.told_at:
        return False
    is_given_meanwhile = first.told_at < second.asked_at
    both_go_on = min(first.until(EVERYBODY), second.until(EVERYBODY)) > second.told_at
    return is_given_meanwhile or both_go_on


@dataclass(slots=True)
class GroupBook:
    """One group, over all its members and their lives."""

    name: str
    keeps_epochs: bool = True  # a group that is empty as it changes its protocol begins anew
    registers: dict[Key, Register] = field(default_factory=dict)
    processed: dict[Key, set[int]] = field(default_factory=dict)
    processed_to: dict[Key, int] = field(default_factory=dict)  # all below were
    tenures: dict[Key, dict[str, Tenure]] = field(default_factory=dict)
    told: dict[int, dict[str, frozenset[Key]]] = field(default_factory=dict)  # generation -> who was assigned what
    greatest: list[tuple[float, int, int]] = field(default_factory=list)  # when, node, generation or epoch: whenever it rose
    epochs: dict[str, int] = field(default_factory=dict)  # of each member (KIP-848)

    # --- owning

    def on_told(self, member: str, keys: Iterable[Key], *, node_id: int, asked_at: float, now: float) -> None:
        """An answer gave these to the member; what it had of them it keeps."""
        for key in keys:
            held = self.tenures.setdefault(key, {})
            if member not in held:
                held[member] = Tenure(member, node_id, asked_at, now)
                self._check_owners(key, held[member])

    def on_shown(self, member: str, *, node_id: int, asked_at: float) -> None:
        """An answer took the member for one that owns what it has; a commit's by EVERYBODY."""
        for key, held in self.tenures.items():
            tenure = held.get(member)
            if tenure is not None and tenure.until(node_id) < asked_at:
                tenure.shown[node_id] = asked_at
                self._check_owners(key, tenure)

    def on_given_up(self, member: str, keys: Iterable[Key] | None = None) -> None:
        """The member says from now on that it does not have these; None: any. Or it has ended, or knows that it is out."""
        for key in self.tenures if keys is None else keys:
            self.tenures.get(key, {}).pop(member, None)

    def owners(self, key: Key) -> list[str]:
        return sorted(self.tenures.get(key, {}))

    def _check_owners(self, key: Key, tenure: Tenure) -> None:
        for other in self.tenures[key].values():
            if other is not tenure:
                first, second = sorted((tenure, other), key=lambda one: one.told_at)
                if _overlap(first, second):
                    raise Violation(
                        "one-owner-at-a-time",
                        f"group {self.name}: {second.member} was told at {second.told_at:.3f} s that it has {named([key])}; "
                        f"{first.member} has it since {first.told_at:.3f} s, and was still taken for its owner later",
                    )

    # --- generations (classic)

    def on_assigned(
        self, member: str, generation: int, keys: Iterable[Key], *, node_id: int, asked_at: float, now: float
    ) -> None:
        """SyncGroup's answer. A static member is told by its instance id: its next process has the same assignment."""
        assigned = frozenset(keys)
        self._check_rises("generation", generation, node_id=node_id, asked_at=asked_at)
        self._rise(generation, node_id, now)
        told = self.told.setdefault(generation, {})
        for other, its in told.items():
            if other != member and assigned & its:
                both = f"both {other} and {member} were assigned {named(assigned & its)}"
                raise Violation("one-owner-a-generation", f"group {self.name}: in generation {generation} {both}")
        told[member] = assigned

    def _check_rises(self, what: str, number: int, *, node_id: int, asked_at: float) -> None:
        """Against what this node has said before, or EVERYBODY."""
        for at, node, greater in self.greatest:
            if at < asked_at and greater > number and node_id in (node, EVERYBODY):
                raise Violation(
                    "generations-rise",
                    f"group {self.name}: {what} {number} was told to one that asked at {asked_at:.3f} s, after {greater} had "
                    f"been told at {at:.3f} s",
                )

    def _rise(self, number: int, node_id: int, now: float) -> None:
        if all(number > greater for _, _, greater in self.greatest):
            self.greatest.append((now, node_id, number))

    # --- epochs (KIP-848)

    def on_joined(self, member: str, epoch: int, *, node_id: int, asked_at: float, now: float) -> None:
        """A join is logged: its epoch is no older than any that was told before it."""
        if self.keeps_epochs:
            self._check_rises("epoch", epoch, node_id=EVERYBODY, asked_at=asked_at)
        self.epochs[member] = epoch
        self._rise(epoch, node_id, now)

    def on_epoch(self, member: str, epoch: int, *, node_id: int, now: float) -> None:
        """Of a member that goes on."""
        if epoch < self.epochs[member]:
            raise Violation(
                "generations-rise",
                f"group {self.name}: {member} was in epoch {self.epochs[member]} and is told {epoch} at {now:.3f} s",
            )
        self.epochs[member] = epoch
        self._rise(epoch, node_id, now)

    # --- committing and processing

    def on_processed(self, key: Key, offsets: Iterable[int]) -> None:
        done = self.processed.setdefault(key, set())
        done.update(offsets)
        end = self.processed_to.get(key, 0)
        while end in done:
            end += 1
        self.processed_to[key] = end

    def register(self, key: Key) -> Register:
        return self.registers.setdefault(key, Register())

    def on_commit(self, key: Key, token: str, offset: int, *, is_of_member: bool, now: float) -> None:
        """It is about to be sent. A member commits what it has processed, and began where the group had been."""
        self.register(key).write(token, offset, now)
        if is_of_member and offset > self.processed_to.get(key, 0):
            raise Violation(
                "nothing-is-skipped",
                f"group {self.name}: {token} goes on to commit offset {offset} of {named([key])}, of which all was processed "
                f"below {self.processed_to.get(key, 0)} only",
            )

    def on_committed(self, key: Key, token: str, *, generation: int, asked_at: float, now: float) -> None:
        """`generation`: of the classic protocol, -1 where there is none."""
        later = next((one for one in self.greatest if 0 <= generation < one[2] and one[0] < asked_at), None)
        if later is not None:
            raise Violation(
                "old-generations-are-refused",
                f"group {self.name}: a commit of {named([key])} by generation {generation}, sent at {asked_at:.3f} s, was "
                f"accepted, though generation {later[2]} had been told at {later[0]:.3f} s",
            )
        self.register(key).acknowledge(token, now)

    def on_fetched(self, key: Key, token: str, offset: int, *, asked_at: float, now: float) -> None:
        if (complaint := self.register(key).read(token, offset, asked_at, now)) is not None:
            raise self._forgotten(key, complaint)

    def finish(self, note: Callable[[str], None] = lambda _text: None) -> None:
        """All is over."""
        for key, register in sorted(self.registers.items()):
            if (complaint := register.judge()) is not None:
                raise self._forgotten(key, complaint)
            note(f"group {self.name}: {named([key])}: {len(register.writes) - 1} commits")

    def _forgotten(self, key: Key, complaint: str) -> Violation:
        return Violation("commits-stay", f"group {self.name}, {named([key])}: {complaint}")
