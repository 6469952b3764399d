"""Those who are measured: three nodes on this machine each, up one after the other and never side by side."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.cores import Cores


@dataclass(frozen=True, slots=True)
class Site:
    """Where contestants run: on which cores, and where their data lies."""

    cores: Cores
    directory: Path


class Cluster(Protocol):
    """Three nodes with the ids 1 to 3 that are up."""

    bootstrap_servers: str
    started_at: float  # of the machine's monotonic clock: when the first process of the empty cluster was started

    def pids(self) -> list[int]: ...
    def data_dirs(self) -> list[Path]: ...
    def kill(self, *node_ids: int) -> None: ...
    def stop(self, *node_ids: int) -> None:
        """End nodes cleanly, all at once."""
        ...

    def pause(self, node_id: int) -> None: ...
    def resume(self, node_id: int) -> None: ...
    def start(self, *node_ids: int) -> None:
        """Start nodes that do not run, all at once; returns when they say that they are ready."""
        ...


class Networked(Protocol):
    """The same, each with a network of its own, whose cable can be pulled: then neither nodes nor clients reach it."""

    bootstrap_servers: str

    def cut(self, node_id: int) -> None: ...
    def mend(self, node_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Contestant:
    """`fresh` makes an empty cluster, whose processes and data go with the block; `networked` one with a network for
    each node. None: this machine lacks what that takes."""

    name: str
    version: str
    settings: str
    fresh: Callable[[], AbstractContextManager[Cluster]]
    networked: Callable[[], AbstractContextManager[Networked]] | None
