"""A planted bug: production code with a few words changed, in this process, for as long as a context lasts.

A mutant names the function and the text in it that it changes, and the digest of the whole function that it was written for.
So it reads as a diff does, and when the function changes, planting fails and says so, instead of planting nothing.

The function object stays and only its code is exchanged: whoever imported it by name, or holds it in a table, has the bug too.
"""

import hashlib
import importlib
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from textwrap import dedent, indent
from types import CodeType, FunctionType
from typing import Any

DIGEST_DIGITS = 12


class Moved(Exception):
    """The production code is not what the mutant was written for: read both, mend the mutant, take over the new digest."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One function, and what is changed in it."""

    target: str  # "package.module:Class.method" or "package.module:function"
    digest: str  # of the function's source
    changes: tuple[tuple[str, str], ...]  # (the text there, what stands there instead)

    def broken(self, function: FunctionType, name: str) -> CodeType:
        """The function's code with the bug in it. Raises Moved."""
        source = _source_of(function, self.target)
        if digest_of(source) != self.digest:
            raise Moved(
                f"{name}: {self.target} has changed; it is {digest_of(source)} now, the mutant was written for {self.digest}. "
                "If the bug is still one, put the new digest in its place."
            )
        for old, new in self.changes:
            if source.count(old) != 1:
                raise Moved(f"{name}: {self.target} holds {source.count(old)} times what is to be changed: {old!r}")
            source = source.replace(old, new)
        return _compiled(function, source, name)


def edit(target: str, digest: str, *changes: tuple[str, str]) -> Edit:
    return Edit(target, digest, changes)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One plausible bug. `seeds`: its judge finds it among so many seeds, counted from 0."""

    name: str
    breaks: str  # the rule
    needs: str  # what has to happen for it to show
    edits: tuple[Edit, ...]
    seeds: int
    judge: str = "sim"  # who must find it (judges.py): another one only where the whole cluster cannot come to it

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the bug until the context ends. Raises Moved, and has changed nothing then."""
        functions = [function_at(one.target) for one in self.edits]
        codes = [one.broken(function, self.name) for one, function in zip(self.edits, functions, strict=True)]
        with ExitStack() as undo:
            for function, code in zip(functions, codes, strict=True):
                undo.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = code
            yield


def function_at(target: str) -> FunctionType:
    """The plain function behind a method, a property or a static method. Raises Moved."""
    module_name, _, path = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        held = vars(found)
        if name not in held:
            raise Moved(f"{target} does not exist any more: there is no {name!r} in {found!r}")
        found = held[name]
    found = found.fget if isinstance(found, property) else inspect.unwrap(getattr(found, "__func__", found))
    if not isinstance(found, FunctionType):
        raise Moved(f"{target} is no function any more: {found!r}")
    return found


def digest_of(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:DIGEST_DIGITS]


def _source_of(function: FunctionType, target: str) -> str:
    try:
        return dedent(inspect.getsource(function))
    except OSError as error:
        raise Moved(f"{target} has no source; is a mutant of it planted already? ({error})") from error


def _compiled(function: FunctionType, source: str, name: str) -> CodeType:
    # Inside a class of the same name, so that private names and super() mean what they mean there.
    owners = function.__qualname__.split(".")[:-1]
    for owner in reversed(owners):
        source = f"class {owner}:\n{indent(source, '    ')}"
    code = compile(source, f"<mutant {name}>", "exec", dont_inherit=True)
    for wanted in (*owners, function.__name__):
        code = next(inner for inner in code.co_consts if isinstance(inner, CodeType) and inner.co_name == wanted)
    return code
