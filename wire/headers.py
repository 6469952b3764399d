"""What stands before each message: API key, version and correlation id.

request header   v1  api key int16, version int16, correlation id int32, client id nullable string (int16 length, always)
                 v2  the same, then tagged fields: with every flexible version
response header  v0  correlation id int32
                 v1  the same, then tagged fields: with every flexible version but those of ApiVersions, whose client does
                     not know yet what the broker speaks (KIP-511)
"""

import struct
from typing import NamedTuple

from quorumlog.wire.batches import Buffer
from quorumlog.wire.catalogue import API_VERSIONS, is_flexible, known_versions
from quorumlog.wire.cursor import Cursor

REQUEST_START = struct.Struct(">hhi")
CORRELATION_ID = struct.Struct(">i")
CLIENT_ID_LENGTH = struct.Struct(">h")
NO_TAGS = b"\x00"


class RequestHeader(NamedTuple):
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def read_request_header(frame: Buffer) -> tuple[RequestHeader, int]:
    """The header, and where the body begins. Raises DecodeError.

    Of an API or version that we do not know the header is read all the same, so that it can be answered; only then the position
    says nothing.
    """
    cursor = Cursor(frame)
    api_key, api_version, correlation_id = cursor.unpack(REQUEST_START, "request header")
    client_id = cursor.nullable_text(flexible=False, name="client id")
    header = RequestHeader(api_key, api_version, correlation_id, client_id)
    if api_version in known_versions(api_key) and is_flexible(api_key, api_version):
        cursor.skip_tags()
    return header, cursor.position


def encode_request_header(header: RequestHeader) -> bytes:
    client_id = None if header.client_id is None else header.client_id.encode()
    length = CLIENT_ID_LENGTH.pack(-1 if client_id is None else len(client_id))
    tags = NO_TAGS if is_flexible(header.api_key, header.api_version) else b""
    return REQUEST_START.pack(*header[:3]) + length + (client_id or b"") + tags


def encode_response_header(api_key: int, api_version: int, correlation_id: int) -> bytes:
    """A version of ours that we do not know gets the header of v0: only ApiVersions answers one at all."""
    return CORRELATION_ID.pack(correlation_id) + (NO_TAGS if _has_response_tags(api_key, api_version) else b"")


def read_response_header(frame: Buffer, api_key: int, api_version: int) -> tuple[int, int]:
    """The correlation id, and where the body begins. Raises DecodeError."""
    cursor = Cursor(frame)
    correlation_id = cursor.int32("correlation id")
    if _has_response_tags(api_key, api_version):
        cursor.skip_tags()
    return correlation_id, cursor.position


def _has_response_tags(api_key: int, api_version: int) -> bool:
    return api_key != API_VERSIONS and api_version in known_versions(api_key) and is_flexible(api_key, api_version)
