"""Members of a consumer group that speak the classic protocol still: for them the coordinator leads a rebalance of one member.

Heartbeat   is refused with REBALANCE_IN_PROGRESS whenever there is a step to take: something to give up, or to get
JoinGroup   tells what it has, takes the step, and answers with the member's epoch as the generation
SyncGroup   answers with what it has now; no leader assigns anything
"""

from collections.abc import Callable

from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.errors import ClusterError, ErrorCode

from .classic_join import MEMBER_ID_REQUIRED_VERSION, protocols_of, rebalance_timeout_ms
from .classic_leave import identities, left
from .classic_replies import join_error, join_refused, sync_error
from .consumer_checks import check_size, static_member_of
from .consumer_group import ConsumerGroup, Member
from .consumer_members import Members
from .consumer_migration import Migration, by_id, by_name
from .consumer_protocol import PROTOCOL_TYPE, ClassicSubscription, read_subscription, version_of, write_assignment
from .consumer_records import (
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    ClassicMember,
    ClassicProtocol,
    Partitions,
    Subscription,
)
from .context import Context
from .results import Request


class ClassicMembers:
    """Owned by ConsumerGroups."""

    def __init__(self, context: Context, members: Members, migration: Migration, new_member_id: Callable[[], str]) -> None:
        self._context = context
        self._members = members
        self._migration = migration
        self._new_member_id = new_member_id
        self._journal = context.journal

    # --- JoinGroup

    def join(self, request: Request, now: float) -> None:
        """Every answer names a member id, refusals as well."""
        try:
            self._join(request, now)
        except ClusterError as error:
            self._journal.reply(request.waiter, join_refused(request, error))

    def _join(self, request: Request, now: float) -> None:
        message = request.message
        group = self._members.group(message.group_id)
        member_id = message.member_id or self._new_member_id()
        self._check_join(group, request, member_id)
        if message.member_id == "" and message.group_instance_id is None and request.version >= MEMBER_ID_REQUIRED_VERSION:
            self._journal.reply(request.waiter, join_error(ErrorCode.member_id_required, member_id))
            return
        known = _known_member(group, request, member_id)
        told = _subscription_of(request)
        told_before = Subscription() if known is None else known.subscription
        subscription = _told(told_before, told, request)
        downgrades = self._replaces_last(group, known, message.group_instance_id)

        self._members.enter(group, known, member_id, subscription)
        forced = _reads(told_before) != _reads(subscription)
        member = group.members[member_id]
        owned = by_id(told.owned, self._context.image)
        if downgrades:
            generation = self._join_downgraded(group, member, owned, now, forced=forced)
        else:
            self._members.follow(group, forced=forced)
            self._members.reconcile(group, member, owned, now)
            generation = member.position.epoch
            self._members.cancel("join", group, member)
            self._members.cancel("rebalance", group, member)
            self._members.begin_session(group, member, now)
            self._members.begin("sync", group, member, now)
        self._journal.reply(
            request.waiter,
            {
                "error_code": ErrorCode.none,
                "member_id": member_id,
                "generation_id": generation,
                "protocol_type": PROTOCOL_TYPE,
                "protocol_name": message.protocols[0].name,
            },
        )

    def _join_downgraded(self, group: ConsumerGroup, member: Member, owned: Partitions, now: float, *, forced: bool) -> int:
        """The last static member of KIP-848 is back as a classic one. If it reads what it read, nobody else is disturbed. The
        generation it belongs to."""
        self._members.advance(group, forced=forced)
        rebalance = group.target_epoch < group.epoch
        if not rebalance:
            self._members.reconcile(group, member, owned, now)
        generation = member.position.epoch
        self._members.downgrade(group, set(), now, rebalance=rebalance)
        return generation

    def _replaces_last(self, group: ConsumerGroup, known: Member | None, instance_id: str | None) -> bool:
        """Does it come for the only member of KIP-848, a static one?"""
        if known is None or known.is_classic or instance_id is None:
            return False
        return self._migration.may_downgrade(group, {known.member_id}, joining=1)

    def _check_join(self, group: ConsumerGroup, request: Request, member_id: str) -> None:
        message, config = request.message, self._context.config_of(group.group_id)
        least, most = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
        if not least <= message.session_timeout_ms <= most:
            raise ClusterError(
                ErrorCode.invalid_session_timeout,
                f"session timeout {message.session_timeout_ms} ms, allowed are {least} to {most}",
            )
        check_size(group, member_id, config.group_consumer_max_size)
        if message.protocol_type != PROTOCOL_TYPE or not _shares_protocol(group, [each.name for each in message.protocols]):
            raise ClusterError(ErrorCode.inconsistent_group_protocol, f"Member {member_id}'s protocols are not supported.")

    # --- SyncGroup

    def sync(self, request: Request, now: float) -> None:
        message = request.message
        group = self._members.group(message.group_id)
        member, classic = _checked_member(group, request)
        _check_protocol(member, classic, request)
        if group.target_epoch > member.position.epoch and member.position.state != UNREVOKED_PARTITIONS:
            self._members.begin_if_absent("join", group, member, now)
            self._journal.reply(request.waiter, sync_error(ErrorCode.rebalance_in_progress))
            return
        self._members.cancel("sync", group, member)
        self._members.begin_session(group, member, now)
        assigned = {topic_id: tuple(epochs) for topic_id, epochs in member.position.assigned.items()}
        version = version_of(classic.protocols[0].metadata)
        self._journal.reply(
            request.waiter,
            {
                "error_code": ErrorCode.none,
                "protocol_type": message.protocol_type,
                "protocol_name": message.protocol_name,
                "assignment": write_assignment(by_name(assigned, self._context.image), version),
            },
        )

    # --- Heartbeat

    def heartbeat(self, request: Request, now: float) -> None:
        group = self._members.group(request.message.group_id)
        member, _ = _checked_member(group, request)
        self._members.begin_session(group, member, now)
        self._members.follow(group, forced=False)
        code = ErrorCode.none
        if _has_a_step(group, member):
            code = ErrorCode.rebalance_in_progress
            self._members.begin_if_absent("join", group, member, now)
        self._journal.reply(request.waiter, {"error_code": code})

    # --- LeaveGroup

    def leave(self, request: Request, now: float) -> None:
        group = self._members.group(request.message.group_id)
        named = identities(request)
        codes: list[ErrorCode] = []
        leaving: dict[str, Member] = {}
        for member_id, instance_id in named:
            try:
                member = _named_member(group, member_id, instance_id)
            except ClusterError as error:
                codes.append(error.code)
            else:
                codes.append(ErrorCode.none)
                leaving[member.member_id] = member
        if leaving:
            self._members.remove(group, list(leaving.values()), now)
        self._journal.reply(request.waiter, left(request, named, codes))


