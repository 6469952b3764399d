"""Groups whose members speak the protocol of KIP-848: the coordinator assigns, members reconcile by heartbeats.

    heartbeat   check -> subscribe -> refresh_patterns -> advance_epoch -> assign -> reconcile -> answer
    leave       remove -> refresh_patterns -> advance_epoch; the next heartbeat of anybody assigns what is free

Codes, and the order in which a request is looked at, are Apache Kafka's. Whatever a member could be refused for is checked
before the first record.
"""

from base64 import urlsafe_b64encode
from collections.abc import Set
from uuid import UUID

from quorumlog.metadata.image import Image
from quorumlog.wire.message import Struct

from .classic import ClassicGroups
from .classic_group import ClassicGroup
from .codec import Record
from .consumer_checks import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    LEAVE_STATIC_EPOCH,
    check_epoch,
    check_released,
    check_request,
    check_size,
    static_member_of,
)
from .consumer_classic import ClassicMembers
from .consumer_describe import described, not_found
from .consumer_group import ConsumerGroup, Member
from .consumer_members import Members
from .consumer_migration import Migration
from .consumer_reconcile import Owned
from .consumer_records import (
    ConsumerGroupMetadata,
    ConsumerRecord,
    Epochs,
    Position,
    Subscription,
    encode_value,
)
from .consumer_update import GroupUpdates
from .context import Context
from .results import Body, Request
from .timers import Key


class ConsumerGroups:
    """Owned by the shard. `classic` takes over the groups that go back to its protocol."""

    def __init__(self, context: Context, classic: ClassicGroups) -> None:
        self._context = context
        self._updates = GroupUpdates(context)
        self._migration = Migration(context, classic)
        self._members = Members(context, self._updates, self._migration)
        self._classic = ClassicMembers(context, self._members, self._migration, self._new_member_id)

    def takes(self, request: Request) -> bool:
        """Does this request of the classic protocol name a group of ours (a member that has not been upgraded yet)? An empty
        one becomes a classic group when somebody joins it."""
        group = self._context.groups.get(request.message.group_id)
        return isinstance(group, ConsumerGroup) and not group.is_empty

    # --- records

    def replay(self, record: ConsumerRecord) -> None:
        groups = self._context.groups
        group = groups.get(record.group_id)
        if isinstance(record, ConsumerGroupMetadata) and record.epoch is None:
            if isinstance(group, ConsumerGroup):
                del groups[record.group_id]
            return
        if not isinstance(group, ConsumerGroup):
            if encode_value(record) is None:  # a tombstone of what is not known any more
                return
            group = groups[record.group_id] = ConsumerGroup(record.group_id)
        group.replay(record)

    def on_loaded(self, now: float) -> None:
        for group in [group for _, group in sorted(self._context.groups.items()) if isinstance(group, ConsumerGroup)]:
            self._members.on_loaded(group, now)

    # --- ConsumerGroupHeartbeat

    def heartbeat(self, request: Request, now: float) -> None:
        message = request.message
        check_request(message, request.version, self._context.config_of(message.group_id).group_consumer_assignors)
        if message.member_epoch in (LEAVE_EPOCH, LEAVE_STATIC_EPOCH):
            self._leave(request, now)
        else:
            self._beat(request, now)

    def _beat(self, request: Request, now: float) -> None:
        message = request.message
        group, before_it = self._group_for(message)
        check_size(group, message.member_id, self._context.config_of(group.group_id).group_consumer_max_size)
        member_id = message.member_id or self._new_member_id()
        known = _known_member(group, message, member_id)
        told_before = Subscription() if known is None else known.subscription
        subscription = _told(told_before, request)
        if subscription.topic_regex and subscription.topic_regex not in group.readers:
            self._updates.patterns.check(subscription.topic_regex, self._context.image)

        before = Position() if known is None else known.position
        if before_it:
            group, known = self._take_over(group, before_it, known, now)
        self._members.enter(group, known, member_id, subscription)
        group = self._members.group(group.group_id)
        self._members.follow(group, forced=_reads(told_before) != _reads(subscription))
        member = group.members[member_id]
        self._members.reconcile(group, member, _owned(message), now)
        self._members.cancel("join", group, member)
        self._members.cancel("sync", group, member)
        self._members.begin_session(group, member, now)
        self._context.journal.reply(request.waiter, self._answer(group, member, message, before))

    def _group_for(self, message: Struct) -> tuple[ConsumerGroup, list[Record]]:
        """The group of a heartbeat, and what has to be logged for it to be there."""
        group = self._context.groups.get(message.group_id)
        if message.member_epoch == JOIN_EPOCH:
            if group is None:
                return ConsumerGroup(message.group_id), []
            if isinstance(group, ClassicGroup):
                return self._migration.planned(group)
        return self._members.group(message.group_id), []

    def _take_over(
        self, planned: ConsumerGroup, records: list[Record], known: Member | None, now: float
    ) -> tuple[ConsumerGroup, Member | None]:
        """The classic group becomes what was planned."""
        classic = self._context.groups[planned.group_id]
        assert isinstance(classic, ClassicGroup), classic
        self._migration.upgrade(classic, records)
        group = self._context.groups.get(planned.group_id)
        if not isinstance(group, ConsumerGroup):
            return planned, known  # it was empty: the first member makes the group
        self._members.on_loaded(group, now)
        return group, None if known is None else group.members[known.member_id]

    def _answer(self, group: ConsumerGroup, member: Member, message: Struct, before: Position) -> Body:
        """The assignment is told when it changed, and to a member that may not know it: it joins, tells everything of itself, or
        has not heard of its epoch."""
        assigned = member.position.assigned
        tells_all = (
            message.rebalance_timeout_ms != -1
            and (message.subscribed_topic_names is not None or message.subscribed_topic_regex is not None)
            and message.topic_partitions is not None
        )
        is_due = tells_all or message.member_epoch == JOIN_EPOCH or message.member_epoch < before.epoch
        body: Body = {
            "member_id": member.member_id,
            "member_epoch": member.position.epoch,
            "heartbeat_interval_ms": self._context.config_of(group.group_id).group_consumer_heartbeat_interval_ms,
        }
        if is_due or _partitions(assigned) != _partitions(before.assigned):
            body["assignment"] = {
                "topic_partitions": [
                    {"topic_id": topic_id, "partitions": list(epochs)} for topic_id, epochs in sorted(assigned.items())
                ]
            }
        return body

    # --- leaving

    def _leave(self, request: Request, now: float) -> None:
        message = request.message
        group = self._members.group(message.group_id)
        if message.instance_id is None:
            member = group.member(message.member_id)
        else:
            member = static_member_of(group, message.instance_id, message.member_id)
        if message.member_epoch == LEAVE_STATIC_EPOCH:
            self._members.pause(group, member)
        else:
            self._members.remove(group, [member], now)
        self._context.journal.reply(request.waiter, {"member_id": member.member_id, "member_epoch": message.member_epoch})

    # --- members of the classic protocol

    def classic_join(self, request: Request, now: float) -> None:
        self._classic.join(request, now)

    def classic_sync(self, request: Request, now: float) -> None:
        self._classic.sync(request, now)

    def classic_heartbeat(self, request: Request, now: float) -> None:
        self._classic.heartbeat(request, now)

    def classic_leave(self, request: Request, now: float) -> None:
        self._classic.leave(request, now)

    # --- describing

    def describe(self, group_id: str) -> Body:
        """A group of ConsumerGroupDescribe."""
        group = self._context.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            return not_found(group_id)
        return described(group, self._updates.assignor_of(group), self._context.image)

    # --- time and the cluster

    def on_image(self, old: Image, image: Image, now: float) -> None:
        """Nothing is done at once: each group looks at the new topics at the next heartbeat of any of its members."""

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        """A member was not heard of for too long, or did not do in time what it had to."""
        self._members.on_timer(key, now)

    def _new_member_id(self) -> str:
        """As Kafka writes ids."""
        return urlsafe_b64encode(self._context.new_uuid().bytes).rstrip(b"=").decode()


