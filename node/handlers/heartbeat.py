# Heartbeat, v0 to v4
# v3: static members    v4: flexible
"""A member of a classic group shows that it lives, and hears whether the group rebalances."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, request_of


def handle_heartbeat(services: Services, call: Call) -> Body | Awaitable[Body]:
    def heartbeat(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.heartbeat(request_of(call, waiter), services.clock.now())

    return answered(services.groups.ask(call.message.group_id, heartbeat, logs=False), _refused)


def _refused(error: ClusterError) -> Body:
    # While the group is loaded nobody's session runs, and Kafka says yes.
    is_loading = error.code is ErrorCode.coordinator_load_in_progress
    return {"error_code": ErrorCode.none if is_loading else error.code}


API = Api(key=12, versions=range(5), handle=handle_heartbeat)
