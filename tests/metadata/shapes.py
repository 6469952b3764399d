"""Hypothesis strategies for any message dataclass, from its type hints."""

import types
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from hypothesis import strategies as st

INT32 = st.integers(-(2**31), 2**31 - 1)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {int: INT32, str: st.text(max_size=5), bool: st.booleans(), UUID: st.uuids()}


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a dataclass, a union of them, or anything that their fields hold."""
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of([any_of(part) for part in get_args(hint)])
    if get_origin(hint) is tuple:
        return st.lists(any_of(get_args(hint)[0]), max_size=3).map(tuple)
    if hint is types.NoneType:
        return st.none()
    if isinstance(hint, type) and is_dataclass(hint):
        return st.builds(hint, **{name: any_of(part) for name, part in get_type_hints(hint).items()})
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return LEAVES[hint]
