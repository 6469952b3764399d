# DescribeTransactions, v0
"""Tells how the transactions of certain transactional ids stand (KIP-664)."""

from quorumlog.coordinators.results import Reply, Result, Waiter
from quorumlog.coordinators.transaction_shard import TransactionShard
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .transaction_requests import check_transactional_id


async def handle_describe_transactions(services: Services, call: Call) -> Body:
    wanted = dict.fromkeys(call.message.transactional_ids)  # each once: an answer may be far longer than the question
    return {"transaction_states": [await _describe(services, transactional_id) for transactional_id in wanted]}


async def _describe(services: Services, transactional_id: str) -> Body:
    def describe(shard: TransactionShard, waiter: Waiter) -> Result:
        return Result((), (Reply(waiter, shard.describe(transactional_id)),))

    try:
        check_transactional_id(transactional_id)
        outcome = await services.transactions.led_by_us(transactional_id).ask(describe, logs=False)
    except ClusterError as error:
        outcome = error
    if isinstance(outcome, ClusterError):
        return {"error_code": outcome.code, "transactional_id": transactional_id, "transaction_state": "", "topics": []}
    return outcome


API = Api(key=65, versions=range(1), handle=handle_describe_transactions)
