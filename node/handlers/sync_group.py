# SyncGroup, v0 to v5
# v3: static members    v4: flexible    v5: protocol type and name (KIP-559)
"""Gives a member of a classic group its assignment, once the group's leader has sent all of them."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, error_body, request_of


def handle_sync_group(services: Services, call: Call) -> Body | Awaitable[Body]:
    def sync(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.sync(request_of(call, waiter), services.clock.now(), services.clock.wall_ms())

    return answered(services.groups.ask(call.message.group_id, sync), error_body)


API = Api(key=14, versions=range(6), handle=handle_sync_group)
