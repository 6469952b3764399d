# UnregisterBroker, v0
"""Forgets a broker that is gone for good, through the controller (KIP-500)."""

from quorumlog.metadata.requests import UnregisterBroker
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services

TIMEOUT_S = 10.0


async def handle_unregister_broker(services: Services, call: Call) -> Body:
    node_id = call.message.broker_id
    if services.image.is_live(node_id):
        # It would register anew at once, and its replicas count as lost: nobody remembers whose disk an unknown broker brings.
        sentence = f"broker {node_id} is live; only one that has stopped can be unregistered"
        return {"error_code": ErrorCode.invalid_request, "error_message": sentence}
    try:
        await services.controller.request(UnregisterBroker(node_id), timeout_s=TIMEOUT_S)
    except ClusterError as error:
        return {"error_code": error.code, "error_message": error.message}
    return {"error_code": ErrorCode.none, "error_message": None}


API = Api(key=64, versions=range(1), handle=handle_unregister_broker)
