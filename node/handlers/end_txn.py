# EndTxn, v0 to v5
# v2: PRODUCER_FENCED    v3: flexible    v4: TRANSACTION_ABORTABLE    v5: an epoch for each transaction (KIP-890)
"""Ends a transaction: answered once the decision is on the disks of the whole in-sync set. The partitions are told meanwhile."""

from quorumlog.coordinators.transaction_state import EPOCH_BUMPS_FROM
from quorumlog.wire.errors import ClusterError

from ..dispatch import Api, Body, Call
from ..services import Services
from .transaction_requests import FENCED_VERSION, check_transactional_id, code_for, producer_of

EPOCHS_VERSION = 5


async def handle_end_txn(services: Services, call: Call) -> Body:
    message = call.message
    try:
        check_transactional_id(message.transactional_id)
        outcome = await services.transactions.end(
            message.transactional_id,
            producer_of(message),
            is_commit=message.committed,
            client_version=EPOCH_BUMPS_FROM if call.version >= EPOCHS_VERSION else 0,
        )
    except ClusterError as error:
        outcome = error
    if isinstance(outcome, ClusterError):
        code = code_for(outcome.code, knows_fenced=call.version >= FENCED_VERSION)
        return {"error_code": code, "producer_id": -1, "producer_epoch": -1}
    return outcome


API = Api(key=26, versions=range(6), handle=handle_end_txn)
