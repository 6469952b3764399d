# ListGroups, v0 to v5
# v3: flexible    v4: states (KIP-518)    v5: types (KIP-848)
"""Lists the groups that this broker coordinates; clients ask every broker."""

from quorumlog.coordinators.results import Reply, Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import error_body


async def handle_list_groups(services: Services, call: Call) -> Body:
    states = {state.lower() for state in call.message.states_filter}
    types = {kind.lower() for kind in call.message.types_filter}
    try:
        outcomes = [await answer for answer in services.groups.ask_all(_list)]
    except ClusterError as error:
        return error_body(error)
    groups: list[Body] = []
    for outcome in outcomes:
        if not isinstance(outcome, ClusterError):
            groups += outcome["groups"]
        elif outcome.code is not ErrorCode.not_coordinator:  # it has moved: the other broker lists it
            return error_body(outcome)
    return {"error_code": ErrorCode.none, "groups": [group for group in groups if _is_wanted(group, states, types)]}


def _list(shard: GroupShard, waiter: Waiter) -> Result:
    return Result((), (Reply(waiter, {"groups": shard.groups()}),))


def _is_wanted(group: Body, states: set[str], types: set[str]) -> bool:
    return (not states or group["group_state"].lower() in states) and (not types or group["group_type"].lower() in types)


API = Api(key=16, versions=range(6), handle=handle_list_groups)
