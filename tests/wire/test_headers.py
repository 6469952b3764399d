"""Aim: request and response headers are those of kio for every API and version, ApiVersions with its exception included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.request_header import v1, v2

from quorumlog.wire.catalogue import known_versions
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.headers import (
    RequestHeader,
    encode_request_header,
    encode_response_header,
    read_request_header,
    read_response_header,
)
from quorumlog.wire.schema import Direction
from tests.wire import twin


@pytest.mark.parametrize("client_id", [None, "", "kcat ä"])
def test_request_headers_agree_with_kio(client_id: str | None) -> None:
    """Each version of each API has the header version that kio's table gives it."""
    for api_key in twin.ALL_APIS:
        for version in known_versions(api_key):
            header_type = twin.table(api_key, version, Direction.REQUEST).__header_schema__
            assert header_type in (v1.RequestHeader, v2.RequestHeader)
            entity = header_type(request_api_key=api_key, request_api_version=version, correlation_id=77, client_id=client_id)
            frame = twin.encode(entity)
            header = RequestHeader(api_key, version, 77, client_id)
            assert encode_request_header(header) == frame
            assert read_request_header(memoryview(frame + b"body")) == (header, len(frame))


def test_response_headers_agree_with_kio() -> None:
    """Flexible answers have tags in the header, those of ApiVersions never."""
    for api_key in twin.ALL_APIS:
        for version in known_versions(api_key):
            header_type = twin.table(api_key, version, Direction.RESPONSE).__header_schema__
            frame = twin.encode(header_type(correlation_id=-5))
            assert encode_response_header(api_key, version, -5) == frame
            assert read_response_header(frame, api_key, version) == (-5, len(frame))


@pytest.mark.parametrize(("api_key", "version"), [(18, 9), (999, 0), (0, -1), (3, 32767)])
def test_headers_of_the_unknown_are_read(api_key: int, version: int) -> None:
    """An unknown API or version is for the dispatcher to answer, so its header must be readable."""
    frame = api_key.to_bytes(2, "big") + version.to_bytes(2, "big", signed=True) + b"\x00\x00\x00\x07\x00\x01x" + b"\xff"
    header, _ = read_request_header(frame)
    assert header == RequestHeader(api_key, version, 7, "x")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_refused(frame: bytes) -> None:
    """Nothing but DecodeError comes out of arbitrary bytes."""
    try:
        header, position = read_request_header(frame)
    except DecodeError:
        return
    assert 10 <= position <= len(frame)
    assert -(2**15) <= header.api_version < 2**15
