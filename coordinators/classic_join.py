"""JoinGroup: who may be a member, and what its coming means for the others.

no id yet    dynamic, v4+            an id is given out, with MEMBER_ID_REQUIRED (KIP-394): a lost answer leaves no ghost
             static, instance known  takes the place of the member that it was (KIP-345), without a rebalance where possible
             otherwise               a new member
an id        given out               a new member
             of a member             the generation again if nothing changed, or else a rebalance
"""

from quorumlog.wire.errors import ClusterError, ErrorCode

from .classic_group import ClassicGroup, State
from .classic_member import ClassicMember, Protocols
from .classic_rebalance import Moment, Rebalancer
from .classic_replies import join_error, join_refused, joined
from .classic_timers import begin_session, session_key
from .context import Context
from .records import GroupMetadata, GroupState
from .results import Request

MEMBER_ID_REQUIRED_VERSION = 4
SKIP_ASSIGNMENT_VERSION = 9  # KIP-814
MEMBER_ID_PREFIX_MAX = 1_000  # characters: a text on the wire has at most 32767 bytes
DEADLINES_MAX = 100_000  # of a shard: nobody gets another id of a member meanwhile, which he may ask for without end


class Joins:
    """Owned by the shard's ClassicGroups."""

    def __init__(self, context: Context, rebalancer: Rebalancer) -> None:
        self._context = context
        self._rebalancer = rebalancer
        self._journal = context.journal

    def join(self, request: Request, moment: Moment) -> None:
        """Every answer names a member id, refusals as well."""
        try:
            self._join(request, moment)
        except ClusterError as error:
            self._journal.reply(request.waiter, join_refused(request, error))

    def _join(self, request: Request, moment: Moment) -> None:
        message = request.message
        check_group_id(message.group_id)
        self._check_session_timeout(request)
        group = self._group(request, moment)
        self._check_size(group, message.member_id, moment)
        group.check_protocols(message.protocol_type, protocols_of(request))
        if message.member_id == "":
            self._join_new(group, request, moment)
        elif message.member_id in group.pending_joins and message.group_instance_id is None:
            self._add(group, message.member_id, request, moment)
        else:
            group.check_member(message.member_id, message.group_instance_id)
            self._join_again(group, group.members[message.member_id], request, moment)

    # --- may it?

    def _check_session_timeout(self, request: Request) -> None:
        config = self._context.config_of(request.message.group_id)
        least, most = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
        asked = request.message.session_timeout_ms
        if not least <= asked <= most:
            raise ClusterError(ErrorCode.invalid_session_timeout, f"session timeout {asked} ms, allowed are {least} to {most}")

    def _group(self, request: Request, moment: Moment) -> ClassicGroup:
        """The first who joins makes the group."""
        message = request.message
        group = self._context.groups.get(message.group_id)
        if isinstance(group, ClassicGroup):
            return group
        if message.member_id != "":
            raise ClusterError(ErrorCode.unknown_member_id, f"there is no group {message.group_id} to return to")
        ClassicGroup(message.group_id).check_protocols(message.protocol_type, protocols_of(request))
        for record in group.tombstones() if group is not None else ():  # of consumers of KIP-848, all of whom have left
            self._journal.log(record)
        self._journal.log(GroupMetadata(message.group_id, GroupState("", 0, None, None, moment.wall_ms, ())))
        group = self._context.groups[message.group_id]
        assert isinstance(group, ClassicGroup), group
        return group

    def _check_size(self, group: ClassicGroup, member_id: str, moment: Moment) -> None:
        """While members join, those that have joined count: if the limit was lowered, the last to come are turned away."""
        if group.is_empty:
            return
        member, size_max = group.members.get(member_id), self._context.config_of(group.group_id).group_max_size
        if group.state is State.PREPARING:
            fits = (member is not None and member.join_waiter is not None) or group.joined_count < size_max
        else:
            fits = member is not None or len(group.members) < size_max
        if fits:
            return
        if member is not None:
            self._rebalancer.remove(group, member)
        else:
            self._rebalancer.remove_pending(group, member_id)
        self._rebalancer.complete_if_all_joined(group, moment)
        raise ClusterError(ErrorCode.group_max_size_reached, f"group {group.group_id} has all the {size_max} members it may have")

    # --- new members

    def _join_new(self, group: ClassicGroup, request: Request, moment: Moment) -> None:
        instance_id = request.message.group_instance_id
        prefix = (instance_id if instance_id is not None else request.client_id)[:MEMBER_ID_PREFIX_MAX]
        member_id = f"{prefix}-{self._context.new_uuid()}"
        if instance_id is not None and instance_id in group.static_members:
            self._return_static(group, group.members[group.static_members[instance_id]], member_id, request, moment)
        elif instance_id is None and request.version >= MEMBER_ID_REQUIRED_VERSION:
            self._give_id(group, member_id, request, moment)
        else:
            self._add(group, member_id, request, moment)

    def _give_id(self, group: ClassicGroup, member_id: str, request: Request, moment: Moment) -> None:
        if len(self._context.timers) >= DEADLINES_MAX:
            raise ClusterError(ErrorCode.group_max_size_reached, "too many ids of members were given out and not used yet")
        group.pending_joins.add(member_id)
        until = moment.now + request.message.session_timeout_ms / 1000
        self._context.timers.set(session_key(group.group_id, member_id), until)
        self._journal.reply(request.waiter, join_error(ErrorCode.member_id_required, member_id))

    def _add(self, group: ClassicGroup, member_id: str, request: Request, moment: Moment) -> None:
        message = request.message
        member = ClassicMember(
            member_id=member_id,
            instance_id=message.group_instance_id,
            client_id=request.client_id,
            client_host=request.client_host,
            rebalance_timeout_ms=rebalance_timeout_ms(request),
            session_timeout_ms=message.session_timeout_ms,
            protocols=protocols_of(request),
            is_new=True,
        )
        group.new_member_added = group.state is State.PREPARING and group.is_initial
        group.add(member, message.protocol_type, request.waiter)
        begin_session(self._context.timers, group, member, moment.now)
        self._rebalancer.prepare_or_complete(group, moment)

    # --- members that are known

    def _join_again(self, group: ClassicGroup, member: ClassicMember, request: Request, moment: Moment) -> None:
        """The leader forces a rebalance by joining: it saw something that concerns the assignment, new partitions for example."""
        changed = member.protocols != protocols_of(request)
        leads = group.leader == member.member_id
        if group.state is State.PREPARING or changed or (group.state is State.STABLE and leads):
            self._update(group, member, request)
            self._rebalancer.prepare_or_complete(group, moment)
        else:  # it may not have got our answer
            self._journal.reply(request.waiter, joined(group, member))

    def _update(self, group: ClassicGroup, member: ClassicMember, request: Request) -> None:
        """The member waits again, with what it says now."""
        earlier = group.end_join(member)
        if earlier is not None:  # its connection broke, and this is its second attempt
            self._journal.reply(earlier, join_error(ErrorCode.rebalance_in_progress, member.member_id))
        group.update(
            member,
            protocols_of(request),
            rebalance_timeout_ms=rebalance_timeout_ms(request),
            session_timeout_ms=request.message.session_timeout_ms,
        )
        group.await_join(member, request.waiter)

    def _return_static(self, group: ClassicGroup, old: ClassicMember, new_id: str, request: Request, moment: Moment) -> None:
        """An instance has restarted, or a second one was given the same id: either way the earlier one is fenced."""
        old_leader = group.leader
        self._rebalancer.dismiss(group, old, ErrorCode.fenced_instance_id, answer_to=old.member_id)
        member = group.replace_static(old, new_id)
        self._update(group, member, request)
        begin_session(self._context.timers, group, member, moment.now)
        record = self._unchanged(group, moment)
        if record is not None and self._rebalancer.fits(record):
            self._keep_generation(group, member, record, old_leader, request)
        else:
            self._rebalancer.prepare_or_complete(group, moment)

    def _unchanged(self, group: ClassicGroup, moment: Moment) -> GroupMetadata | None:
        """The same generation with the new id, if that can go on."""
        if group.state is not State.STABLE or group.select_protocol() != group.protocol:
            return None
        assignments = {member.member_id: member.assignment for member in group.members.values()}
        return GroupMetadata(group.group_id, group.saved(moment.wall_ms, assignments))

    def _keep_generation(
        self, group: ClassicGroup, member: ClassicMember, record: GroupMetadata, old_leader: str | None, request: Request
    ) -> None:
        """Its assignment waits for it. A leader must not assign again: it is told so, or, before v9, not told that it leads."""
        self._journal.log(record)
        waiter = group.end_join(member)
        assert waiter is not None, member.member_id
        if request.version >= SKIP_ASSIGNMENT_VERSION:
            body = joined(group, member, skip_assignment=group.leader == member.member_id)
        else:
            body = joined(group, member, leader=old_leader)
        self._journal.reply(waiter, body)


def check_group_id(group_id: str) -> None:
    if group_id == "":
        raise ClusterError(ErrorCode.invalid_group_id, "a group has a name: the group id is empty")


def protocols_of(request: Request) -> Protocols:
    return tuple((protocol.name, bytes(protocol.metadata)) for protocol in request.message.protocols)


def rebalance_timeout_ms(request: Request) -> int:
    """Before v1 the session timeout is both, as where it is negative: records are read like that too."""
    message = request.message
    return int(message.rebalance_timeout_ms if message.rebalance_timeout_ms >= 0 else message.session_timeout_ms)
