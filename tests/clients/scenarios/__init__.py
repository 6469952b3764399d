"""What every client is asked. A scenario is a function of a Stage; it fails by any exception but NotSupported."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.clients.stage import Stage


@dataclass(frozen=True, slots=True)
class Scenario:
    section: str
    title: str
    run: Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class FaultScenario:
    """Yields when it is ready to begin; when all are, it goes on, and yields in the middle; then one kill strikes all."""

    title: str
    run: Callable[[Stage, int], Iterator[None]]