def _known_member(group: ConsumerGroup, request: Request, member_id: str) -> Member | None:
    """The member that joins again, or whose place it takes; None for a new one."""
    message = request.message
    if message.group_instance_id is None:
        return group.members.get(member_id)
    if message.member_id == "":
        return group.static_member(message.group_instance_id)
    return static_member_of(group, message.group_instance_id, member_id)


def _named_member(group: ConsumerGroup, member_id: str, instance_id: str | None) -> Member:
    """An operator names static members by their instances alone."""
    if instance_id is None:
        return group.member(member_id)
    known = group.static_member(instance_id)
    return static_member_of(group, instance_id, known.member_id if member_id == "" and known is not None else member_id)


def _checked_member(group: ConsumerGroup, request: Request) -> tuple[Member, ClassicMember]:
    message = request.message
    if message.group_instance_id is None:
        member = group.member(message.member_id)
    else:
        member = static_member_of(group, message.group_instance_id, message.member_id)
    if member.subscription.classic is None:
        raise ClusterError(ErrorCode.unknown_member_id, f"Member {member.member_id} does not use the classic protocol.")
    if message.generation_id != member.position.epoch:
        raise ClusterError(
            ErrorCode.illegal_generation,
            f"The generation of member {member.member_id} is {member.position.epoch}, not {message.generation_id}.",
        )
    return member, member.subscription.classic


def _check_protocol(member: Member, classic: ClassicMember, request: Request) -> None:
    message, protocol = request.message, classic.protocols[0].name
    for named, held in ((message.protocol_type, PROTOCOL_TYPE), (message.protocol_name, protocol)):
        if named is not None and named != held:
            raise ClusterError(
                ErrorCode.inconsistent_group_protocol, f"member {member.member_id} follows {held!r}, and now names {named!r}"
            )


def _shares_protocol(group: ConsumerGroup, names: list[str]) -> bool:
    """Any that all classic members support?"""
    told = [member.subscription.classic for member in group.members.values()]
    supported = [{protocol.name for protocol in classic.protocols} for classic in told if classic is not None]
    return any(all(name in each for each in supported) for name in names)


def _has_a_step(group: ConsumerGroup, member: Member) -> bool:
    position = member.position
    if position.epoch < group.target_epoch or position.state == UNREVOKED_PARTITIONS:
        return True
    return position.state == UNRELEASED_PARTITIONS and not _waits(group, member)


def _waits(group: ConsumerGroup, member: Member) -> bool:
    """Has somebody else any of what it shall have?"""
    target = group.targets.get(member.member_id, {})
    return any(
        group.owner(topic_id, partition) not in (None, member.member_id)
        for topic_id, partitions in target.items()
        for partition in partitions
    )


def _subscription_of(request: Request) -> ClassicSubscription:
    try:
        return read_subscription(bytes(request.message.protocols[0].metadata))
    except DecodeError as error:
        raise ClusterError(ErrorCode.inconsistent_group_protocol, f"malformed metadata of a consumer: {error}") from None


def _told(known: Subscription, told: ClassicSubscription, request: Request) -> Subscription:
    message = request.message
    return Subscription(
        instance_id=message.group_instance_id or known.instance_id,
        rack_id=told.rack_id or known.rack_id,
        client_id=request.client_id,
        client_host=request.client_host,
        topic_names=tuple(sorted(set(told.topics))),
        rebalance_timeout_ms=rebalance_timeout_ms(request),
        assignor=known.assignor,
        classic=ClassicMember(message.session_timeout_ms, tuple(ClassicProtocol(*each) for each in protocols_of(request))),
    )


def _reads(subscription: Subscription) -> tuple[tuple[str, ...], str]:
    return subscription.topic_names, subscription.topic_regex
