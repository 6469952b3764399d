# InitProducerId, v0 to v5
# v2: flexible    v3: may name the id and epoch it had    v4: PRODUCER_FENCED    v5: TRANSACTION_ABORTABLE
"""Gives an idempotent producer its id (KIP-98). Transactions are not offered yet, and refused clearly."""

from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services

TIMEOUT_S = 5.0


async def handle_init_producer_id(services: Services, call: Call) -> Body:
    message = call.message
    if message.transactional_id == "" or (message.producer_id < 0) != (message.producer_epoch < 0):
        return _refusal(ErrorCode.invalid_request)
    if message.transactional_id is not None:
        # Kafka's answer where no transaction coordinator can be had, and final for clients.
        return _refusal(ErrorCode.transactional_id_authorization_failed)
    # What id the producer had before does not matter: without a transaction, Kafka always gives a new one.
    try:
        producer_id = await services.producer_ids.take(TIMEOUT_S)
    except ClusterError:
        return _refusal(ErrorCode.coordinator_not_available)
    return {"producer_id": producer_id, "producer_epoch": 0}


def _refusal(code: ErrorCode) -> Body:
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}


API = Api(key=22, versions=range(6), handle=handle_init_producer_id)
