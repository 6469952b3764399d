# ApiVersions, v0 to v4
# v1: throttle time    v3: flexible, client software name and version, features    v4: features may have a minimum of 0
"""Tells a client which APIs and versions this node offers: exactly what stands in the table; and what the cluster can do."""

from quorumlog.wire.api_versions import Feature, encode_api_versions, is_valid_client_software
from quorumlog.wire.catalogue import API_VERSIONS
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services

FEATURES = (
    Feature("eligible.leader.replicas.version", 0, 1, 1),  # KIP-966
    Feature("group.version", 0, 1, 1),  # KIP-848: clients take the new protocol of groups for offered
    Feature("metadata.version", 7, 25, 25),  # 3.3-IV3 to 4.0-IV3: what tools take the cluster for
    Feature("transaction.version", 0, 2, 2),  # KIP-890: each transaction has an epoch of its own
)


def handle_api_versions(services: Services, call: Call) -> Body:
    apis, epoch = services.api_versions, services.image.index
    if call.message is None:  # a version that we do not know: answered in v0, so that the client can choose another
        return ErrorCode.unsupported_version, apis
    message = call.message
    if call.version >= 3 and not is_valid_client_software(message.client_software_name, message.client_software_version):
        return ErrorCode.invalid_request, apis
    return ErrorCode.none, apis, FEATURES, epoch


API = Api(
    key=API_VERSIONS,
    versions=range(5),
    handle=handle_api_versions,
    encode=lambda version, body: (encode_api_versions(version, *body),),
)
