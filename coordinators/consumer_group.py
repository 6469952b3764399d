"""One group of consumers that speak the protocol of KIP-848: what its records say of it, and what follows from that.

group epoch        rises when members, what they read, or those topics change
target epoch       the group epoch for which the target assignment was made
a member's epoch   how far it has come: equal to the target epoch once it has given up what it must
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from uuid import UUID

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ClusterError, ErrorCode

from .consumer_records import (
    STABLE,
    ConsumerGroupMetadata,
    ConsumerRecord,
    CurrentAssignment,
    GroupMember,
    PartitionMetadata,
    Partitions,
    Position,
    Resolved,
    ResolvedRegex,
    Subscription,
    TargetAssignment,
    TargetEpoch,
)

COMMIT_VERSION_MIN = 9  # of OffsetCommit: older ones cannot carry an epoch


@dataclass(slots=True)
class Member:
    """Owned by its ConsumerGroup; changed by records alone."""

    member_id: str
    subscription: Subscription = field(default_factory=Subscription)
    position: Position = field(default_factory=Position)

    @property
    def is_classic(self) -> bool:
        return self.subscription.classic is not None


class ConsumerGroup:
    """Owned by the shard's Context. Implements context.Group.

    What a record says changes by `replay` alone. `checked_topics` is not in the log: the topics of the image for which it is
    known that the metadata hash is that of this group.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 1
        self.metadata_hash = 0
        self.target_epoch = 0
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}  # member ids by instance id
        self.targets: dict[str, Partitions] = {}
        self.resolved: dict[str, Resolved] = {}
        self.has_partition_metadata = False
        self.readers = Counter[str]()  # members by regular expression
        self.checked_topics: object = None
        self._names = Counter[str]()  # members by name of a topic
        self._owners: dict[UUID, dict[int, str]] = {}

    # --- what offsets, listing and deletion ask (context.Group)

    @property
    def type_name(self) -> str:
        return "consumer"

    @property
    def protocol_type(self) -> str:
        return "consumer"

    @property
    def state_name(self) -> str:
        if not self.members:
            return "Empty"
        if self.epoch > self.target_epoch:
            return "Assigning"
        positions = (member.position for member in self.members.values())
        if all(one.state == STABLE and one.epoch == self.target_epoch for one in positions):
            return "Stable"
        return "Reconciling"

    @property
    def is_empty(self) -> bool:
        return not self.members

    @property
    def has_protocol(self) -> bool:
        return True

    def subscribed_topics(self) -> frozenset[str] | None:
        return frozenset(self._names).union(*(self.resolved[regex].topics for regex in sorted(self.resolved)))

    def empty_since_ms(self) -> int | None:
        """Nobody writes it down: offsets of such a group expire by the time of their commits, as in Kafka."""
        return None

    def check_commit(self, *, member_id: str, instance_id: str | None, generation: int, version: int) -> None:
        if generation < 0 and not self.members:
            return  # a tool, or a consumer that was assigned its partitions by hand
        member = self.member(member_id)
        if not member.is_classic and version < COMMIT_VERSION_MIN:
            raise ClusterError(
                ErrorCode.unsupported_version,
                f"OffsetCommit v{version} cannot tell the epoch of member {member_id}: v{COMMIT_VERSION_MIN} or above can",
            )
        _check_epoch_of(member, generation)

    def check_transactional_commit(self, *, member_id: str, instance_id: str | None, generation: int) -> None:
        if generation < 0 and (not self.members or (member_id == "" and instance_id is None)):
            return  # producers of old know of no epoch
        try:
            _check_epoch_of(self.member(member_id), generation)
        except ClusterError as error:
            if error.code is ErrorCode.stale_member_epoch:  # which TxnOffsetCommit does not know
                raise ClusterError(ErrorCode.illegal_generation, error.message) from error
            raise

    def check_fetch(self, *, member_id: str | None, member_epoch: int) -> None:
        if member_id is None and member_epoch < 0:
            return
        _check_epoch_of(self.member(member_id or ""), member_epoch)

    # --- what deciding asks

    def member(self, member_id: str) -> Member:
        member = self.members.get(member_id)
        if member is None:
            raise ClusterError(ErrorCode.unknown_member_id, f"Member {member_id} is not a member of group {self.group_id}.")
        return member

    def static_member(self, instance_id: str) -> Member | None:
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def owner(self, topic_id: UUID, partition: int) -> str | None:
        """Who reads it, or has not said yet that it does no more."""
        owners = self._owners.get(topic_id)
        return None if owners is None else owners.get(partition)

    def topics_of(self, subscription: Subscription) -> frozenset[str]:
        """The names that a member reads, whether there are such topics or not."""
        resolved = self.resolved.get(subscription.topic_regex) if subscription.topic_regex else None
        return frozenset(subscription.topic_names).union(resolved.topics if resolved else ())

    def hash_in(self, image: Image) -> int:
        """Changes when a topic that it reads comes, goes, or gets partitions."""
        digest = blake2b(digest_size=8)
        empty = True
        for name in sorted(self.subscribed_topics() or ()):
            topic = image.topics.get(name)
            if topic is not None:
                digest.update(topic.topic_id.bytes + len(topic.partitions).to_bytes(4, "big"))
                empty = False
        return 0 if empty else int.from_bytes(digest.digest(), "big", signed=True)

    def tombstones(self) -> list[ConsumerRecord]:
        """In Kafka's order. Of members too, whom a group has that goes over to the classic protocol."""
        group_id, members = self.group_id, sorted(self.members)
        return [
            *(CurrentAssignment(group_id, member_id, None) for member_id in members),
            *(TargetAssignment(group_id, member_id, None) for member_id in sorted(self.targets)),
            TargetEpoch(group_id, None),
            *(GroupMember(group_id, member_id, None) for member_id in members),
            *(ResolvedRegex(group_id, regex, None) for regex in sorted(self.resolved)),
            *([PartitionMetadata(group_id, exists=False)] if self.has_partition_metadata else []),
            ConsumerGroupMetadata(group_id, None),
        ]

    # --- records

    def replay(self, record: ConsumerRecord) -> None:
        """Any but the tombstone of the group itself."""
        match record:
            case ConsumerGroupMetadata():
                self.epoch, self.metadata_hash = record.epoch or 0, record.metadata_hash
            case PartitionMetadata():
                self.has_partition_metadata = record.exists
            case GroupMember():
                self._replay_member(record.member_id, record.subscription)
            case TargetEpoch():
                self.target_epoch = -1 if record.epoch is None else record.epoch
            case TargetAssignment():
                if record.partitions is None:
                    self.targets.pop(record.member_id, None)
                else:
                    self.targets[record.member_id] = record.partitions
            case CurrentAssignment():
                self._replay_position(record.member_id, record.position)
            case ResolvedRegex():
                if record.resolved is None:
                    self.resolved.pop(record.regex, None)
                else:
                    self.resolved[record.regex] = record.resolved

    def _replay_member(self, member_id: str, subscription: Subscription | None) -> None:
        member = self.members.get(member_id)
        if member is not None:
            self._forget(member)
        if subscription is None:
            if member is not None:
                self._own(member, Position())
                del self.members[member_id]
            return
        if member is None:
            member = self.members[member_id] = Member(member_id)
        member.subscription = subscription
        self._count(subscription, +1)
        if subscription.instance_id is not None:
            self.static_members[subscription.instance_id] = member_id

    def _forget(self, member: Member) -> None:
        """What was derived from its subscription."""
        self._count(member.subscription, -1)
        instance_id = member.subscription.instance_id
        if instance_id is not None and self.static_members.get(instance_id) == member.member_id:
            del self.static_members[instance_id]

    def _count(self, subscription: Subscription, change: int) -> None:
        for name in subscription.topic_names:
            self._names[name] += change
            if not self._names[name]:
                del self._names[name]
        if regex := subscription.topic_regex:
            self.readers[regex] += change
            if not self.readers[regex]:
                del self.readers[regex]

    def _replay_position(self, member_id: str, position: Position | None) -> None:
        """A member that is known by its position alone is of a log whose beginning was compacted: the rest of it follows."""
        member = self.members.get(member_id)
        if member is None and position is None:
            return
        if member is None:
            member = self.members[member_id] = Member(member_id)
        self._own(member, position or Position())

    def _own(self, member: Member, position: Position) -> None:
        for held in (member.position.assigned, member.position.revoking):
            for topic_id, partitions in held.items():
                self._disown(member.member_id, topic_id, list(partitions))
        for held in (position.assigned, position.revoking):
            for topic_id, partitions in held.items():
                self._owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, member.member_id))
        member.position = position

    def _disown(self, member_id: str, topic_id: UUID, partitions: list[int]) -> None:
        owners = self._owners[topic_id]
        for partition in partitions:
            if owners.get(partition) == member_id:
                del owners[partition]
        if not owners:
            del self._owners[topic_id]


def _check_epoch_of(member: Member, epoch: int) -> None:
    if epoch != member.position.epoch:
        code = ErrorCode.illegal_generation if member.is_classic else ErrorCode.stale_member_epoch
        raise ClusterError(code, f"The epoch of member {member.member_id} is {member.position.epoch}, not {epoch}.")
