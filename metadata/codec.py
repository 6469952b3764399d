"""Records, snapshots, requests and replies as bytes (proto/metadata.proto, proto/controller.proto)."""

from collections.abc import Iterable
from typing import Any

from quorumlog.proto import controller_pb2, metadata_pb2

from .mapping import ChoiceForm, parse
from .records import CorruptRecord, Record
from .requests import Reply, Request

__all__ = [
    "CorruptRecord",
    "decode_records",
    "decode_reply",
    "decode_request",
    "encode_records",
    "encode_reply",
    "encode_request",
    "record_messages",
    "records_of",
]

RECORD = ChoiceForm(Record, metadata_pb2.Record)
REQUEST = ChoiceForm(Request, controller_pb2.ControllerRequest)
REPLY = ChoiceForm(Reply, controller_pb2.ControllerReply)


def encode_records(records: Iterable[Record]) -> bytes:
    """One batch: a command for the metadata log."""
    return metadata_pb2.Batch(records=record_messages(records)).SerializeToString(deterministic=True)


def decode_records(data: bytes) -> tuple[Record, ...]:
    """Raises CorruptRecord."""
    try:
        return records_of(parse(metadata_pb2.Batch, data).records)
    except ValueError as error:
        raise CorruptRecord(f"metadata command of {len(data)} bytes: {error}") from error


def record_messages(records: Iterable[Record]) -> list[metadata_pb2.Record]:
    return [RECORD.to_message(record) for record in records]  # type: ignore[misc]


def records_of(messages: Iterable[metadata_pb2.Record]) -> tuple[Record, ...]:
    """Raises ValueError."""
    return tuple(RECORD.from_message(message) for message in messages)


def encode_request(request: Request) -> bytes:
    return REQUEST.encode(request)


def decode_request(data: bytes) -> Request:
    """Raises CorruptRecord for anything but a request that this version knows."""
    return _decoded(REQUEST, data)  # type: ignore[no-any-return]


def encode_reply(reply: Reply) -> bytes:
    return REPLY.encode(reply)


def decode_reply(data: bytes) -> Reply:
    """Raises CorruptRecord."""
    return _decoded(REPLY, data)  # type: ignore[no-any-return]


def _decoded(form: ChoiceForm, data: bytes) -> Any:
    try:
        return form.decode(data)
    except ValueError as error:
        raise CorruptRecord(f"message of {len(data)} bytes: {error}") from error
