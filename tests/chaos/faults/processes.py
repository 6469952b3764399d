"""Processes that are killed, stand still, stop and start again."""

import random
import time
from dataclasses import dataclass
from typing import ClassVar, Self

from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Stage, Victim


@dataclass
class Kill(Fault):
    """SIGKILL of one node, started again after a while."""

    name: ClassVar[str] = "kill"
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.choice([0.0, rng.uniform(0.0, 4.0)]), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.kill(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.start_node(self._node, wait=False)


@dataclass
class KillBoth(Fault):
    """SIGKILL of the busiest leader and of the active controller, at once: mostly two nodes, and then no majority lives."""

    name: ClassVar[str] = "kill-both"

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 2.0))

    def begin(self, stage: Stage) -> Struck:
        self._nodes = tuple(sorted({stage.leader(), stage.target.active_controller()}))
        stage.target.kill(*self._nodes)
        return Struck(self._nodes, "leader and controller")

    def end(self, stage: Stage) -> None:
        for node in self._nodes:
            stage.target.start_node(node, wait=False)


@dataclass
class KillAll(Fault):
    """SIGKILL of every node at once."""

    name: ClassVar[str] = "kill-all"

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 1.0))

    def begin(self, stage: Stage) -> Struck:
        stage.target.kill(*stage.target.nodes)
        return Struck(stage.target.nodes)

    def end(self, stage: Stage) -> None:
        for node in stage.living:
            stage.target.start_node(node, wait=False)


@dataclass
class KillTwice(Fault):
    """SIGKILL, a start until it is ready, and SIGKILL at once again."""

    name: ClassVar[str] = "kill-twice"
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 1.0), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.kill(self._node)
        stage.target.start_node(self._node)
        stage.target.kill(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.start_node(self._node, wait=False)


@dataclass
class KillInStart(Fault):
    """SIGKILL, and again while the node is starting: in the scan of its logs, in the replay of metadata, in its registration."""

    name: ClassVar[str] = "kill-in-start"
    victim: Victim
    into_start_s: float

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 1.0), victim=Victim.draw(rng), into_start_s=rng.uniform(0.1, 1.5))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.kill(self._node)
        stage.target.start_node(self._node, wait=False)
        time.sleep(self.into_start_s)
        stage.target.kill(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.start_node(self._node, wait=False)


@dataclass
class Pause(Fault):
    """SIGSTOP, and SIGCONT after a time around the session timeout: it wakes up believing what was true before."""

    name: ClassVar[str] = "pause"
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.choice([rng.uniform(0.2, 2.5), rng.uniform(2.5, 12.0)]), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.pause(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.resume(self._node)


@dataclass
class Restart(Fault):
    """A clean stop, which hands leadership over, and a start."""

    name: ClassVar[str] = "restart"
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.choice([0.0, rng.uniform(0.0, 3.0)]), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.stop_node(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.start_node(self._node, wait=False)