def _known_member(group: ConsumerGroup, message: Struct, member_id: str) -> Member | None:
    """The member that sent this, or whose place it takes; None for a new one. Raises ClusterError for anybody else."""
    joins = message.member_epoch == JOIN_EPOCH
    if message.instance_id is None:
        member = group.members.get(member_id) if joins else group.member(member_id)
    elif joins:
        member = group.static_member(message.instance_id)
        if member is not None:
            if not member.is_classic:
                check_released(member, member_id)
            return member
        member = group.members.get(member_id)
    else:
        member = static_member_of(group, message.instance_id, member_id)
    if member is not None:
        check_epoch(member, message.member_epoch, _owned(message))
    return member


def _told(known: Subscription, request: Request) -> Subscription:
    """What a member said before, with what it says now; null is as before."""
    message = request.message
    names = message.subscribed_topic_names
    regex = message.subscribed_topic_regex
    return Subscription(
        instance_id=known.instance_id if message.instance_id is None else message.instance_id,
        rack_id=known.rack_id if message.rack_id is None else message.rack_id,
        client_id=request.client_id,
        client_host=request.client_host,
        topic_names=known.topic_names if names is None else tuple(sorted(set(names))),
        topic_regex=known.topic_regex if regex is None else regex,
        rebalance_timeout_ms=known.rebalance_timeout_ms if message.rebalance_timeout_ms == -1 else message.rebalance_timeout_ms,
        assignor=known.assignor if message.server_assignor is None else message.server_assignor,
    )


def _partitions(epochs: Epochs) -> dict[UUID, Set[int]]:
    return {topic_id: by_partition.keys() for topic_id, by_partition in epochs.items()}


def _reads(subscription: Subscription) -> tuple[tuple[str, ...], str]:
    return subscription.topic_names, subscription.topic_regex


def _owned(message: Struct) -> Owned:
    if message.topic_partitions is None:
        return None
    return {item.topic_id: item.partitions for item in message.topic_partitions}
