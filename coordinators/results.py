"""What goes into a shard and what comes out: a request, and the records and replies that it leads to.

Request -> shard -> Result(records to be logged; replies and effects, once all that was logged so far is committed)
"""

from dataclasses import dataclass
from typing import Any

from quorumlog.partitions.verification import Guard
from quorumlog.wire.message import Struct

Waiter = int
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client for one group. `waiter` is drawn by the shell: replies name it, now or after other requests."""

    waiter: Waiter
    version: int
    message: Struct
    """As the wire's codec gives it; for APIs that name many groups, the struct of this group."""
    client_id: str = ""
    client_host: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """`body` is what the encoder of the API takes (of this group's part, where a request names many)."""

    waiter: Waiter
    body: Body


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as the internal topic holds it, in Apache Kafka's own format; value None is a tombstone."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Writer:
    """The producer in whose transaction records are logged. The first of them need a guard, unless that has begun there."""

    producer_id: int
    producer_epoch: int
    guard: Guard | None


@dataclass(frozen=True, slots=True)
class Result:
    """Records are in the order in which they must be logged: all of them or none."""

    records: tuple[LogRecord, ...] = ()
    replies: tuple[Reply, ...] = ()
    effects: tuple[Any, ...] = ()
    """What the shell does next, in this order. A shard that is loaded asks for what its predecessor may not have done."""
    writer: Writer | None = None
