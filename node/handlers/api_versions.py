# ApiVersions, v0 to v4
# v1: throttle time    v3: flexible, client software name and version    v4: features may have a minimum of 0
"""Tells a client which APIs and versions this node offers: exactly what stands in the table."""

from quorumlog.wire.api_versions import encode_api_versions, is_valid_client_software
from quorumlog.wire.catalogue import API_VERSIONS
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_api_versions(services: Services, call: Call) -> Body:
    if call.message is None:  # a version that we do not know: answered in v0, so that the client can choose another
        return ErrorCode.unsupported_version, services.api_versions
    message = call.message
    if call.version >= 3 and not is_valid_client_software(message.client_software_name, message.client_software_version):
        return ErrorCode.invalid_request, services.api_versions
    return ErrorCode.none, services.api_versions


API = Api(
    key=API_VERSIONS,
    versions=range(5),
    handle=handle_api_versions,
    encode=lambda version, body: (encode_api_versions(version, *body),),
)
