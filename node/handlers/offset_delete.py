# OffsetDelete, v0
"""Forgets how far a group has read, of topics that none of its members reads."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, check_group_id, error_body, request_of


def handle_offset_delete(services: Services, call: Call) -> Body | Awaitable[Body]:
    def delete(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.delete_offsets(request_of(call, waiter), services.clock.now())

    try:
        check_group_id(call.message.group_id)
    except ClusterError as error:
        return error_body(error)
    return answered(services.groups.ask(call.message.group_id, delete), error_body)


API = Api(key=47, versions=range(1), handle=handle_offset_delete)
