# OffsetCommit, v2 to v10
# v2 to v4: retention time    v6: leader epochs    v7: static members    v8: flexible    v9: members of KIP-848    v10: topic ids
"""Stores how far a group has read. Answered once the offsets are on the disks of the whole in-sync set."""

from collections.abc import Awaitable

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import answered, request_of


def handle_offset_commit(services: Services, call: Call) -> Body | Awaitable[Body]:
    def commit(shard: GroupShard, waiter: Waiter) -> Result:
        return shard.commit(request_of(call, waiter), services.clock.now(), services.clock.wall_ms())

    def refused(error: ClusterError) -> Body:
        return {
            "topics": [
                {
                    "name": topic.name,
                    "topic_id": topic.topic_id,
                    "partitions": [
                        {"partition_index": one.partition_index, "error_code": error.code} for one in topic.partitions
                    ],
                }
                for topic in call.message.topics
            ]
        }

    return answered(services.groups.ask(call.message.group_id, commit), refused)


API = Api(key=8, versions=range(2, 11), handle=handle_offset_commit)
