"""Decoders compiled from the message tables: a closure for each field, made once for each version of a message.

compile_decoder(api_key, version, direction) -> decode(cursor) -> Struct
"""

import struct
from collections.abc import Callable
from functools import cache
from operator import itemgetter
from typing import Any

from quorumlog.wire.catalogue import known_versions
from quorumlog.wire.cursor import Cursor, not_null
from quorumlog.wire.message import Struct, struct_type
from quorumlog.wire.schema import FIXED_FORMATS, STRUCT, Direction, FieldSchema, StructSchema, all_fields, message_schema

Decode = Callable[[Cursor], Any]
Step = Callable[[Cursor, list[Any]], None]
"""Appends the value of one field, or those of a run of fixed width."""

UUID_BYTES = 16


@cache
def compile_decoder(api_key: int, version: int, direction: Direction) -> Callable[[Cursor], Struct]:
    """Raises KeyError unless catalogue.known_versions has the version."""
    return _Compiler(api_key, direction).struct(message_schema(api_key, version, direction), path=())


class _Compiler:
    """Lives while one message is compiled."""

    def __init__(self, api_key: int, direction: Direction) -> None:
        self._api_key = api_key
        self._direction = direction

    def struct(self, schema: StructSchema, path: tuple[str, ...]) -> Callable[[Cursor], Struct]:
        union = all_fields(self._api_key, self._direction, path)
        present = [*schema.untagged, *schema.tagged]
        names = [field.name for field in present]
        absent = [field for field in union if field.name not in names]
        absent_values = [self._default_value(field, path) for field in absent]
        new = _in_order(names + [field.name for field in absent], _type_of(self._api_key, self._direction, path))
        steps = self._steps(schema, path)

        def decode(cursor: Cursor) -> Struct:
            values: list[Any] = []
            for step in steps:
                step(cursor, values)
            values += absent_values
            return new(values)

        return decode

    def _steps(self, schema: StructSchema, path: tuple[str, ...]) -> list[Step]:
        steps: list[Step] = []
        run: list[FieldSchema] = []
        for field in schema.untagged:
            if field.kind in FIXED_FORMATS and not field.is_array:
                run.append(field)
                continue
            if run:
                steps.append(_run(run))
                run = []
            steps.append(_single(self._value(field, schema.is_flexible, path)))
        if run:
            steps.append(_run(run))
        if schema.is_flexible:
            steps.append(self._tagged(schema, path))
        return steps

    def _tagged(self, schema: StructSchema, path: tuple[str, ...]) -> Step:
        if not schema.tagged:
            return lambda cursor, values: cursor.skip_tags()
        defaults = [self._default_value(field, path) for field in schema.tagged]
        known = {field.tag: (index, self._value(field, True, path)) for index, field in enumerate(schema.tagged)}

        def step(cursor: Cursor, values: list[Any]) -> None:
            found = defaults.copy()
            for tag in cursor.tags():
                if tag in known:
                    index, decode = known[tag]
                    found[index] = decode(cursor)
                else:
                    cursor.position = cursor.end
            values += found

        return step

    def _value(self, field: FieldSchema, flexible: bool, path: tuple[str, ...]) -> Decode:
        if field.items is not None:
            decode_item = self.struct(field.items, (*path, field.name))
            if field.is_array:
                return _structs(field, flexible, decode_item)
            return _nullable_struct(field, decode_item) if field.is_nullable else decode_item
        if not field.is_array:
            return _scalar(field, flexible)
        return _fixed_items(field, flexible) if field.kind in FIXED_FORMATS else _items(field, flexible)

    def _default_value(self, field: FieldSchema, path: tuple[str, ...]) -> Any:
        """What an absent field holds; of a struct that may not be null, a struct of defaults."""
        if field.kind != STRUCT or field.is_array or field.is_nullable:
            return field.default
        inner = (*path, field.name)
        defaults = [self._default_value(item, inner) for item in all_fields(self._api_key, self._direction, inner)]
        return _type_of(self._api_key, self._direction, inner)(*defaults)


@cache
def _type_of(api_key: int, direction: Direction, path: tuple[str, ...]) -> type[Struct]:
    fields = all_fields(api_key, direction, path)
    message = message_schema(api_key, known_versions(api_key)[-1], direction)
    return struct_type("_".join((message.name, *path)), [field.name for field in fields])


def _in_order(names: list[str], new: type[Struct]) -> Callable[[list[Any]], Struct]:
    """Makes a struct of values that come in the order of `names`."""
    wanted: tuple[str, ...] = new.__slots__
    if names == list(wanted):
        return lambda values: new(*values)
    if len(wanted) == 1:
        return lambda values: new(values[0])
    arrange = itemgetter(*(names.index(name) for name in wanted))
    return lambda values: new(*arrange(values))


