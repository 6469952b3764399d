"""A group that changes its protocol while it works (KIP-848, "online migration"), as group.consumer.migration.policy allows.

upgrade     a member of KIP-848 joins a group of classic members: they go on as they are, and are told to join again
downgrade   the last member of KIP-848 is gone: the classic members that are left go on among themselves
"""

from collections import Counter
from collections.abc import Collection

from quorumlog.metadata.image import Image
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.errors import ClusterError, ErrorCode

from .classic import ClassicGroups
from .classic_group import ClassicGroup
from .classic_replies import join_error, sync_error
from .codec import Record
from .consumer_group import ConsumerGroup, Member
from .consumer_protocol import PROTOCOL_TYPE, ByName, read_assignment, read_subscription, version_of, write_assignment
from .consumer_records import (
    ClassicMember,
    ClassicProtocol,
    ConsumerGroupMetadata,
    ConsumerRecord,
    CurrentAssignment,
    GroupMember,
    Partitions,
    Position,
    Subscription,
    TargetAssignment,
    TargetEpoch,
)
from .context import Context
from .records import GroupMetadata, GroupState, MemberMetadata

UPGRADE_POLICIES = ("upgrade", "bidirectional")
DOWNGRADE_POLICIES = ("downgrade", "bidirectional")
NOT_KNOWN_MS = -1


class Migration:
    """Owned by ConsumerGroups."""

    def __init__(self, context: Context, classic: ClassicGroups) -> None:
        self._context = context
        self._classic = classic

    # --- upgrade

    def planned(self, group: ClassicGroup) -> tuple[ConsumerGroup, list[Record]]:
        """What the group will be, and the records that make it so. Raises ClusterError if it may not be."""
        records: list[Record] = [*group.tombstones()]
        if not group.members:
            return ConsumerGroup(group.group_id), records
        self._check_upgrade(group)
        try:
            made = _upgraded(group, self._context.image)
        except DecodeError as error:
            raise _refused(group, f"the embedded consumer protocol is malformed: {error}") from None
        planned = ConsumerGroup(group.group_id)
        for record in made:
            planned.replay(record)
        made.append(ConsumerGroupMetadata(group.group_id, group.generation, planned.hash_in(self._context.image)))
        planned.replay(made[-1])
        return planned, records + made

    def _check_upgrade(self, group: ClassicGroup) -> None:
        config = self._context.config_of(group.group_id)
        if config.group_consumer_migration_policy not in UPGRADE_POLICIES:
            raise _refused(group, "online upgrade is disabled")
        if group.protocol_type != PROTOCOL_TYPE:
            raise _refused(group, f"its protocol type is {group.protocol_type!r}, not {PROTOCOL_TYPE!r}")
        if len(group.members) > config.group_consumer_max_size:
            raise _refused(group, f"it has {len(group.members)} members, allowed are {config.group_consumer_max_size}")

    def upgrade(self, group: ClassicGroup, records: list[Record]) -> None:
        """Who waits for a rebalance of the classic group is told that there is another one."""
        for member in group.members.values():
            waiter = group.end_join(member)
            if waiter is not None:
                self._context.journal.reply(waiter, join_error(ErrorCode.rebalance_in_progress, member.member_id))
            if member.sync_waiter is not None:
                self._context.journal.reply(member.sync_waiter, sync_error(ErrorCode.rebalance_in_progress))
                member.sync_waiter = None
        for record in records:
            self._context.journal.log(record)

    # --- downgrade

    def may_downgrade(self, group: ConsumerGroup, leaving: Collection[str], *, joining: int = 0) -> bool:
        """Once these are gone, and so many classic members have taken the places of any of them?"""
        config = self._context.config_of(group.group_id)
        staying = [member for member_id, member in group.members.items() if member_id not in leaving]
        return (
            0 < len(staying) + joining <= config.group_max_size
            and config.group_consumer_migration_policy in DOWNGRADE_POLICIES
            and all(member.is_classic for member in staying)
            and (not staying or _common_protocol(staying) is not None)
        )

    def downgrade(self, group: ConsumerGroup, leaving: Collection[str], now: float, *, rebalance: bool) -> None:
        """The members have what they shall have in the group's epoch; it is the generation of the classic group."""
        log = self._context.journal.log
        staying = [member for member_id, member in sorted(group.members.items()) if member_id not in leaving]
        state = _downgraded(group, staying, self._context.image)
        for record in group.tombstones():
            log(record)
        log(GroupMetadata(group.group_id, state))
        classic = self._context.groups[group.group_id]
        assert isinstance(classic, ClassicGroup), classic
        for member in staying:
            told = _classic_of(member)
            classic.update(
                classic.members[member.member_id],
                tuple((protocol.name, protocol.metadata) for protocol in told.protocols),
                rebalance_timeout_ms=member.subscription.rebalance_timeout_ms,
                session_timeout_ms=told.session_timeout_ms,
            )
        self._classic.begin_sessions(classic, now)
        if rebalance:
            self._classic.rebalance(classic, now, NOT_KNOWN_MS)


