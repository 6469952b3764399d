"""Dataclasses as protobuf messages of the same name and fields, worked out once from the type hints.

    int, str, bool     scalar                     UUID               bytes (16)
    Enum               its value                  dataclass          message of that name
    tuple[X, ...]      repeated X                 tuple[...] | None  message with `repeated X items`, absent for None
    X | None           optional X                 (also for a tuple within a tuple)

A dataclass and its message whose fields differ are refused at import.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

SCALARS = (int, str, bool)
Descriptor = Any  # a FieldDescriptor; its stubs know neither upb's classes nor that some fields always have a message type
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class ValueForm:
    """How one value goes into a message field and comes out. `decode` raises ValueError."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class FieldForm:
    name: str
    form: ValueForm
    has_presence: bool
    optional: bool

    def read(self, message: Message) -> Any:
        if self.has_presence and not message.HasField(self.name):
            if self.optional:
                return None
            raise ValueError(f"{message.DESCRIPTOR.name} lacks {self.name}")
        return self.form.decode(getattr(message, self.name))


class MessageForm:
    """How one dataclass is written as a message."""

    def __init__(self, kind: type, message: type[Message]) -> None:
        hints = get_type_hints(kind)
        descriptors = message.DESCRIPTOR.fields_by_name
        assert set(hints) == set(descriptors), (kind, set(hints) ^ set(descriptors))
        self._kind = kind
        self._message = message
        self._fields = tuple(_field_form(name, hint, descriptors[name]) for name, hint in hints.items())

    def to_message(self, value: Any) -> Message:
        given = ((field, getattr(value, field.name)) for field in self._fields)
        return self._message(**{field.name: field.form.encode(held) for field, held in given if held is not None})

    def from_message(self, message: Message) -> Any:
        """Raises ValueError for a missing part or a value of the wrong kind."""
        return self._kind(**{field.name: field.read(message) for field in self._fields})


class ChoiceForm:
    """A union of dataclasses as a message with `oneof kind`; each arm has the name of its dataclass as message type."""

    def __init__(self, union: Any, message: type[Message]) -> None:
        arms: dict[str, Descriptor] = {_message_name(field): field for field in message.DESCRIPTOR.oneofs_by_name["kind"].fields}
        kinds: dict[str, type] = {kind.__name__: kind for kind in get_args(union)}
        assert set(arms) == set(kinds), set(arms) ^ set(kinds)
        self._message = message
        self._by_kind = {kind: (arms[name].name, _message_form(kind, arms[name])) for name, kind in kinds.items()}
        self._by_arm = dict(self._by_kind.values())

    def to_message(self, value: Any) -> Message:
        arm, form = self._by_kind[type(value)]
        return self._message(**{arm: form.to_message(value)})

    def from_message(self, message: Message) -> Any:
        """Raises ValueError, also for an arm that this version does not know."""
        arm = message.WhichOneof("kind")
        if arm is None:
            raise ValueError(f"{message.DESCRIPTOR.name} of a kind that is unknown here")
        return self._by_arm[arm].from_message(getattr(message, arm))

    def encode(self, value: Any) -> bytes:
        return self.to_message(value).SerializeToString(deterministic=True)

    def decode(self, data: bytes) -> Any:
        """Raises ValueError."""
        return self.from_message(parse(self._message, data))


def parse(message: type[M], data: bytes) -> M:
    """Raises ValueError for bytes that are no such message."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a {message.DESCRIPTOR.name}: {error}") from error


def _field_form(name: str, hint: Any, descriptor: Descriptor) -> FieldForm:
    optional = get_origin(hint) in (Union, types.UnionType)
    if optional:
        hint = next(part for part in get_args(hint) if part is not types.NoneType)
    form = _repeated_form(get_args(hint)[0], descriptor) if descriptor.is_repeated else _value_form(hint, descriptor)
    return FieldForm(name, form, has_presence=descriptor.has_presence, optional=optional)


def _value_form(hint: Any, descriptor: Descriptor) -> ValueForm:
    if get_origin(hint) is tuple:
        return _wrapped_form(get_args(hint)[0], descriptor)
    if isinstance(hint, type) and is_dataclass(hint):
        form = _message_form(hint, descriptor)
        return ValueForm(form.to_message, form.from_message)
    if hint is UUID:
        return ValueForm(lambda value: value.bytes, lambda data: UUID(bytes=data))
    if issubclass(hint, Enum):
        return ValueForm(lambda value: value.value, hint)
    assert hint in SCALARS, hint
    return ValueForm(_same, _same)


def _repeated_form(element: Any, descriptor: Descriptor) -> ValueForm:
    one = _value_form(element, descriptor)
    return ValueForm(
        lambda values: [one.encode(value) for value in values], lambda values: tuple(one.decode(value) for value in values)
    )


def _wrapped_form(element: Any, descriptor: Descriptor) -> ValueForm:
    wrapper = GetMessageClass(descriptor.message_type)
    items = _repeated_form(element, descriptor.message_type.fields_by_name["items"])
    return ValueForm(lambda values: wrapper(items=items.encode(values)), lambda message: items.decode(message.items))


def _message_form(kind: type, descriptor: Descriptor) -> MessageForm:
    assert _message_name(descriptor) == kind.__name__, (_message_name(descriptor), kind)
    return MessageForm(kind, GetMessageClass(descriptor.message_type))


def _message_name(descriptor: Descriptor) -> str:
    name: str = descriptor.message_type.name
    return name


def _same(value: Any) -> Any:
    return value