def _run(fields: list[FieldSchema]) -> Step:
    """Neighbours of fixed width are unpacked in one go."""
    layout = struct.Struct(">" + "".join(FIXED_FORMATS[field.kind] for field in fields))
    name = " to ".join(dict.fromkeys((fields[0].name, fields[-1].name)))

    def step(cursor: Cursor, values: list[Any]) -> None:
        values += cursor.unpack(layout, name)

    return step


def _single(decode: Decode) -> Step:
    return lambda cursor, values: values.append(decode(cursor))


def _scalar(field: FieldSchema, flexible: bool) -> Decode:
    name = field.name
    match field.kind:
        case "string" if field.is_nullable:
            return lambda cursor: cursor.nullable_text(flexible=flexible, name=name)
        case "string":
            return lambda cursor: cursor.required_text(flexible=flexible, name=name)
        case "bytes" | "records":
            return _blob(field, flexible)
        case "uuid":
            return lambda cursor: cursor.uuid(name)
        case kind:
            layout = struct.Struct(">" + FIXED_FORMATS[kind])
            return lambda cursor: cursor.unpack(layout, name)[0]


def _blob(field: FieldSchema, flexible: bool) -> Decode:
    name, nullable = field.name, field.is_nullable

    def decode(cursor: Cursor) -> bytes | None:
        length = cursor.length(flexible=flexible, name=name)
        return None if length < 0 and nullable else cursor.blob(not_null(length, name), name)

    return decode


def _nullable_struct(field: FieldSchema, decode_struct: Decode) -> Decode:
    """A byte in front says whether there is one: negative is null (KIP-893)."""
    return lambda cursor: None if cursor.int8(field.name) < 0 else decode_struct(cursor)


def _array_count(cursor: Cursor, field: FieldSchema, flexible: bool, item_bytes_min: int) -> int:
    """-1 is null, and comes only where that is allowed."""
    count = cursor.length(flexible=flexible, name=field.name)
    if count < 0 and field.is_nullable:
        return count
    return cursor.claim_items(not_null(count, field.name), item_bytes_min, field.name)


def _structs(field: FieldSchema, flexible: bool, decode_item: Decode) -> Decode:
    assert field.items is not None
    item_bytes_min = max(1, _bytes_min(field.items))

    def decode(cursor: Cursor) -> tuple[Any, ...] | None:
        count = _array_count(cursor, field, flexible, item_bytes_min)
        return None if count < 0 else tuple([decode_item(cursor) for _ in range(count)])

    return decode


def _fixed_items(field: FieldSchema, flexible: bool) -> Decode:
    letter = FIXED_FORMATS[field.kind]
    width = struct.calcsize(">" + letter)

    def decode(cursor: Cursor) -> tuple[Any, ...] | None:
        count = _array_count(cursor, field, flexible, width)
        if count < 0:
            return None
        return struct.unpack_from(f">{count}{letter}", cursor.frame, cursor.take(count * width, field.name))

    return decode


def _items(field: FieldSchema, flexible: bool) -> Decode:
    """An array of strings or UUIDs."""
    item_bytes_min = _field_bytes_min(field.kind, flexible)
    decode_item: Decode = (
        (lambda cursor: cursor.uuid(field.name))
        if field.kind == "uuid"
        else lambda cursor: cursor.required_text(flexible=flexible, name=field.name)
    )

    def decode(cursor: Cursor) -> tuple[Any, ...] | None:
        count = _array_count(cursor, field, flexible, item_bytes_min)
        return None if count < 0 else tuple([decode_item(cursor) for _ in range(count)])

    return decode


def _bytes_min(schema: StructSchema) -> int:
    """The least that a struct takes on the wire."""
    tags = 1 if schema.is_flexible else 0
    return tags + sum(_least(field, schema.is_flexible) for field in schema.untagged)


def _least(field: FieldSchema, flexible: bool) -> int:
    if field.is_array:
        return 1 if flexible else 4
    if field.items is not None:
        return 1 if field.is_nullable else _bytes_min(field.items)
    return _field_bytes_min(field.kind, flexible)


def _field_bytes_min(kind: str, flexible: bool) -> int:
    match kind:
        case "uuid":
            return UUID_BYTES
        case "string":
            return 1 if flexible else 2
        case "bytes" | "records":
            return 1 if flexible else 4
        case _:
            return struct.calcsize(">" + FIXED_FORMATS[kind])
