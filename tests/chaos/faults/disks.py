"""Disks that fill up and lose power."""

import random
from dataclasses import dataclass
from typing import ClassVar, Self

from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Stage, Victim
from tests.chaos.targets import Ability, Disks, TargetError


@dataclass
class DiskFull(Fault):
    """No byte is left on a node's disk: the node stops, since it cannot write; later there is room again and it is started."""

    name: ClassVar[str] = "disk-full"
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.DISKS})
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(1.0, 6.0), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        disks_of(stage).fill(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        disks_of(stage).free(self._node)
        if not stage.target.is_running(self._node):
            stage.target.start_node(self._node, wait=False)


@dataclass
class PowerLoss(Fault):
    """Some nodes lose power together: what they had not synced is gone. Those that stand still lose the same moment; those that
    run on notice that their disk fails and stop by themselves."""

    name: ClassVar[str] = "power-loss"
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.DISKS})
    victim: Victim
    count: int
    stand_still: bool

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        count = rng.choice([1, 1, 2, 3])
        return cls(hold_s=rng.uniform(0.0, 2.0), victim=Victim.draw(rng), count=count, stand_still=rng.random() < 0.7)

    def begin(self, stage: Stage) -> Struck:
        first = stage.node_of(self.victim)
        self._nodes = tuple(sorted((first, *stage.others(first))[: self.count]))
        if self.stand_still:
            for node in self._nodes:
                stage.target.pause(node)
        disks_of(stage).cut_power(*self._nodes)
        if not self.stand_still:
            self._expect_exits(stage)
        stage.target.kill(*self._nodes)
        return Struck(self._nodes, f"{self.victim}{' and others' if self.count > 1 else ''}")

    def end(self, stage: Stage) -> None:
        disks_of(stage).mount_again(*self._nodes)
        for node in self._nodes:
            stage.target.start_node(node, wait=False)

    def _expect_exits(self, stage: Stage) -> None:
        # The first to fail stops the writes of the others, who may then have nothing to fail at: one is enough.
        stage.wait_for(
            f"one of nodes {self._nodes} stops when its disk fails",
            lambda: any(not stage.target.is_running(node) for node in self._nodes),
            timeout_s=10.0,
        )


def disks_of(stage: Stage) -> Disks:
    if stage.target.disks is None:
        raise TargetError(f"the target {stage.target.name} has no disks of its own")
    return stage.target.disks
