# ConsumerGroupDescribe, v0 to v1
# v1: member types (KIP-1099)
"""Describes groups of KIP-848: epochs, members, and what each has and shall have."""

from functools import partial

from quorumlog.coordinators.results import Reply, Result, Waiter
from quorumlog.coordinators.shard import GroupShard

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import all_answered, check_group_id, refused_group, with_operations


async def handle_consumer_group_describe(services: Services, call: Call) -> Body:
    group_ids = list(dict.fromkeys(call.message.group_ids))
    answers = [services.groups.ask(group_id, partial(_describe, group_id), logs=False) for group_id in group_ids]
    return {"groups": with_operations(call, await all_answered(answers, map(refused_group, group_ids)))}


def _describe(group_id: str, shard: GroupShard, waiter: Waiter) -> Result:
    check_group_id(group_id)
    return Result((), (Reply(waiter, shard.describe_consumer(group_id)),))


API = Api(key=69, versions=range(2), handle=handle_consumer_group_describe)
