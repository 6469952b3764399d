"""Messages to bytes and back, for every API and version in the catalogue.

    decode_request(api_key, version, frame, position) -> Struct        a handler's input
    encode_response(api_key, version, {"topics": [...]}) -> bytes      a handler's answer

Produce and Fetch requests have codecs of their own (produce.py, fetch.py), which do not copy records.
"""

import struct
from collections.abc import Iterable

from quorumlog.wire.batches import Buffer
from quorumlog.wire.catalogue import api_name, known_versions
from quorumlog.wire.cursor import ITEMS_MAX, RESPONSE_ITEMS_MAX, Cursor, DecodeError
from quorumlog.wire.decoding import compile_decoder
from quorumlog.wire.encoding import Body, EncodeError, compile_encoder
from quorumlog.wire.message import Struct
from quorumlog.wire.schema import Direction

__all__ = [
    "DecodeError",
    "EncodeError",
    "Struct",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "prepare",
]


def decode_request(api_key: int, version: int, frame: Buffer, position: int = 0) -> Struct:
    """The request whose body begins at `position`. What follows it is ignored, as Kafka does: librdkafka 2.16 has three bytes too
    many in a Metadata request for all topics.

    Raises DecodeError if it is anything else, KeyError if the version is not in catalogue.known_versions.
    """
    return _decode(api_key, version, Direction.REQUEST, frame, position)


def decode_response(api_key: int, version: int, frame: Buffer, position: int = 0) -> Struct:
    """As decode_request, but the response must end with the frame."""
    return _decode(api_key, version, Direction.RESPONSE, frame, position)


def encode_response(api_key: int, version: int, body: Body) -> bytes:
    """The body of nested mappings and sequences, by the names of the schema.

    What is missing takes the schema's default; what this version lacks is dropped. Raises EncodeError for a name that no version
    has, or a value that its field cannot hold, KeyError if the version is not in catalogue.known_versions.
    """
    return _encode(api_key, version, Direction.RESPONSE, body)


def encode_request(api_key: int, version: int, body: Body) -> bytes:
    """As encode_response."""
    return _encode(api_key, version, Direction.REQUEST, body)


def prepare(api_keys: Iterable[int]) -> None:
    """Compiles all that a node needs to serve these APIs: some 20 ms each, which would else be spent in its first request."""
    for api_key in api_keys:
        for version in known_versions(api_key):
            compile_decoder(api_key, version, Direction.REQUEST)
            compile_encoder(api_key, version, Direction.RESPONSE)


def _decode(api_key: int, version: int, direction: Direction, frame: Buffer, position: int) -> Struct:
    decode = compile_decoder(api_key, version, direction)
    cursor = Cursor(frame, position, items_max=ITEMS_MAX if direction is Direction.REQUEST else RESPONSE_ITEMS_MAX)
    try:
        message = decode(cursor)
        if direction is Direction.RESPONSE:
            cursor.finish()
    except DecodeError as error:
        raise DecodeError(f"{_title(api_key, version, direction)}: {error}") from None
    return message


def _encode(api_key: int, version: int, direction: Direction, body: Body) -> bytes:
    encode = compile_encoder(api_key, version, direction)
    pieces: list[bytes] = []
    try:
        encode(body, pieces.append)
    except (EncodeError, struct.error, TypeError, AttributeError) as error:
        raise EncodeError(f"{_title(api_key, version, direction)}: {error}") from error
    return b"".join(pieces)


def _title(api_key: int, version: int, direction: Direction) -> str:
    return f"{api_name(api_key)} v{version} {direction.name.lower()}"
