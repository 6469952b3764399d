# WriteTxnMarkers, v1 to v2
# v2: the version of transactions, so that a marker ends no transaction of its own epoch (KIP-1228)
"""Ends transactions on partitions, as tools do with what hangs there (`kafka-transactions abort`). Our own coordinators use
another way, which also names the leader that is meant (`transaction_markers.py`)."""

from typing import Any

from quorumlog.coordinators.transaction_state import EPOCH_BUMPS_FROM
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker

from ..dispatch import Api, Body, Call
from ..services import Services
from ..transaction_messages import MarkerOrder, Target
from .transaction_requests import producer_of

ANY_LEADER_EPOCH, NO_DECISION = -1, -1


async def handle_write_txn_markers(services: Services, call: Call) -> Body:
    return {"markers": [await _write(services, one) for one in call.message.markers]}


async def _write(services: Services, wanted: Any) -> Body:
    places = [TopicPartition(topic.name, index) for topic in wanted.topics for index in topic.partition_indexes]
    states = {tp: services.image.partition(*tp) for tp in places}
    targets = {tp: Target(state.topic_id, state.partition, ANY_LEADER_EPOCH) for tp, state in states.items() if state is not None}
    order = MarkerOrder(
        producer_of(wanted),
        Marker(wanted.transaction_result, wanted.coordinator_epoch),
        is_strict=wanted.transaction_version >= EPOCH_BUMPS_FROM,
        decision=NO_DECISION,
        targets=tuple(targets.values()),
    )
    codes = dict(zip(targets, await services.markers.write([order]), strict=True))
    return {
        "producer_id": wanted.producer_id,
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": index,
                        "error_code": codes.get(TopicPartition(topic.name, index), ErrorCode.unknown_topic_or_partition),
                    }
                    for index in topic.partition_indexes
                ],
            }
            for topic in wanted.topics
        ],
    }


API = Api(key=27, versions=range(1, 3), handle=handle_write_txn_markers)
