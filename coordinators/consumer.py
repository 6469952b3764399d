"""Groups whose members speak the protocol of KIP-848: the coordinator assigns, members reconcile by heartbeats.

    heartbeat   check -> subscribe -> refresh_patterns -> advance_epoch -> assign -> reconcile -> answer
    leave       remove -> refresh_patterns -> advance_epoch; the next heartbeat of anybody assigns what is free

Codes, and the order in which a request is looked at, are Apache Kafka's. Whatever a member could be refused for is checked
before the first record.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence, Set
from dataclasses import replace
from uuid import UUID

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

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
from .consumer_describe import described, not_found
from .consumer_group import ConsumerGroup, Member
from .consumer_reconcile import Owned
from .consumer_records import (
    UNREVOKED_PARTITIONS,
    ConsumerGroupMetadata,
    ConsumerRecord,
    CurrentAssignment,
    Epochs,
    Position,
    Subscription,
    encode_value,
)
from .consumer_update import GroupUpdates
from .context import Context
from .results import Body, Request
from .timers import Key

TIMERS = ("session", "rebalance")


class ConsumerGroups:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._updates = GroupUpdates(context)

    def takes(self, request: Request) -> bool:
        """Does this request of the classic protocol name a group of ours (a member that has not been upgraded yet)?"""
        return False

    # --- records

    def replay(self, record: ConsumerRecord) -> None:
        groups = self._context.groups
        group = groups.get(record.group_id)
        if isinstance(record, ConsumerGroupMetadata) and record.epoch is None:
            if isinstance(group, ConsumerGroup):
                del groups[record.group_id]
            return
        if not isinstance(group, ConsumerGroup):
            if _is_tombstone(record):
                return
            group = groups[record.group_id] = ConsumerGroup(record.group_id)
        group.replay(record)

    def on_loaded(self, now: float) -> None:
        for group in [group for _, group in sorted(self._context.groups.items()) if isinstance(group, ConsumerGroup)]:
            for _, member in sorted(group.members.items()):
                self._begin_session(group, member, now)
                if member.position.state == UNREVOKED_PARTITIONS:
                    self._begin_revocation(group, member, now)

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
        group = self._group_for(message)
        check_size(group, message.member_id, self._context.config_of(group.group_id).group_consumer_max_size)
        member_id = message.member_id or self._new_member_id()
        known = _known_member(group, message, member_id)
        told_before = None if known is None else known.subscription
        subscription = _told(told_before or Subscription(), request)
        if subscription.topic_regex and subscription.topic_regex not in group.readers:
            self._updates.patterns.check(subscription.topic_regex, self._context.image)

        before = Position() if known is None else known.position
        self._enter(group, known, member_id, subscription)
        group = self._group(group.group_id)
        self._follow(group, forced=told_before is None or _reads(told_before) != _reads(subscription))
        member = group.members[member_id]
        self._reconcile(group, member, _owned(message), now)
        self._begin_session(group, member, now)
        self._context.journal.reply(request.waiter, self._answer(group, member, message, before))

    def _enter(self, group: ConsumerGroup, known: Member | None, member_id: str, subscription: Subscription) -> None:
        if known is not None and (known.member_id != member_id or known.position.epoch == LEAVE_STATIC_EPOCH):
            self._cancel_timers(group, known)
            self._updates.replace_static(group, known, member_id)
        told_before = group.members[member_id].subscription if member_id in group.members else None
        self._updates.subscribe(group.group_id, member_id, subscription, told_before)

    def _follow(self, group: ConsumerGroup, *, forced: bool) -> None:
        """What the members and the topics ask for: a new epoch, and a target for it."""
        changed = self._updates.refresh_patterns(group)
        self._updates.advance_epoch(group, forced=forced or changed)
        self._updates.assign(group)

    def _reconcile(self, group: ConsumerGroup, member: Member, owned: Owned, now: float) -> None:
        before = member.position
        after = self._updates.reconcile(group, member, owned)
        if after is not before:
            if after.state == UNREVOKED_PARTITIONS:
                self._begin_revocation(group, member, now)
            else:
                self._context.timers.cancel(_key("rebalance", group, member))

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
        group = self._group(message.group_id)
        if message.instance_id is None:
            member = group.member(message.member_id)
        else:
            member = static_member_of(group, message.instance_id, message.member_id)
        if message.member_epoch == LEAVE_STATIC_EPOCH:
            self._pause(group, member)
        else:
            self._remove(group, [member])
        self._context.journal.reply(request.waiter, {"member_id": member.member_id, "member_epoch": message.member_epoch})

    def _pause(self, group: ConsumerGroup, member: Member) -> None:
        """A static member restarts: what it has stays its own until its session is over. What it was giving up it has not
        any more."""
        assigned = {topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in member.position.assigned.items()}
        position = replace(member.position, epoch=LEAVE_STATIC_EPOCH, assigned=assigned, revoking={})
        self._context.journal.log(CurrentAssignment(group.group_id, member.member_id, position))
        self._context.timers.cancel(_key("rebalance", group, member))

    def _remove(self, group: ConsumerGroup, members: Sequence[Member]) -> None:
        for member in members:
            self._cancel_timers(group, member)
            self._updates.remove(group, member)
        self._updates.refresh_patterns(group)
        self._updates.advance_epoch(group, forced=True)

    # --- members of the classic protocol

    def classic_join(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_sync(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_heartbeat(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_leave(self, request: Request, now: float) -> None:
        raise NotImplementedError

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
        """A member was not heard of for too long, or did not give up in time what it shall not have any more."""
        _, _, group_id, member_id = key
        group = self._group(str(group_id))
        self._remove(group, [group.member(str(member_id))])

    def _begin_session(self, group: ConsumerGroup, member: Member, now: float) -> None:
        timeout_ms = self._context.config_of(group.group_id).group_consumer_session_timeout_ms
        self._context.timers.set(_key("session", group, member), now + timeout_ms / 1000)

    def _begin_revocation(self, group: ConsumerGroup, member: Member, now: float) -> None:
        self._context.timers.set(_key("rebalance", group, member), now + member.subscription.rebalance_timeout_ms / 1000)

    def _cancel_timers(self, group: ConsumerGroup, member: Member) -> None:
        for kind in TIMERS:
            self._context.timers.cancel(_key(kind, group, member))

    # --- within

    def _group(self, group_id: str) -> ConsumerGroup:
        group = self._context.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            raise ClusterError(ErrorCode.group_id_not_found, f"Group {group_id} not found, or not a consumer group.")
        return group

    def _group_for(self, message: Struct) -> ConsumerGroup:
        """The group of a heartbeat; one that there is not yet is in no Context before its first record."""
        if message.member_epoch == JOIN_EPOCH and message.group_id not in self._context.groups:
            return ConsumerGroup(message.group_id)
        return self._group(message.group_id)

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


def _key(kind: str, group: ConsumerGroup, member: Member) -> Key:
    return ("consumer", kind, group.group_id, member.member_id)


def _is_tombstone(record: ConsumerRecord) -> bool:
    return encode_value(record) is None
