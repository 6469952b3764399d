"""What each message looks like: kio's tables (generated from Apache Kafka's protocol definition), in our own words.

Of kio only the tables are used. Its decoder is native and aborts the process on a hostile length, so nothing from the network
may reach it.

Names are kio's, which are Kafka's in snake case; a span or a point of time is a plain number here, so that it gets its unit
back: `throttle_time_ms`, `log_append_time_ms`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from functools import cache
from types import EllipsisType, NoneType, UnionType
from typing import Any, get_args, get_origin

from kio.index import load_entity_schema
from kio.schema.index import api_key_map
from kio.static.constants import EntityType

from quorumlog.wire.catalogue import known_versions
from quorumlog.wire.ids import NO_TOPIC_ID

FIXED_FORMATS: Mapping[str, str] = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "int64": "q",
    "float64": "d",
    "error_code": "h",
    "timedelta_i32": "i",
    "timedelta_i64": "q",
    "datetime_i64": "q",
}
"""The types of fixed width that one `struct` format letter packs."""

TIMES = ("timedelta_i32", "timedelta_i64", "datetime_i64")
STRUCT = "struct"
NO_TIMESTAMP = -1


class Direction(Enum):
    REQUEST = EntityType.request
    RESPONSE = EntityType.response


@dataclasses.dataclass(frozen=True, slots=True)
class FieldSchema:
    name: str
    kind: str
    """A key of FIXED_FORMATS, or "uuid", "string", "bytes", "records", or STRUCT; with `is_array` that of the items."""
    is_array: bool
    is_nullable: bool
    tag: int | None
    default: Any
    """What stands for the field where it is missing. Of a struct: None if it may be null, else unused."""
    items: "StructSchema | None"
    """The fields, if the kind is STRUCT."""


@dataclasses.dataclass(frozen=True, slots=True)
class StructSchema:
    name: str
    is_flexible: bool
    fields: tuple[FieldSchema, ...]

    @property
    def untagged(self) -> tuple[FieldSchema, ...]:
        return tuple(field for field in self.fields if field.tag is None)

    @property
    def tagged(self) -> tuple[FieldSchema, ...]:
        """In the order in which they are written."""
        return tuple(sorted((field for field in self.fields if field.tag is not None), key=lambda field: field.tag or 0))


@cache
def message_schema(api_key: int, version: int, direction: Direction) -> StructSchema:
    """One version of a message. Raises KeyError unless catalogue.known_versions has it."""
    if version not in known_versions(api_key):
        raise KeyError(f"API {api_key} has no version {version}")
    return _struct_schema(load_entity_schema(api_key_map[api_key], version, direction.value))


@cache
def all_fields(api_key: int, direction: Direction, path: tuple[str, ...] = ()) -> tuple[FieldSchema, ...]:
    """The fields that a struct has in any version, those of the latest first, each as the latest version that has it says.

    `path` leads to the struct: () is the message, ("topics", "partitions") a partition.
    """
    fields: dict[str, FieldSchema] = {}
    for version in reversed(known_versions(api_key)):
        for struct in _follow(message_schema(api_key, version, direction), path):
            for field in struct.fields:
                fields.setdefault(field.name, field)
    return tuple(fields.values())


def _follow(struct: StructSchema, path: tuple[str, ...]) -> Iterator[StructSchema]:
    """The struct at the end of the path; nothing if this version has no such path."""
    if not path:
        yield struct
    for field in struct.fields:
        if path and field.name == path[0] and field.items is not None:
            yield from _follow(field.items, path[1:])


def _struct_schema(table: type[Any]) -> StructSchema:
    return StructSchema(
        name=table.__name__,
        is_flexible=table.__flexible__,
        fields=tuple(_field_schema(field) for field in dataclasses.fields(table)),
    )


def _field_schema(field: "dataclasses.Field[Any]") -> FieldSchema:
    value_type, is_optional = _without_none(field.type)
    is_array = get_origin(value_type) is tuple
    item_type = _without_none(_item_type(value_type))[0] if is_array else value_type
    kind = field.metadata.get("kafka_type", STRUCT)
    # kio writes "no timestamp" and "no UUID" as None, but on the wire they are values like any other.
    is_nullable = is_optional and (is_array or kind not in ("uuid", "datetime_i64"))
    return FieldSchema(
        name=_field_name(field.name, kind),
        kind=kind,
        is_array=is_array,
        is_nullable=is_nullable,
        tag=field.metadata.get("tag"),
        default=_default(field.default, kind, is_array=is_array, is_nullable=is_nullable),
        items=_struct_schema(item_type) if kind == STRUCT else None,
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) is not UnionType:
        return annotation, False
    (inner,) = (argument for argument in get_args(annotation) if argument is not NoneType)
    return inner, True


def _item_type(tuple_type: Any) -> Any:
    item_type, ellipsis = get_args(tuple_type)
    assert isinstance(ellipsis, EllipsisType), tuple_type
    return item_type


def _field_name(name: str, kind: str) -> str:
    name = name.rstrip("_")  # kio evades Python's own names: id_
    return name if kind not in TIMES or name.endswith("_ms") else f"{name}_ms"


def _default(default: Any, kind: str, *, is_array: bool, is_nullable: bool) -> Any:
    if is_array:
        return None if is_nullable and default != () else ()
    if kind == STRUCT:
        return None
    if default is dataclasses.MISSING:
        return None if is_nullable else _ZEROS.get(kind, 0)
    return _plain(default, kind)


_ZEROS: Mapping[str, Any] = {"string": "", "bytes": b"", "records": b"", "uuid": NO_TOPIC_ID, "bool": False, "float64": 0.0}


def _plain(default: Any, kind: str) -> Any:
    """kio's default as the value that stands for it here."""
    if kind == "uuid":
        return default or NO_TOPIC_ID
    if kind == "datetime_i64":
        assert default is None, default
        return NO_TIMESTAMP
    if isinstance(default, timedelta):
        return round(default.total_seconds() * 1000)
    if isinstance(default, int) and not isinstance(default, bool):
        return int(default)
    return default
