"""What the simulator shows at a moment, what it means for a promise to be broken, and the shape of an invariant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from quorumlog.metadata.image import Image, PartitionState
from quorumlog.node.node import Node
from tests.sim.disk import SimDisk

from .copies import Copy
from .voters import VoterTrack

PartitionKey = tuple[UUID, int]


@dataclass(slots=True)
class Sight:
    """The cluster between two instants of virtual time. Only looked at, never changed."""

    now: float  # seconds of the simulation
    nodes: Mapping[int, Node]  # those whose process lives
    disks: Mapping[int, SimDisk]
    moved: Sequence[int]  # nodes that ran since the last look


class Violation(AssertionError):
    """A promise was broken."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class Life(NamedTuple):
    """One process of a node: a restarted node has another."""

    node_id: int
    number: int

    def __str__(self) -> str:
        return f"node {self.node_id} (process {self.number})"


@dataclass(slots=True)
class News:
    """What changed since the last look."""

    copies: list[Copy] = field(default_factory=list)  # whose replica moved
    keys: dict[PartitionKey, None] = field(default_factory=dict)  # where who is complete may be another question now
    states: list[tuple[PartitionState | None, PartitionState]] = field(default_factory=list)  # committed, before and after
    images: list[tuple[Life, Image, Image]] = field(default_factory=list)  # that a node applied: its last one, its new one
    controllers: list[tuple[Life, int]] = field(default_factory=list)  # who is active, in which term
    voters: list[tuple[Life, VoterTrack]] = field(default_factory=list)
    acknowledged: list[tuple[str, int, int]] = field(default_factory=list)  # to clients: topic, partition, last offset

    def __bool__(self) -> bool:
        return bool(self.copies or self.keys or self.images or self.controllers or self.voters or self.acknowledged)


class Invariant:
    """Watches one promise. Owned by the `Watch`, which calls `look` whenever something changed."""

    name = "unnamed"

    def look(self, news: News) -> None:
        """Raises Violation."""

    def on_quorum_wiped(self, node_id: int) -> None:
        """Nothing is left of what the node's voter had made durable."""

    def finish(self) -> None:
        """All faults are over and all work is done. Raises Violation."""

    def broken(self, message: str) -> Violation:
        return Violation(self.name, message)
