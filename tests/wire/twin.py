"""kio's own codec as the twin of ours: random messages, made side by side as kio's entity and as our plain body."""

import io
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from random import Random
from types import NoneType
from typing import Any, get_args, get_origin
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer

from quorumlog.wire.catalogue import known_apis, known_versions
from quorumlog.wire.schema import Direction

RANGES = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
TIMES = ("timedelta_i32", "timedelta_i64", "datetime_i64")
ERROR_CODES = list(ErrorCode)


def every_message(api_key: int) -> Iterator[tuple[int, Direction]]:
    for version in known_versions(api_key):
        yield version, Direction.REQUEST
        yield version, Direction.RESPONSE


def table(api_key: int, version: int, direction: Direction) -> type[Any]:
    return (load_request_schema if direction is Direction.REQUEST else load_response_schema)(api_key, version)


def encode(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def random_message(random: Random, api_key: int, version: int, direction: Direction) -> tuple[Any, dict[str, Any]]:
    return random_struct(random, table(api_key, version, direction))


def random_struct(random: Random, entity_type: type[Any]) -> tuple[Any, dict[str, Any]]:
    entity, body = {}, {}
    for field in fields(entity_type):
        entity[field.name], body[plain_name(field)] = _random_field(random, field)
    return entity_type(**entity), body


def plain_name(field: "Field[Any]") -> str:
    name = "id" if field.name == "id_" else field.name
    return f"{name}_ms" if field.metadata.get("kafka_type") in TIMES else name


def _random_field(random: Random, field: "Field[Any]") -> tuple[Any, Any]:
    kind = field.metadata.get("kafka_type")
    value_type, may_be_null = _split(field.type)
    is_array = get_origin(value_type) is tuple
    if "tag" in field.metadata and field.default is not MISSING and random.random() < 0.3:
        return field.default, field.default if is_array else _plain_default(field.default, kind)
    if may_be_null and "tag" not in field.metadata and (is_array or kind != "uuid") and random.random() < 0.3:
        return None, (-1 if kind == "datetime_i64" else None)
    if not is_array:
        return _random_value(random, value_type, kind)
    item_type = _split(get_args(value_type)[0])[0]
    pairs = [_random_value(random, item_type, kind) for _ in range(random.choice((0, 1, 2, 3)))]
    return tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]


def _split(annotation: Any) -> tuple[Any, bool]:
    arguments = get_args(annotation)
    if NoneType not in arguments:
        return annotation, False
    return next(argument for argument in arguments if argument is not NoneType), True


def _plain_default(default: Any, kind: str | None) -> Any:
    if kind == "uuid":
        return UUID(int=0) if default is None else default
    if kind is None:
        return {plain_name(field): _plain_default(getattr(default, field.name), "") for field in fields(default)}
    return default


def _random_value(random: Random, value_type: Any, kind: str | None) -> tuple[Any, Any]:
    match kind:
        case None:
            return random_struct(random, value_type)
        case "timedelta_i32" | "timedelta_i64":
            span_ms = random.randrange(-1, 2**31)
            return timedelta(milliseconds=span_ms), span_ms
        case "datetime_i64":
            time_s = random.randrange(0, 2**32)
            return datetime.fromtimestamp(time_s, tz=UTC), time_s * 1000
        case "error_code":
            code = random.choice(ERROR_CODES)
            return code, code
        case "uuid":
            value = UUID(int=random.choice((0, random.getrandbits(128))))
            return (value if value.int else None), value  # kio leaves out a tagged field only if it is None
        case _:
            value = _random_primitive(random, kind)
            return value, value


def _random_primitive(random: Random, kind: str) -> Any:
    match kind:
        case "bool":
            return random.random() < 0.5
        case "float64":
            return random.random() * 1000
        case "uint16":
            return random.randrange(2**16)
        case "string":
            return "".join(random.choices("abc-ä€😀", k=random.choice((0, 1, 5, 60))))
        case "bytes" | "records":
            return random.randbytes(random.choice((0, 1, 20, 300)))
        case _:
            bits = RANGES[kind]
            return random.choice((0, -1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, random.randrange(2 ** (bits - 1))))


ALL_APIS = known_apis()
