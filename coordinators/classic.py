"""Groups whose members speak the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

The order in which a request is checked, and the code with which it is refused, are Apache Kafka's: clients tell from them
whether to join anew, to ask for an id, or to stop. Where two refusals fit, the first of Kafka's checks decides.
"""

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

from .classic_group import ClassicGroup, State
from .classic_join import Joins, check_group_id
from .classic_leave import Leaves
from .classic_rebalance import Moment, Rebalancer
from .classic_replies import described, sync_error, synced
from .classic_timers import begin_session, cancel_all
from .context import Context
from .records import GroupMetadata
from .results import Body, Request
from .timers import Key

NAMED_PROTOCOL_VERSION = 5  # of SyncGroup: from here on it names protocol type and protocol (KIP-559)


class ClassicGroups:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._journal = context.journal
        self._rebalancer = Rebalancer(context)
        self._joins = Joins(context, self._rebalancer)
        self._leaves = Leaves(context, self._rebalancer)

    # --- records

    def replay(self, record: GroupMetadata) -> None:
        group = self._find(record.group_id)
        if record.state is None:
            if group is not None:
                cancel_all(self._context.timers, group)
                del self._context.groups[record.group_id]
            return
        if group is None:
            group = self._context.groups[record.group_id] = ClassicGroup(record.group_id)
        group.apply(record.state)

    def on_loaded(self, now: float, wall_ms: int) -> None:
        for group in [group for _, group in sorted(self._context.groups.items()) if isinstance(group, ClassicGroup)]:
            self.begin_sessions(group, now)
            if len(group.members) > self._context.config_of(group.group_id).group_max_size:
                self._rebalancer.prepare(group, Moment(now, wall_ms))

    def begin_sessions(self, group: ClassicGroup, now: float) -> None:
        """Of members that were loaded, or have come from the protocol of consumer groups."""
        for member in group.members.values():
            begin_session(self._context.timers, group, member, now)

    def rebalance(self, group: ClassicGroup, now: float, wall_ms: int) -> None:
        """Of a group that is Stable, for a reason from outside."""
        self._rebalancer.prepare(group, Moment(now, wall_ms))

    # --- requests

    def join(self, request: Request, now: float, wall_ms: int) -> None:
        self._joins.join(request, Moment(now, wall_ms))

    def sync(self, request: Request, now: float, wall_ms: int) -> None:
        message = request.message
        _check_names_protocol(request)
        group = self._checked_group(request)
        _check_protocol(group, message)
        member = group.members[message.member_id]
        if group.state is State.PREPARING:
            self._journal.reply(request.waiter, sync_error(ErrorCode.rebalance_in_progress))
        elif group.state is State.STABLE:
            self._rebalancer.on_synced(group, member)
            self._journal.reply(request.waiter, synced(group, member))
        else:
            self._await_sync(group, request)
            if group.leader == member.member_id:
                assignments = {item.member_id: bytes(item.assignment) for item in message.assignments}
                self._rebalancer.assign(group, assignments, Moment(now, wall_ms))

    def heartbeat(self, request: Request, now: float) -> None:
        message = request.message
        group = self._checked_group(request)
        begin_session(self._context.timers, group, group.members[message.member_id], now)
        code = ErrorCode.rebalance_in_progress if group.state is State.PREPARING else ErrorCode.none
        self._journal.reply(request.waiter, {"error_code": code})

    def leave(self, request: Request, now: float, wall_ms: int) -> None:
        self._leaves.leave(request, Moment(now, wall_ms))

    def describe(self, group_id: str) -> Body:
        """A group that there is not is Dead; so is one whose members speak the other protocol."""
        group = self._find(group_id)
        return {"group_id": group_id, "group_state": "Dead"} if group is None else described(group)

    # --- time

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        """`key` is one of those in classic_timers."""
        _, kind, group_id, *member_id = map(str, key)
        group = self._find(group_id)
        moment = Moment(now, wall_ms)
        if group is None:
            return  # it has become a consumer group, whose members have timers of their own
        if kind == "join":
            self._rebalancer.expire_join(group, moment)
        elif kind == "sync":
            self._rebalancer.expire_sync(group, moment)
        else:
            self._rebalancer.expire_session(group, member_id[0], moment)

    # --- within

    def _find(self, group_id: str) -> ClassicGroup | None:
        group = self._context.groups.get(group_id)
        return group if isinstance(group, ClassicGroup) else None

    def _checked_group(self, request: Request) -> ClassicGroup:
        """The group of a request whose sender is a member, of this very generation."""
        message = request.message
        check_group_id(message.group_id)
        group = self._find(message.group_id)
        if group is None or group.is_empty:
            raise ClusterError(ErrorCode.unknown_member_id, f"group {message.group_id} has no members")
        group.check_member(message.member_id, message.group_instance_id)
        group.check_generation(message.generation_id)
        return group

    def _await_sync(self, group: ClassicGroup, request: Request) -> None:
        member = group.members[request.message.member_id]
        if member.sync_waiter is not None:  # its connection broke, and this is its second attempt
            self._journal.reply(member.sync_waiter, sync_error(ErrorCode.rebalance_in_progress))
        member.sync_waiter = request.waiter
        self._rebalancer.on_synced(group, member)


def _check_names_protocol(request: Request) -> None:
    message = request.message
    if request.version >= NAMED_PROTOCOL_VERSION and None in (message.protocol_type, message.protocol_name):
        raise ClusterError(
            ErrorCode.inconsistent_group_protocol,
            f"a sync of group {message.group_id} names type {message.protocol_type} and protocol {message.protocol_name}",
        )


def _check_protocol(group: ClassicGroup, message: Struct) -> None:
    for named, held in ((message.protocol_type, group.protocol_type), (message.protocol_name, group.protocol)):
        if named is not None and held is not None and named != held:
            raise ClusterError(
                ErrorCode.inconsistent_group_protocol, f"group {group.group_id} follows {held!r}, and its member names {named!r}"
            )