def _refused(group: ClassicGroup, reason: str) -> ClusterError:
    return ClusterError(
        ErrorCode.group_id_not_found, f"Cannot upgrade classic group {group.group_id} to consumer group because {reason}."
    )


def _upgraded(group: ClassicGroup, image: Image) -> list[ConsumerRecord]:
    """The members as they are, in an epoch that is their generation. Raises DecodeError."""
    group_id, epoch = group.group_id, group.generation
    protocol = group.protocol or group.select_protocol()
    members: list[ConsumerRecord] = []
    targets: list[ConsumerRecord] = []
    positions: list[ConsumerRecord] = []
    for member_id, member in sorted(group.members.items()):
        told = read_subscription(member.metadata(protocol))
        has = read_assignment(member.assignment)
        if has.user_data:
            raise _refused(group, "an unsupported custom assignor is in use: its user data would be lost")
        partitions = by_id(has.partitions, image)
        subscription = Subscription(
            instance_id=member.instance_id,
            rack_id=told.rack_id or None,
            client_id=member.client_id,
            client_host=member.client_host,
            topic_names=tuple(sorted(set(told.topics))),
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            classic=ClassicMember(member.session_timeout_ms, tuple(ClassicProtocol(*each) for each in member.protocols)),
        )
        assigned = {topic_id: dict.fromkeys(indexes, epoch) for topic_id, indexes in partitions.items()}
        members.append(GroupMember(group_id, member_id, subscription))
        targets.append(TargetAssignment(group_id, member_id, partitions))
        positions.append(CurrentAssignment(group_id, member_id, Position(epoch, epoch, assigned=assigned)))
    return [*members, *targets, TargetEpoch(group_id, epoch), *positions]


def _downgraded(group: ConsumerGroup, staying: list[Member], image: Image) -> GroupState:
    protocol = _common_protocol(staying)
    assert protocol is not None, group.group_id
    return GroupState(
        protocol_type=PROTOCOL_TYPE,
        generation=group.epoch,
        protocol=protocol,
        leader=staying[0].member_id,
        current_state_timestamp_ms=NOT_KNOWN_MS,
        members=tuple(_saved(group, member, protocol, image) for member in staying),
    )


def _saved(group: ConsumerGroup, member: Member, protocol: str, image: Image) -> MemberMetadata:
    told, subscription = _classic_of(member), member.subscription
    metadata = next(each.metadata for each in told.protocols if each.name == protocol)
    return MemberMetadata(
        member_id=member.member_id,
        instance_id=subscription.instance_id,
        client_id=subscription.client_id,
        client_host=subscription.client_host,
        rebalance_timeout_ms=subscription.rebalance_timeout_ms,
        session_timeout_ms=told.session_timeout_ms,
        subscription=metadata,
        assignment=write_assignment(by_name(group.targets.get(member.member_id, {}), image), version_of(metadata)),
    )


def _common_protocol(members: list[Member]) -> str | None:
    """The one that all support and most like best; at a tie the one that was named first."""
    named = [[protocol.name for protocol in _classic_of(member).protocols] for member in members]
    common = set(named[0]).intersection(*named[1:])
    votes = Counter(next(name for name in names if name in common) for names in named) if common else Counter[str]()
    return votes.most_common(1)[0][0] if votes else None


def _classic_of(member: Member) -> ClassicMember:
    assert member.subscription.classic is not None, member.member_id
    return member.subscription.classic


def by_id(partitions: ByName, image: Image) -> Partitions:
    """Of the topics that there are."""
    found = [(image.topics.get(name), indexes) for name, indexes in partitions.items()]
    return dict(sorted((topic.topic_id, tuple(sorted(set(indexes)))) for topic, indexes in found if topic is not None))


def by_name(partitions: Partitions, image: Image) -> ByName:
    """Of the topics that there are."""
    named = [(image.topic_names.get(topic_id), indexes) for topic_id, indexes in partitions.items()]
    return dict(sorted((name, indexes) for name, indexes in named if name is not None))
