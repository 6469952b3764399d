"""LeaveGroup: members say goodbye, or an operator removes static members by the names of their instances (KIP-345)."""

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

from .classic_group import ClassicGroup, State
from .classic_join import check_group_id
from .classic_rebalance import Moment, Rebalancer
from .context import Context
from .results import Body, Request

MANY_MEMBERS_VERSION = 3  # before it, one member leaves, and its error is the answer's


class Leaves:
    """Owned by the shard's ClassicGroups."""

    def __init__(self, context: Context, rebalancer: Rebalancer) -> None:
        self._context = context
        self._rebalancer = rebalancer

    def leave(self, request: Request, moment: Moment) -> None:
        check_group_id(request.message.group_id)
        group = self._context.groups.get(request.message.group_id)
        named = identities(request)
        if isinstance(group, ClassicGroup):
            codes = [self._remove(group, *identity) for identity in named]
            if ErrorCode.none in codes:
                self._go_on(group, moment)
        else:
            codes = [ErrorCode.unknown_member_id] * len(named)
        self._context.journal.reply(request.waiter, left(request, named, codes))

    def _remove(self, group: ClassicGroup, member_id: str, instance_id: str | None) -> ErrorCode:
        if member_id == "":
            member_id = group.static_members.get(instance_id or "", "")
        elif member_id in group.pending_joins:
            self._rebalancer.remove_pending(group, member_id)
            return ErrorCode.none
        try:
            group.check_member(member_id, instance_id)
        except ClusterError as error:
            return error.code
        self._rebalancer.remove(group, group.members[member_id])
        return ErrorCode.none

    def _go_on(self, group: ClassicGroup, moment: Moment) -> None:
        if group.state in (State.STABLE, State.COMPLETING):
            self._rebalancer.prepare(group, moment)
        else:
            self._rebalancer.complete_if_all_joined(group, moment)


def identities(request: Request) -> list[tuple[str, str | None]]:
    """Whom it names, by member id and instance id."""
    message: Struct = request.message
    if request.version < MANY_MEMBERS_VERSION:
        return [(message.member_id, None)]
    return [(member.member_id, member.group_instance_id) for member in message.members]


def left(request: Request, named: list[tuple[str, str | None]], codes: list[ErrorCode]) -> Body:
    if request.version < MANY_MEMBERS_VERSION:
        return {"error_code": codes[0]}
    members = [
        {"member_id": member_id, "group_instance_id": instance_id, "error_code": code}
        for (member_id, instance_id), code in zip(named, codes, strict=True)
    ]
    return {"error_code": ErrorCode.none, "members": members}
