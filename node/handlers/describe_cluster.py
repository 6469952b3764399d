# DescribeCluster, v0 to v2
# v1: endpoint type    v2: fenced brokers
"""Tells an admin client which brokers there are."""

from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED

BROKERS, CONTROLLERS = 1, 2


def handle_describe_cluster(services: Services, call: Call) -> Body:
    message, image = call.message, services.image
    if call.version >= 1 and message.endpoint_type != BROKERS:
        known = message.endpoint_type == CONTROLLERS
        return {
            "error_code": ErrorCode.mismatched_endpoint_type if known else ErrorCode.unsupported_endpoint_type,
            "error_message": f"endpoint type {message.endpoint_type}; only brokers ({BROKERS}) are described here",
        }
    with_fenced = call.version >= 2 and message.include_fenced_brokers
    leader = services.cluster.leader
    return {
        "endpoint_type": BROKERS,
        "cluster_id": image.cluster_id,
        "controller_id": leader if leader is not None and image.is_live(leader) else services.config.node_id,
        "cluster_authorized_operations": CLUSTER_OPERATIONS if message.include_cluster_authorized_operations else NOT_ASKED,
        "brokers": [
            {
                "broker_id": broker.node_id,
                "host": broker.kafka.host,
                "port": broker.kafka.port,
                "rack": broker.rack,
                "is_fenced": broker.fenced,
            }
            for _, broker in sorted(image.brokers.items())
            if with_fenced or not broker.fenced
        ],
    }


API = Api(key=60, versions=range(3), handle=handle_describe_cluster)
