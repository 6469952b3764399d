# ConsumerGroupHeartbeat, v0 to v1
# v1: regular expressions, member ids from the client (KIP-1082)
"""The one request of a member in the protocol of KIP-848: it joins, reports what it has, hears what it shall have, and leaves."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, request_of


def handle_consumer_group_heartbeat(services: Services, call: Call) -> Body | Awaitable[Body]:
    def heartbeat(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.consumer_heartbeat(request_of(call, waiter), services.clock.now())

    return answered(services.groups.ask(call.message.group_id, heartbeat), _refused)


def _refused(error: ClusterError) -> Body:
    return {"error_code": error.code, "error_message": error.message}


API = Api(key=68, versions=range(2), handle=handle_consumer_group_heartbeat)
