"""Replication messages as bytes: a length, a small protobuf header, and the record batches behind it, never copied into protobuf.

byte 0  header length  uint32, big endian
     4  header         LeaderMessage (proto/replication.proto)
        records        the batches of each section in turn, `size` bytes each, exactly as the leader stores them
"""

import struct
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from quorumlog.host.ports import Buffer
from quorumlog.proto.replication_pb2 import LeaderMessage, Section

LENGTH = struct.Struct(">I")


class BadMessage(ValueError):
    """A replication message that does not parse; the stream it came on must end."""


def encode_leader_message(message: LeaderMessage, records: list[Buffer]) -> list[Buffer]:
    header = message.SerializeToString()
    return [LENGTH.pack(len(header)), header, *records]


def decode_leader_message(data: bytes) -> Iterator[tuple[Section, memoryview]]:
    """Each section with its record batches, which are views into `data`. Raises BadMessage."""
    if len(data) < LENGTH.size:
        raise BadMessage(f"{len(data)} bytes are no message")
    view = memoryview(data)
    start = LENGTH.size + LENGTH.unpack_from(data)[0]
    message = LeaderMessage()
    try:
        message.ParseFromString(data[LENGTH.size : start])
    except DecodeError as error:
        raise BadMessage(f"header of {start - LENGTH.size} bytes does not parse: {error}") from error
    if start + sum(section.size for section in message.sections) != len(data):
        raise BadMessage(f"{len(data)} bytes, but header and sections say otherwise")
    for section in message.sections:
        yield section, view[start : start + section.size]
        start += section.size
