"""Where a client should go instead: what Produce and Fetch answer along with NOT_LEADER_OR_FOLLOWER (KIP-951)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from quorumlog.wire.encoding import count, nullable_text, text, unsigned_varint

LEADER = struct.Struct(">ii")
INT32 = struct.Struct(">i")
NO_TAGS = b"\x00"


@dataclass(frozen=True, slots=True)
class CurrentLeader:
    """A partition's leader, as far as this node knows."""

    leader_id: int = -1
    leader_epoch: int = -1

    def encoded(self) -> bytes:
        return LEADER.pack(self.leader_id, self.leader_epoch) + NO_TAGS


@dataclass(frozen=True, slots=True)
class NodeEndpoint:
    """How to reach a node that a CurrentLeader names."""

    node_id: int
    host: str
    port: int
    rack: str | None = None

    def encoded(self) -> bytes:
        host = text(self.host, flexible=True)
        rack = nullable_text(self.rack, flexible=True)
        return b"".join((INT32.pack(self.node_id), host, INT32.pack(self.port), rack, NO_TAGS))


def encoded_endpoints(endpoints: Sequence[NodeEndpoint]) -> bytes:
    return count(len(endpoints), flexible=True) + b"".join(endpoint.encoded() for endpoint in endpoints)


def tagged_fields(fields: Sequence[tuple[int, bytes]]) -> bytes:
    """The tail of a flexible struct: fields by rising tag."""
    pieces = [unsigned_varint(len(fields))]
    for tag, value in fields:
        pieces += (unsigned_varint(tag), unsigned_varint(len(value)), value)
    return b"".join(pieces)
