"""The inner engine as we use it: pysyncobj 0.3.17, hash-checked, without pickle, on the time and chance of who entered it.

The core reads time and chance from names in its module. Several quorums with different clocks live in one process (a simulated
cluster does), so those names lead to the quorum that is running on this thread.
"""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pysyncobj.serializer
import pysyncobj.syncobj as core
import pysyncobj.tcp_connection
from pysyncobj.version import VERSION

from quorumlog.host.ports import Clock

_VERSION = "0.3.17"
_SHA256 = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


def check_core(version: str, source: bytes) -> None:
    """Raises ImportError unless this is the very core whose private methods engine.py overrides."""
    seen = hashlib.sha256(source).hexdigest()
    if version != _VERSION or seen != _SHA256:
        raise ImportError(f"quorumlog.raft needs pysyncobj {_VERSION} unchanged; found {version} with syncobj.py {seen[:16]}")


class NoPickle:
    """Stands where the core would pickle: unpickling what a peer sent would run its code."""

    @staticmethod
    def loads(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("pickle is disabled in the raft core")

    dumps = dump = load = to_bytes = loads


class _Entered(threading.local):
    clock: Clock
    rng: random.Random


_entered = _Entered()


def _now() -> float:
    return _entered.clock.now()


class _ChanceOfWhoeverEntered:
    @staticmethod
    def random() -> float:
        return _entered.rng.random()


@contextmanager
def entered(clock: Clock, rng: random.Random) -> Iterator[None]:
    """Run the core on this clock and chance. Nests: a synchronous send may enter another quorum on the same thread."""
    before = dict(_entered.__dict__)
    _entered.clock, _entered.rng = clock, rng
    try:
        yield
    finally:
        _entered.__dict__.clear()
        _entered.__dict__.update(before)


def _take_over() -> None:
    check_core(VERSION, Path(core.__file__).read_bytes())
    core.monotonicTime = _now
    core.random = _ChanceOfWhoeverEntered
    for module in (core, pysyncobj.serializer, pysyncobj.tcp_connection):
        module.pickle = NoPickle


_take_over()
