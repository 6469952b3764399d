# PushTelemetry, v0
"""Takes what a client pushes at its end, although nothing was wanted, and lets it fall."""

from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .get_telemetry_subscriptions import METRICS_BYTES_MAX, NO_CLIENT_ID, NOTHING_WANTED


def handle_push_telemetry(_services: Services, call: Call) -> Body:
    return {"error_code": _judge(call)}


def _judge(call: Call) -> ErrorCode:
    message = call.message
    if message.client_instance_id == NO_CLIENT_ID:
        return ErrorCode.invalid_request
    if message.compression_type not in list(Compression):
        return ErrorCode.unsupported_compression_type
    if message.subscription_id != NOTHING_WANTED:
        return ErrorCode.unknown_subscription_id  # the client asks what is wanted
    if len(message.metrics) > METRICS_BYTES_MAX:
        return ErrorCode.telemetry_too_large
    return ErrorCode.none


API = Api(key=72, versions=range(1), handle=handle_push_telemetry)
