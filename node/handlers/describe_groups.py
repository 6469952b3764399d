# DescribeGroups, v0 to v6
# v3: authorized operations    v4: static members    v5: flexible    v6: GROUP_ID_NOT_FOUND (KIP-1043)
"""Describes classic groups: who is in them, and what each has been assigned."""

from functools import partial

from quorumlog.coordinators.results import Reply, Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import all_answered, refused_group, with_operations

DEAD = "Dead"
NOT_FOUND_VERSION = 6


async def handle_describe_groups(services: Services, call: Call) -> Body:
    group_ids = list(dict.fromkeys(call.message.groups))
    answers = [services.groups.ask(group_id, partial(_describe, group_id), logs=False) for group_id in group_ids]
    groups = await all_answered(answers, map(refused_group, group_ids))
    if call.version >= NOT_FOUND_VERSION:
        groups = [_not_found(group) if group.get("group_state") == DEAD else group for group in groups]
    return {"groups": with_operations(call, groups)}


def _describe(group_id: str, shard: GroupShard, waiter: Waiter) -> Result:
    return Result((), (Reply(waiter, shard.describe(group_id)),))


def _not_found(group: Body) -> Body:
    return {**group, "error_code": ErrorCode.group_id_not_found, "error_message": f"Group {group['group_id']} not found."}


API = Api(key=15, versions=range(7), handle=handle_describe_groups)
