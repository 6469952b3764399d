# LeaveGroup, v0 to v5
# v3: many members at once    v4: flexible    v5: reason
"""Members of a classic group say goodbye, or an operator removes static ones."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, error_body, request_of


def handle_leave_group(services: Services, call: Call) -> Body | Awaitable[Body]:
    def leave(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.leave(request_of(call, waiter), services.clock.now(), services.clock.wall_ms())

    return answered(services.groups.ask(call.message.group_id, leave), error_body)


API = Api(key=13, versions=range(6), handle=handle_leave_group)
