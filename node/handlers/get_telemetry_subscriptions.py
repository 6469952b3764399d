# GetTelemetrySubscriptions, v0
"""Tells clients which metrics of theirs are wanted (KIP-714): none. They ask again after the interval, and push nothing."""

from quorumlog.wire.compression import Compression
from quorumlog.wire.ids import NO_TOPIC_ID

from ..dispatch import Api, Body, Call
from ..services import Services

NO_CLIENT_ID = NO_TOPIC_ID  # both are the zero UUID
NOTHING_WANTED = 0  # the subscription's id
PUSH_INTERVAL_MS = 300_000
METRICS_BYTES_MAX = 1 << 20


def handle_get_telemetry_subscriptions(services: Services, call: Call) -> Body:
    has_id = call.message.client_instance_id != NO_CLIENT_ID
    return {
        "client_instance_id": call.message.client_instance_id if has_id else services.new_uuid(),
        "subscription_id": NOTHING_WANTED,
        "accepted_compression_types": [Compression.ZSTD, Compression.LZ4, Compression.GZIP, Compression.SNAPPY],
        "push_interval_ms": PUSH_INTERVAL_MS,
        "telemetry_max_bytes": METRICS_BYTES_MAX,
        "delta_temporality": True,
        "requested_metrics": [],
    }


API = Api(key=71, versions=range(1), handle=handle_get_telemetry_subscriptions)
