# OffsetFetch, v1 to v10
# v2: all topics, an error of its own    v5: leader epochs    v6: flexible    v7: require stable    v8: many groups
# v9: members of KIP-848    v10: topic ids
"""Tells how far groups have read. Who requires it is told nothing that a transaction may be about to change."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..group_coordinator_replies import Answer
from ..services import Services
from .group_requests import all_answered, request_of

MANY_GROUPS_VERSION = 8
OWN_ERROR_VERSION = 2
# Consumers of old know none of these in this answer, and this one makes them look for the coordinator again, as in Kafka.
REMAPPED = {ErrorCode.coordinator_not_available: ErrorCode.not_coordinator}


@dataclass(frozen=True, slots=True)
class OneGroup:
    """What versions before MANY_GROUPS_VERSION ask, as later ones do."""

    group_id: str
    topics: Any
    member_id: str | None = None
    member_epoch: int = -1


def handle_offset_fetch(services: Services, call: Call) -> Body | Awaitable[Body]:
    message = call.message
    if call.version < MANY_GROUPS_VERSION:
        return _answer_one(_ask(services, call, OneGroup(message.group_id, message.topics)), call)
    answers = [_ask(services, call, group) for group in message.groups]
    return _answer_many(answers, [group.group_id for group in message.groups])


async def _answer_one(answer: Answer, call: Call) -> Body:
    outcome = await answer
    return _refused(call, outcome) if isinstance(outcome, ClusterError) else {"topics": outcome["topics"]}


async def _answer_many(answers: list[Answer], group_ids: list[str]) -> Body:
    return {"groups": await all_answered(answers, [partial(_refused_group, group_id) for group_id in group_ids])}


def _ask(services: Services, call: Call, group: Any) -> Answer:
    def fetch(shard: GroupShard, waiter: Waiter) -> Result:
        requires_stable = call.message.require_stable
        return shard.fetch_offsets(request_of(call, waiter, group), services.clock.now(), requires_stable=requires_stable)

    return services.groups.read_offsets(group.group_id, fetch)


def _refused_group(group_id: str, error: ClusterError) -> Body:
    return {"group_id": group_id, "error_code": REMAPPED.get(error.code, error.code)}


def _refused(call: Call, error: ClusterError) -> Body:
    code = REMAPPED.get(error.code, error.code)
    if call.version >= OWN_ERROR_VERSION:
        return {"error_code": code}
    unknown = {"committed_offset": -1, "metadata": "", "error_code": code}
    return {
        "topics": [
            {"name": topic.name, "partitions": [{"partition_index": index, **unknown} for index in topic.partition_indexes]}
            for topic in call.message.topics
        ]
    }


API = Api(key=9, versions=range(1, 11), handle=handle_offset_fetch)
