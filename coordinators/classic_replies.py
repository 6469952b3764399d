"""The bodies with which joins and syncs are answered. Fields that are left out have the defaults of the schema."""

from quorumlog.wire.errors import ClusterError, ErrorCode

from .classic_group import ClassicGroup, State
from .classic_member import ClassicMember
from .results import Body, Request


def join_error(code: ErrorCode, member_id: str) -> Body:
    return {"error_code": code, "member_id": member_id}


def join_refused(request: Request, error: ClusterError) -> Body:
    """The member keeps its id, but for one that finds no room."""
    return join_error(error.code, "" if error.code is ErrorCode.group_max_size_reached else request.message.member_id)


def sync_error(code: ErrorCode) -> Body:
    return {"error_code": code}


def joined(group: ClassicGroup, member: ClassicMember, *, leader: str | None = None, skip_assignment: bool = False) -> Body:
    """The generation, as this member is to know it. Only who leads it hears of the others; `leader` is told instead of the real
    one, who then does not hear of them either."""
    told_leader = leader or group.leader
    return {
        "error_code": ErrorCode.none,
        "generation_id": group.generation,
        "protocol_type": group.protocol_type,
        "protocol_name": group.protocol,
        "leader": told_leader,
        "skip_assignment": skip_assignment,
        "member_id": member.member_id,
        "members": _members(group) if told_leader == member.member_id else [],
    }


def synced(group: ClassicGroup, member: ClassicMember) -> Body:
    return {
        "error_code": ErrorCode.none,
        "protocol_type": group.protocol_type,
        "protocol_name": group.protocol,
        "assignment": member.assignment,
    }


def described(group: ClassicGroup) -> Body:
    """One group of DescribeGroups: protocol and metadata while it is stable, the last assignments always."""
    protocol = group.protocol if group.state is State.STABLE else None
    return {
        "error_code": ErrorCode.none,
        "group_id": group.group_id,
        "group_state": group.state_name,
        "protocol_type": group.protocol_type,
        "protocol_data": protocol or "",
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_metadata": member.metadata(protocol),
                "member_assignment": member.assignment,
            }
            for member in group.members.values()
        ],
    }


def _members(group: ClassicGroup) -> list[Body]:
    return [
        {
            "member_id": member.member_id,
            "group_instance_id": member.instance_id,
            "metadata": member.metadata(group.protocol),
        }
        for member in group.members.values()
    ]
