# InitProducerId, v0 to v5
# v2: flexible    v3: may name the id and epoch it had    v4: PRODUCER_FENCED    v5: TRANSACTION_ABORTABLE
# (v6, for two-phase commit and the keeping of prepared transactions, KIP-939, is not offered)
"""Gives a producer its id (KIP-98); one with a transactional id also an epoch, which shuts out whoever had it before."""

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .transaction_requests import code_for

TIMEOUT_S = 5.0
FENCED_VERSION = 4


async def handle_init_producer_id(services: Services, call: Call) -> Body:
    message = call.message
    if message.transactional_id == "" or (message.producer_id < 0) != (message.producer_epoch < 0):
        return _refusal(ErrorCode.invalid_request)
    if message.transactional_id is not None:
        return await _begin(services, call)
    # What id the producer had before does not matter: without a transaction, Kafka always gives a new one.
    try:
        producer_id = await services.producer_ids.take(TIMEOUT_S)
    except ClusterError:
        return _refusal(ErrorCode.coordinator_not_available)
    return {"producer_id": producer_id, "producer_epoch": 0}


async def _begin(services: Services, call: Call) -> Body:
    message = call.message
    expected = Producer(message.producer_id, message.producer_epoch) if message.producer_id >= 0 else None
    outcome = await services.transactions.init_producer(message.transactional_id, message.transaction_timeout_ms, expected)
    if isinstance(outcome, ClusterError):
        return _refusal(code_for(outcome.code, knows_fenced=call.version >= FENCED_VERSION))
    return outcome if "producer_id" in outcome else _refusal(outcome["error_code"])


def _refusal(code: ErrorCode) -> Body:
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}


API = Api(key=22, versions=range(6), handle=handle_init_producer_id)
