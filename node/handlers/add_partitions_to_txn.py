# AddPartitionsToTxn, v0 to v5
# v2: PRODUCER_FENCED    v3: flexible    v4: many transactions, or to look only (KIP-890)    v5: TRANSACTION_ABORTABLE
"""Lets partitions take part in a transaction, before its producer writes to them."""

import asyncio
from typing import Any

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services
from .transaction_requests import FENCED_VERSION, check_transactional_id, code_for, places_of, producer_of

MANY_VERSION = 4
Codes = dict[TopicPartition, ErrorCode]


async def handle_add_partitions_to_txn(services: Services, call: Call) -> Body:
    message = call.message
    if call.version < MANY_VERSION:
        producer = Producer(message.v3_and_below_producer_id, message.v3_and_below_producer_epoch)
        topics = message.v3_and_below_topics
        codes = await _add(services, call, message.v3_and_below_transactional_id, producer, topics, only_verify=False)
        return {"results_by_topic_v3_and_below": _results(topics, codes)}
    added = [
        _add(services, call, one.transactional_id, producer_of(one), one.topics, only_verify=one.verify_only)
        for one in message.transactions
    ]
    results = [
        {"transactional_id": one.transactional_id, "topic_results": _results(one.topics, codes)}
        for one, codes in zip(message.transactions, await asyncio.gather(*added), strict=True)
    ]
    return {"error_code": ErrorCode.none, "results_by_transaction": results}


async def _add(
    services: Services, call: Call, transactional_id: str, producer: Producer, topics: Any, *, only_verify: bool
) -> Codes:
    """A code for each partition: all of them are added, or none."""
    places = places_of(topics)
    unknown = [tp for tp in places if services.image.partition(*tp) is None]
    if unknown:
        return dict.fromkeys(places, ErrorCode.operation_not_attempted) | dict.fromkeys(
            unknown, ErrorCode.unknown_topic_or_partition
        )
    try:
        check_transactional_id(transactional_id)
        outcome = await services.transactions.add_partitions(transactional_id, producer, places, only_verify=only_verify)
    except ClusterError as error:
        outcome = error
    if isinstance(outcome, ClusterError):
        code = code_for(outcome.code, knows_fenced=call.version >= FENCED_VERSION)
        return dict.fromkeys(places, code)
    codes: Codes = outcome.get("codes", {})
    return {tp: codes.get(tp, ErrorCode.none) for tp in places}


def _results(topics: Any, codes: Codes) -> list[Body]:
    return [
        {
            "name": topic.name,
            "results_by_partition": [
                {"partition_index": index, "partition_error_code": codes[TopicPartition(topic.name, index)]}
                for index in topic.partitions
            ],
        }
        for topic in topics
    ]


API = Api(key=24, versions=range(6), handle=handle_add_partitions_to_txn)
