"""One group of the classic protocol: its members, its generation, and where in a rebalance it stands.

    Empty --join--> PreparingRebalance --all rejoined--> CompletingRebalance --leader's sync, logged--> Stable
                     | ^------- a member comes, goes or changes: from CompletingRebalance and Stable -------|
                     +--nobody rejoined, logged--> Empty

Only Empty and Stable are ever logged, hence only these exist after loading: whoever was rebalancing is told by its next
heartbeat that its generation is not the one it knew, and joins anew.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from quorumlog.wire.errors import ClusterError, ErrorCode

from .classic_member import ClassicMember, Protocols
from .classic_subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from .records import GroupMetadata, GroupState
from .results import Waiter


class State(StrEnum):
    """As Kafka names them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class ClassicGroup:
    """Owned by the shard's Context. Made by the record of its first join, or for offsets that were committed without members.

    What a record of it says changes by `apply` alone; the rest (who waits, who may come) is lost when the shard moves.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.state_since_ms = -1  # as the last record has it; -1: not known
        self.members: dict[str, ClassicMember] = {}  # in the order in which they came
        self.static_members: dict[str, str] = {}  # member ids by instance id
        self.pending_joins: set[str] = set()  # ids given out with MEMBER_ID_REQUIRED
        self.pending_syncs: set[str] = set()  # members of this generation that have not asked for their assignment
        self.is_initial = False  # this rebalance began with nobody: more members may follow
        self.new_member_added = False  # since the initial delay began, or was last extended
        self.initial_delay_ms = 0
        self.initial_remaining_ms = 0
        self._topics: frozenset[str] | None = None
        self._supporters: Counter[str] = Counter()  # members by protocol
        self._joined_count = 0

    # --- what offsets, listing and deletion ask (context.Group)

    @property
    def type_name(self) -> str:
        return "classic"

    @property
    def state_name(self) -> str:
        return self.state.value

    @property
    def is_empty(self) -> bool:
        return self.state is State.EMPTY

    @property
    def has_protocol(self) -> bool:
        return self.protocol_type != "" or bool(self.members) or bool(self.pending_joins)

    def subscribed_topics(self) -> frozenset[str] | None:
        return self._topics

    def empty_since_ms(self) -> int | None:
        return self.state_since_ms if self.is_empty and self.state_since_ms >= 0 else None

    def tombstones(self) -> tuple[GroupMetadata, ...]:
        return (GroupMetadata(self.group_id, None),)

    def check_fetch(self, *, member_id: str | None, member_epoch: int) -> None:
        """Anyone may read the offsets of a classic group."""

    def check_commit(self, *, member_id: str, instance_id: str | None, generation: int, version: int) -> None:
        if generation < 0 and self.is_empty:
            return  # a tool, or a consumer that was assigned its partitions by hand
        if generation < 0 and member_id == "" and instance_id is None:
            raise ClusterError(
                ErrorCode.unknown_member_id, f"group {self.group_id} has members: offsets are committed by one of them"
            )
        self.check_member(member_id, instance_id)
        self.check_generation(generation)
        if self.state is State.COMPLETING:
            raise ClusterError(ErrorCode.rebalance_in_progress, f"group {self.group_id} waits for its leader's assignment")

    def check_transactional_commit(self, *, member_id: str, instance_id: str | None, generation: int) -> None:
        if generation < 0 and (self.is_empty or (member_id == "" and instance_id is None)):
            return  # producers of old know of no generation
        self.check_member(member_id, instance_id)
        self.check_generation(generation)

    # --- checks, in Kafka's order

    def check_member(self, member_id: str, instance_id: str | None) -> None:
        """Raises FENCED_INSTANCE_ID if the instance now goes by another member id."""
        if instance_id is not None:
            known = self.static_members.get(instance_id)
            if known is None:
                raise ClusterError(ErrorCode.unknown_member_id, f"group {self.group_id} has no instance {instance_id}")
            if known != member_id:
                raise ClusterError(
                    ErrorCode.fenced_instance_id, f"instance {instance_id} of group {self.group_id} is {known}, not {member_id}"
                )
        if member_id not in self.members:
            raise ClusterError(ErrorCode.unknown_member_id, f"group {self.group_id} has no member {member_id}")

    def check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise ClusterError(
                ErrorCode.illegal_generation, f"group {self.group_id} is in generation {self.generation}, not {generation}"
            )

    def check_protocols(self, protocol_type: str, protocols: Protocols) -> None:
        """Could a member with these take part?"""
        if self.is_empty:
            if protocol_type == "" or not protocols:
                raise ClusterError(
                    ErrorCode.inconsistent_group_protocol, f"group {self.group_id}: a member needs a protocol type and a protocol"
                )
        elif protocol_type != self.protocol_type or not self._candidates([name for name, _ in protocols]):
            raise ClusterError(
                ErrorCode.inconsistent_group_protocol,
                f"group {self.group_id} of type {self.protocol_type!r} shares no protocol with one of type {protocol_type!r}",
            )

    # --- members

    def add(self, member: ClassicMember, protocol_type: str, waiter: Waiter) -> None:
        assert member.member_id not in self.members, member.member_id
        if not self.members:
            self.protocol_type = protocol_type
        self.leader = self.leader or member.member_id
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        self.pending_joins.discard(member.member_id)
        self._count_supporters(member.protocols, +1)
        self.await_join(member, waiter)

    def remove(self, member_id: str) -> None:
        """Of a member, or of an id that was given out. Whoever waits for an answer must have got it before."""
        self.pending_joins.discard(member_id)
        self.pending_syncs.discard(member_id)
        member = self.members.pop(member_id, None)
        if member is None:
            return
        assert member.join_waiter is None and member.sync_waiter is None, member_id
        self._count_supporters(member.protocols, -1)
        if member.instance_id is not None:
            del self.static_members[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def replace_static(self, old: ClassicMember, new_id: str) -> ClassicMember:
        """The instance came back under a new id, and inherits the place of the old one, leadership and assignment included."""
        was_leader = self.leader == old.member_id
        self.remove(old.member_id)
        new = ClassicMember(
            new_id,
            old.instance_id,
            old.client_id,
            old.client_host,
            old.rebalance_timeout_ms,
            old.session_timeout_ms,
            old.protocols,
            old.assignment,
        )
        self.members[new_id] = new
        assert old.instance_id is not None, old.member_id
        self.static_members[old.instance_id] = new_id
        self._count_supporters(new.protocols, +1)
        if was_leader:
            self.leader = new_id
        return new

    def update(self, member: ClassicMember, protocols: Protocols, *, rebalance_timeout_ms: int, session_timeout_ms: int) -> None:
        self._count_supporters(member.protocols, -1)
        member.protocols = protocols
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms
        self._count_supporters(protocols, +1)

    def await_join(self, member: ClassicMember, waiter: Waiter) -> None:
        assert member.join_waiter is None, member.member_id
        member.join_waiter = waiter
        self._joined_count += 1

    def end_join(self, member: ClassicMember) -> Waiter | None:
        """Who is to be answered now."""
        waiter, member.join_waiter = member.join_waiter, None
        self._joined_count -= waiter is not None
        return waiter

    # --- rebalancing

    @property
    def joined_count(self) -> int:
        """Members whose join waits for the others."""
        return self._joined_count

    @property
    def all_joined(self) -> bool:
        return self._joined_count == len(self.members) and not self.pending_joins

    @property
    def rebalance_timeout_ms(self) -> int:
        """The patience of its most patient member."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def elect_joined_leader(self) -> bool:
        """Keeps the leader if it rejoined, or takes the first one who did. False if nobody has."""
        if self.leader is not None and self.members[self.leader].join_waiter is not None:
            return True
        joined = next((member.member_id for member in self.members.values() if member.join_waiter is not None), None)
        self.leader = joined or self.leader
        return joined is not None

    def select_protocol(self) -> str:
        """Of those that all support, the one with the most votes; at a tie the one voted for first."""
        candidates = self._candidates(self._supporters)
        votes = Counter(member.vote(candidates) for member in self.members.values())
        return votes.most_common(1)[0][0]

    def begin_generation(self) -> None:
        """All who take part have joined. Their assignments come from the leader, and with them the record."""
        self.generation += 1
        self.protocol = self.select_protocol()
        self._topics = self._read_topics()
        self.state = State.COMPLETING
        self.pending_syncs = set(self.members)

    # --- the record

    def saved(self, wall_ms: int, assignments: dict[str, bytes]) -> GroupState:
        """Stable in this generation."""
        return GroupState(
            protocol_type=self.protocol_type,
            generation=self.generation,
            protocol=self.protocol,
            leader=self.leader,
            current_state_timestamp_ms=wall_ms,
            members=tuple(
                member.saved(self.protocol, assignments.get(member.member_id, b"")) for member in self.members.values()
            ),
        )

    def saved_empty(self, wall_ms: int) -> GroupState:
        """The generation that begins when nobody is left."""
        return GroupState(self.protocol_type, self.generation + 1, None, None, wall_ms, ())

    def apply(self, state: GroupState) -> None:
        """The only way to Stable and Empty. Members that are known as they are saved keep all their protocols and waiters."""
        known = self.members
        self.members = {}
        for saved in state.members:
            member = known.get(saved.member_id)
            if member is None or member.saved(state.protocol, saved.assignment) != saved:
                member = ClassicMember.of_saved(saved, state.protocol or "")
            member.assignment = saved.assignment
            self.members[saved.member_id] = member
        self.state = State.STABLE if state.members else State.EMPTY
        self.state_since_ms = state.current_state_timestamp_ms
        self.generation = state.generation
        self.protocol_type = state.protocol_type
        self.protocol = state.protocol
        self.leader = state.leader
        self._derive()

    def _derive(self) -> None:
        """What follows from the members."""
        members = self.members.values()
        self.static_members = {member.instance_id: member.member_id for member in members if member.instance_id is not None}
        self.pending_syncs &= self.members.keys()
        self._joined_count = sum(member.join_waiter is not None for member in members)
        self._supporters = Counter()
        for member in members:
            self._count_supporters(member.protocols, +1)
        self._topics = self._read_topics()

    # --- within

    def _candidates(self, names: Iterable[str]) -> set[str]:
        """Which of these all members support."""
        return {name for name in names if self._supporters[name] == len(self.members)}

    def _count_supporters(self, protocols: Protocols, change: int) -> None:
        for name in {name for name, _ in protocols}:
            self._supporters[name] += change
            if not self._supporters[name]:
                del self._supporters[name]

    def _read_topics(self) -> frozenset[str] | None:
        """What all members together read, if they are consumers and say so in the way we know."""
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            read = subscribed_topics(member.metadata(self.protocol))
            if read is None:
                return None
            topics |= read
        return frozenset(topics)
