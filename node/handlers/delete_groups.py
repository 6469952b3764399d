# DeleteGroups, v0 to v2
# v2: flexible
"""Deletes groups without members, and their offsets with them."""

from functools import partial

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import all_answered, refused_group


async def handle_delete_groups(services: Services, call: Call) -> Body:
    group_ids = list(dict.fromkeys(call.message.groups_names))
    answers = [services.groups.ask(group_id, partial(_delete, group_id)) for group_id in group_ids]
    results = await all_answered(answers, map(refused_group, group_ids))
    return {"results": [{"group_id": result["group_id"], "error_code": result["error_code"]} for result in results]}


def _delete(group_id: str, shard: GroupShard, waiter: Waiter) -> Result:
    return shard.delete_group(group_id, waiter)


API = Api(key=42, versions=range(3), handle=handle_delete_groups)
