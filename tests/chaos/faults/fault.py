"""What every fault is."""

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from tests.chaos.stage import Stage
from tests.chaos.targets import Ability


@dataclass(frozen=True, slots=True)
class Struck:
    """Whom a fault hit: the nodes whose partitions may stand still for its length; `detail` for the reader of the log."""

    victims: tuple[int, ...]
    detail: str = ""

    def __str__(self) -> str:
        return f"node {' and '.join(map(str, self.victims))}{', ' if self.detail else ''}{self.detail}"


@dataclass
class Fault(ABC):
    """One fault with its parameters, drawn before the round begins. Made once: `begin`, `hold_s` seconds, `end`.

    Both may raise TargetError, or Disorder when the cluster does not do what it must; after `end` every node that is not lost
    runs again, though perhaps not ready yet.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Ability]] = frozenset()

    hold_s: float

    @classmethod
    @abstractmethod
    def draw(cls, rng: random.Random) -> Self:
        """Draw all parameters."""

    @abstractmethod
    def begin(self, stage: Stage) -> Struck: ...

    @abstractmethod
    def end(self, stage: Stage) -> None: ...

    def __str__(self) -> str:
        shown = [f"{field.name.replace('_', ' ')} {_shown(getattr(self, field.name))}" for field in fields(self)]
        return f"{self.name}: {', '.join(shown)}"


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
