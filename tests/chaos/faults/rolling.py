"""What an operator does to every node in turn, and leadership that moves."""

import random
from dataclasses import dataclass
from typing import ClassVar, Self

from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Stage

IN_SYNC_TIMEOUT_S = 30.0
MOVE_TIMEOUT_S = 30.0


@dataclass
class RollingRestart(Fault):
    """Every node is stopped cleanly and started, the next one as soon as the last is ready."""

    name: ClassVar[str] = "rolling-restart"
    first: int

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=0.0, first=rng.randrange(1 << 16))

    def begin(self, stage: Stage) -> Struck:
        for node in in_turn(stage.living, self.first):
            stage.target.stop_node(node)
            stage.target.start_node(node)
        return Struck(stage.living)

    def end(self, stage: Stage) -> None:
        """Nothing is left to heal."""


@dataclass
class RollingUpgrade(Fault):
    """As an upgrade is done, to the same version: each node waits until all replicas are in sync after the one before."""

    name: ClassVar[str] = "rolling-upgrade"
    first: int

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=0.0, first=rng.randrange(1 << 16))

    def begin(self, stage: Stage) -> Struck:
        for node in in_turn(stage.living, self.first):
            stage.wait_in_sync(IN_SYNC_TIMEOUT_S)
            stage.target.stop_node(node)
            stage.target.start_node(node)
        return Struck(stage.living)

    def end(self, stage: Stage) -> None:
        """Nothing is left to heal."""


@dataclass
class Move(Fault):
    """Leadership goes away and comes back while nobody dies: the busiest leader hands over and stops, and once it has started
    `leader_rebalance_interval_s` gives it back what it is preferred for. There is no request that moves leaders yet."""

    name: ClassVar[str] = "move"

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 2.0))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.leader()
        led = sum(place.leader == self._node for place in stage.places())
        stage.target.stop_node(self._node)
        stage.target.start_node(self._node)
        return Struck((self._node,), f"{led} partitions")

    def end(self, stage: Stage) -> None:
        stage.wait_for(f"leadership back at node {self._node}", lambda: self._leads_what_it_should(stage), MOVE_TIMEOUT_S)

    def _leads_what_it_should(self, stage: Stage) -> bool:
        return all(place.leader == self._node for place in stage.places() if place.replicas[0] == self._node)


def in_turn(nodes: tuple[int, ...], first: int) -> tuple[int, ...]:
    """All of them, beginning with a drawn one."""
    start = first % len(nodes)
    return nodes[start:] + nodes[:start]
