"""A decoded message, or a struct inside one."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any


class Struct:
    """Frozen fields by name. It has the fields of every version of its message, so that a handler is written once: those that
    the version at hand lacks hold their default. Arrays are tuples, points and spans of time are ms.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self, *values: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        """Reached for a name that no version has; declared so that type checkers let the others pass."""
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def as_dict(self) -> dict[str, Any]:
        """The fields, nested structs included, as the encoder takes them."""
        names: tuple[str, ...] = self.__slots__
        return {name: _plain(getattr(self, name)) for name in names}


def struct_type(name: str, fields: Iterable[str]) -> type[Struct]:
    """A class of structs with these fields, in this order."""
    return dataclasses.make_dataclass(name, fields, bases=(Struct,), frozen=True, slots=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        return value.as_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
