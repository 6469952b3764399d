# FindCoordinator, v0 to v6
# v1: key type, error messages    v3: flexible    v4: many keys    v6: share groups (KIP-932), which are not offered
"""Tells a client which broker coordinates its group, or its transactions. Creates their topics when the first one asks."""

from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..group_coordinator import GroupCoordinator
from ..services import Services
from ..transaction_coordinator import TransactionCoordinator

GROUP, TRANSACTION = 0, 1
MANY_KEYS_VERSION = 4


async def handle_find_coordinator(services: Services, call: Call) -> Body:
    message = call.message
    await services.suspects.news()  # or a client whose coordinator has just died is sent to it again
    if call.version < MANY_KEYS_VERSION:
        return await _find(services, message.key_type, message.key, all_is_well="NONE")  # Kafka's word for it
    found = {key: await _find(services, message.key_type, key, all_is_well="") for key in message.coordinator_keys}
    return {"coordinators": [{"key": key, **body} for key, body in found.items()]}


async def _find(services: Services, key_type: int, key: str, *, all_is_well: str) -> Body:
    try:
        broker = await _coordinator(services, key_type).find(key)
    except ClusterError as error:
        return {"error_code": error.code, "error_message": error.message, "node_id": -1, "host": "", "port": -1}
    return {
        "error_code": ErrorCode.none,
        "error_message": all_is_well,
        "node_id": broker.node_id,
        "host": broker.kafka.host,
        "port": broker.kafka.port,
    }


def _coordinator(services: Services, key_type: int) -> GroupCoordinator | TransactionCoordinator:
    if key_type == GROUP:
        return services.groups
    if key_type == TRANSACTION:
        return services.transactions
    raise ClusterError(
        ErrorCode.invalid_request,
        f"coordinator type {key_type}; there are those of groups ({GROUP}) and transactions ({TRANSACTION})",
    )


API = Api(key=10, versions=range(7), handle=handle_find_coordinator)
