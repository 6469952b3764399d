"""What chaos strikes: a running cluster, its processes, its links and its disks.

A target says by its abilities which faults can be made on it; a fault names the abilities that it needs.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Ability(StrEnum):
    """What a target can do besides starting, stopping, killing and pausing nodes, which all of them can."""

    ISOLATE = "isolate"
    """Take a node off the network altogether: neither nodes nor clients reach it (`isolate`, `rejoin`)."""
    LINKS = "links"
    """Cut single links between nodes, each way by itself (`links`)."""
    DISKS = "disks"
    """Fill a node's disk, and cut the power of disks (`disks`)."""
    FILES = "files"
    """Change the files of a stopped node (`data_dirs` is valid for a node that does not run)."""


class TargetError(Exception):
    """The cluster did not do what it was told; the message says what, and ends in a node's last words where there are any."""


class Links(Protocol):
    """The network between the nodes. Clients always reach every node."""

    def cut(self, sender: int, receiver: int) -> None:
        """Drop every packet from one node to another; the other way is left as it is."""

    def heal(self) -> None:
        """Undo every cut; fine if there is none."""


class Disks(Protocol):
    """One file system a node."""

    def fill(self, node: int) -> None:
        """Leave no free byte on the node's file system."""

    def free(self, node: int) -> None:
        """Give back what `fill` took; fine if it took nothing."""

    def cut_power(self, *nodes: int) -> None:
        """What was not synced is gone, and every later write fails with EIO, on all these at once."""

    def mount_again(self, *nodes: int) -> None:
        """What is there after the power is back. The nodes must not run."""


class Target(Protocol):
    """A cluster of three or more nodes, from `start` to `close`. Every call has a bound, and raises TargetError past it."""

    @property
    def name(self) -> str:
        """As the command line calls it: local, compose."""

    @property
    def bootstrap(self) -> str:
        """host:port of every node, reachable by clients in this process."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """The ids of all nodes, ascending."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """Fixed once the target is made; what is missing was said loudly (`shortcomings`)."""

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """One sentence for each ability that this machine cannot give though the target has it elsewhere."""

    @property
    def links(self) -> Links | None:
        """None without Ability.LINKS."""

    @property
    def disks(self) -> Disks | None:
        """None without Ability.DISKS."""

    def start(self) -> None:
        """Set the cluster up, empty, and wait until every node is ready."""

    def stop(self) -> None:
        """Stop every node cleanly; their data stays for `data_dirs`. Fine if some or all do not run."""

    def close(self) -> None:
        """End every process, and remove all that `start` made. Never raises because something is gone already."""

    def data_dirs(self) -> Mapping[int, Path]:
        """Each node's data directory on this machine, to be read after `stop`, before `close`."""

    def keep(self, directory: Path) -> None:
        """Copy what the nodes logged, and what lies on their disks, for whoever looks into a round that went wrong."""

    def log_tails(self) -> Mapping[int, str]:
        """The last lines of each node's log."""

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until every node that runs says that it serves clients; raises TargetError if one exits or time runs out."""

    def active_controller(self) -> int:
        """The node that leads the quorum; waits for one, TargetError after ten seconds."""

    def is_running(self, node: int) -> bool:
        """Whether the node's process exists, paused or not."""

    def kill(self, *nodes: int) -> None:
        """SIGKILL, one right after the other; returns when they are gone. A paused node too. Fine if it does not run."""

    def pause(self, node: int) -> None:
        """SIGSTOP: it stands still with its connections open."""

    def resume(self, node: int) -> None:
        """SIGCONT; fine if it was not paused."""

    def stop_node(self, node: int) -> None:
        """A clean stop, which hands over leadership first; returns when the process is gone."""

    def start_node(self, node: int, *, wait: bool = True) -> None:
        """Start a node that does not run, on the data it has, and (with `wait`) wait until it is ready."""

    def isolate(self, node: int) -> None:
        """Take a node off the network (Ability.ISOLATE)."""

    def rejoin(self, node: int) -> None:
        """Put it back; fine if it was not isolated."""
