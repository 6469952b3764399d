"""Links that fail: packets vanish, nobody is told. Clients reach every node all the time, except one that is isolated."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Stage, Victim
from tests.chaos.targets import Ability, Links, TargetError


@dataclass
class Cut(Fault):
    """A fault that drops what goes over some links, and heals them all."""

    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LINKS})
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.choice([rng.uniform(0.5, 3.0), rng.uniform(3.0, 14.0)]), victim=Victim.draw(rng))

    def end(self, stage: Stage) -> None:
        links_of(stage).heal()

    def _peer(self, stage: Stage, node: int) -> int:
        others = stage.others(node)
        return others[self.victim.number % len(others)]


@dataclass
class CutOneWay(Cut):
    """One link in one direction."""

    name: ClassVar[str] = "cut-one-way"

    def begin(self, stage: Stage) -> Struck:
        node = stage.node_of(self.victim)
        peer = self._peer(stage, node)
        cut(stage, [(node, peer)])
        return Struck((node, peer), f"no packet from the {self.victim} to {peer}")


@dataclass
class CutBothWays(Cut):
    """One link in both directions. Among three nodes that is a bridge: the third one sees both."""

    name: ClassVar[str] = "cut-both-ways"

    def begin(self, stage: Stage) -> Struck:
        node = stage.node_of(self.victim)
        peer = self._peer(stage, node)
        cut(stage, [(node, peer), (peer, node)])
        return Struck((node, peer), f"the {self.victim} and {peer} are apart")


@dataclass
class Bridge(Cut):
    """The active controller sees only one of the others, which sees both."""

    name: ClassVar[str] = "bridge"

    def begin(self, stage: Stage) -> Struck:
        controller = stage.target.active_controller()
        far = self._peer(stage, controller)
        middle = next(node for node in stage.others(controller) if node != far)
        cut(stage, [(controller, far), (far, controller)])
        return Struck((controller, far), f"controller {controller} sees {middle}, {middle} sees {far}, {controller} does not")


@dataclass
class Mute(Cut):
    """A node hears the others and is not heard."""

    name: ClassVar[str] = "mute"

    def begin(self, stage: Stage) -> Struck:
        node = stage.node_of(self.victim)
        cut(stage, [(node, other) for other in stage.others(node)])
        return Struck((node,), str(self.victim))


@dataclass
class Deaf(Cut):
    """A node is heard by the others and hears nothing."""

    name: ClassVar[str] = "deaf"

    def begin(self, stage: Stage) -> Struck:
        node = stage.node_of(self.victim)
        cut(stage, [(other, node) for other in stage.others(node)])
        return Struck((node,), str(self.victim))


@dataclass
class LeaderAlone(Cut):
    """The busiest leader is apart from both others, and clients go on asking it: it must not commit alone."""

    name: ClassVar[str] = "leader-alone"

    def begin(self, stage: Stage) -> Struck:
        node = stage.leader()
        cut(stage, [link for other in stage.others(node) for link in ((node, other), (other, node))])
        return Struck((node,), "clients still reach it")


@dataclass
class Isolate(Fault):
    """Off the network altogether: neither nodes nor clients reach it."""

    name: ClassVar[str] = "isolate"
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.ISOLATE})
    victim: Victim

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.choice([rng.uniform(0.5, 3.0), rng.uniform(3.0, 14.0)]), victim=Victim.draw(rng))

    def begin(self, stage: Stage) -> Struck:
        self._node = stage.node_of(self.victim)
        stage.target.isolate(self._node)
        return Struck((self._node,), str(self.victim))

    def end(self, stage: Stage) -> None:
        stage.target.rejoin(self._node)


def links_of(stage: Stage) -> Links:
    if stage.target.links is None:
        raise TargetError(f"the target {stage.target.name} has no links to cut")
    return stage.target.links


def cut(stage: Stage, links: Iterable[tuple[int, int]]) -> None:
    for sender, receiver in links:
        links_of(stage).cut(sender, receiver)
