"""Encoders compiled from the message tables: a closure for each field, made once for each version of a message.

    compile_encoder(api_key, version, direction) -> encode(body, write)

`write` takes each piece of bytes as it comes.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any
from uuid import UUID

from quorumlog.wire.cursor import TEXT_BYTES_MAX
from quorumlog.wire.schema import FIXED_FORMATS, STRUCT, Direction, FieldSchema, StructSchema, all_fields, message_schema

Body = Mapping[str, Any]
Write = Callable[[bytes], None]
Encode = Callable[[Any, Write], None]

INT16 = struct.Struct(">h")
INT32 = struct.Struct(">i")
NULL_STRUCT = b"\xff"
PRESENT_STRUCT = b"\x01"
SHORT_VARINTS = [bytes([value]) for value in range(128)]


class EncodeError(ValueError):
    """A body that is no such message: a bug of ours."""


@cache
def compile_encoder(api_key: int, version: int, direction: Direction) -> Callable[[Body, Write], None]:
    """Raises KeyError unless catalogue.known_versions has the version."""
    return _Compiler(api_key, direction).struct(message_schema(api_key, version, direction), path=())


def unsigned_varint(value: int) -> bytes:
    if value < 128:
        return SHORT_VARINTS[value]
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def count(items: int, *, flexible: bool) -> bytes:
    """The count of an array, or the length of bytes. -1 is null."""
    return unsigned_varint(items + 1) if flexible else INT32.pack(items)


def text(value: str, *, flexible: bool) -> bytes:
    encoded = value.encode()
    if len(encoded) > TEXT_BYTES_MAX:
        raise EncodeError(f"text of {len(encoded)} bytes, allowed are {TEXT_BYTES_MAX}")
    return (unsigned_varint(len(encoded) + 1) if flexible else INT16.pack(len(encoded))) + encoded


def nullable_text(value: str | None, *, flexible: bool) -> bytes:
    if value is None:
        return SHORT_VARINTS[0] if flexible else INT16.pack(-1)
    return text(value, flexible=flexible)


class _Compiler:
    """Lives while one message is compiled."""

    def __init__(self, api_key: int, direction: Direction) -> None:
        self._api_key = api_key
        self._direction = direction

    def struct(self, schema: StructSchema, path: tuple[str, ...]) -> Callable[[Body, Write], None]:
        known = frozenset(field.name for field in all_fields(self._api_key, self._direction, path))
        steps = self._steps(schema, path)

        def encode(body: Body, write: Write) -> None:
            if not body.keys() <= known:
                # A name of another version is dropped, but one of no version is a slip of ours.
                raise EncodeError(f"{schema.name} has no field {', '.join(sorted(body.keys() - known))}")
            for step in steps:
                step(body, write)

        return encode

    def _steps(self, schema: StructSchema, path: tuple[str, ...]) -> list[Encode]:
        steps: list[Encode] = []
        run: list[FieldSchema] = []
        for field in schema.untagged:
            if field.kind in FIXED_FORMATS and not field.is_array:
                run.append(field)
                continue
            if run:
                steps.append(_run(run))
                run = []
            steps.append(_single(field, self._value(field, schema.is_flexible, path)))
        if run:
            steps.append(_run(run))
        if schema.is_flexible:
            steps.append(self._tagged(schema, path))
        return steps

    def _tagged(self, schema: StructSchema, path: tuple[str, ...]) -> Encode:
        if not schema.tagged:
            return lambda body, write: write(b"\x00")
        encoders = [(field, self._value(field, True, path)) for field in schema.tagged]
        # A field that holds its default is not written.
        plan = [(f.name, unsigned_varint(f.tag or 0), encode, _encoded(encode, _default_of(f))) for f, encode in encoders]

        def step(body: Body, write: Write) -> None:
            found: list[bytes] = []
            for name, tag, encode, default in plan:
                if name in body and (value := _encoded(encode, body[name])) != default:
                    found += (tag, unsigned_varint(len(value)), value)
            write(unsigned_varint(len(found) // 3))
            for piece in found:
                write(piece)

        return step

    def _value(self, field: FieldSchema, flexible: bool, path: tuple[str, ...]) -> Encode:
        if field.items is not None:
            encode_item = self.struct(field.items, (*path, field.name))
            if field.is_array:
                return _array(field, flexible, encode_item)
            return _nullable_struct(encode_item) if field.is_nullable else encode_item
        if not field.is_array:
            return _scalar(field, flexible)
        if field.kind in FIXED_FORMATS:
            return _fixed_items(field, flexible)
        return _array(field, flexible, _uuid if field.kind == "uuid" else _string(field.name, flexible, nullable=False))


def _default_of(field: FieldSchema) -> Any:
    """The value that stands for a missing field; a struct that may not be null is encoded from its own defaults."""
    return {} if field.kind == STRUCT and not field.is_array and not field.is_nullable else field.default


def _encoded(encode: Encode, value: Any) -> bytes:
    pieces: list[bytes] = []
    encode(value, pieces.append)
    return b"".join(pieces)


def _run(fields: list[FieldSchema]) -> Encode:
    """Neighbours of fixed width are packed in one go."""
    pack = struct.Struct(">" + "".join(FIXED_FORMATS[field.kind] for field in fields)).pack
    defaults = [(field.name, field.default) for field in fields]
    if len(fields) == 1:
        ((name, default),) = defaults
        return lambda body, write: write(pack(body.get(name, default)))
    values_of = itemgetter(*(field.name for field in fields))

    def step(body: Body, write: Write) -> None:
        try:
            values = values_of(body)
        except KeyError:
            values = tuple([body.get(name, default) for name, default in defaults])
        write(pack(*values))

    return step


def _single(field: FieldSchema, encode: Encode) -> Encode:
    name, default = field.name, _default_of(field)
    return lambda body, write: encode(body.get(name, default), write)


def _scalar(field: FieldSchema, flexible: bool) -> Encode:
    match field.kind:
        case "string":
            return _string(field.name, flexible, nullable=field.is_nullable)
        case "bytes" | "records":
            return _blob(field, flexible)
        case "uuid":
            return _uuid
        case kind:
            pack = struct.Struct(">" + FIXED_FORMATS[kind]).pack
            return lambda value, write: write(pack(value))


def _string(name: str, flexible: bool, *, nullable: bool) -> Encode:
    def encode(value: str | None, write: Write) -> None:
        if value is None:
            write(_null(nullable_text(None, flexible=flexible), name, nullable))
        else:
            write(text(value, flexible=flexible))

    return encode


def _blob(field: FieldSchema, flexible: bool) -> Encode:
    name, nullable = field.name, field.is_nullable

    def encode(value: bytes | None, write: Write) -> None:
        if value is None:
            write(_null(count(-1, flexible=flexible), name, nullable))
            return
        write(count(len(value), flexible=flexible))
        write(value)

    return encode


def _uuid(value: UUID, write: Write) -> None:
    write(value.bytes)


def _nullable_struct(encode_struct: Encode) -> Encode:
    """A byte in front says whether there is one (KIP-893)."""

    def encode(value: Body | None, write: Write) -> None:
        if value is None:
            write(NULL_STRUCT)
            return
        write(PRESENT_STRUCT)
        encode_struct(value, write)

    return encode


def _array(field: FieldSchema, flexible: bool, encode_item: Encode) -> Encode:
    name, nullable = field.name, field.is_nullable

    def encode(items: Sequence[Any] | None, write: Write) -> None:
        if items is None:
            write(_null(count(-1, flexible=flexible), name, nullable))
            return
        write(count(len(items), flexible=flexible))
        for item in items:
            encode_item(item, write)

    return encode


def _fixed_items(field: FieldSchema, flexible: bool) -> Encode:
    name, nullable, letter = field.name, field.is_nullable, FIXED_FORMATS[field.kind]

    def encode(items: Sequence[Any] | None, write: Write) -> None:
        if items is None:
            write(_null(count(-1, flexible=flexible), name, nullable))
            return
        write(count(len(items), flexible=flexible))
        write(struct.pack(f">{len(items)}{letter}", *items))

    return encode


def _null(encoded: bytes, name: str, nullable: bool) -> bytes:
    if not nullable:
        raise EncodeError(f"{name} may not be null in this version")
    return encoded
