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
    """Runs up to its `yield`, which says that it is ready; then one kill strikes all clients, and it goes on."""

    title: str
    run: Callable[[Stage, int], Iterator[None]]
