# JoinGroup, v0 to v9
# v1: rebalance timeout    v4: MEMBER_ID_REQUIRED (KIP-394)    v5: static members    v6: flexible    v7: protocol type
# v8: reason    v9: skip assignment
"""Takes a member into a classic group. The answer waits until all its members have come."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, request_of


def handle_join_group(services: Services, call: Call) -> Body | Awaitable[Body]:
    def join(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.join(request_of(call, waiter), services.clock.now(), services.clock.wall_ms())

    def refused(error: ClusterError) -> Body:
        return {"error_code": error.code, "member_id": call.message.member_id}

    return answered(services.groups.ask(call.message.group_id, join), refused)


API = Api(key=11, versions=range(10), handle=handle_join_group)
