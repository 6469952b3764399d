"""Our three nodes with default settings: an acknowledgment comes after an fsync on every in-sync replica."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from quorumlog.host.local_cluster import NODE_COMMAND
from quorumlog.testing import LocalCluster
from tests.bench.contestants import Cluster, Contestant, Networked, Site, networks
from tests.bench.contestants.nodes import Nodes
from tests.bench.figures import OURS
from tests.chaos.local_target import LocalTarget

NODES = (1, 2, 3)
READY_TIMEOUT_S = 600.0  # a restart with a full disk
SETTINGS = "default settings; every acknowledged record is fsynced on all in-sync replicas"


class OurCluster(Nodes):
    def __init__(self, cluster: LocalCluster, started_at: float) -> None:
        super().__init__(cluster, NODES, started_at)
        self._cluster = cluster

    def data_dirs(self) -> list[Path]:
        return [node.data_dir for node in self._cluster.nodes]

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self._cluster.start(node_id, wait=False)
        self._cluster.wait_ready(node_ids, timeout_s=READY_TIMEOUT_S)


class NetworkedCluster:
    """The chaos rounds' nodes, each in a network namespace of its own. Between nodes there is TLS then, which Kafka has not."""

    def __init__(self, target: LocalTarget) -> None:
        self._target = target
        self.bootstrap_servers = target.bootstrap

    def cut(self, node_id: int) -> None:
        self._target.isolate(node_id)

    def mend(self, node_id: int) -> None:
        self._target.rejoin(node_id)


def contestant(site: Site) -> Contestant:
    @contextmanager
    def fresh() -> Iterator[Cluster]:
        command = [*site.cores.command_prefix, *NODE_COMMAND]
        started_at = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="quorumlog-", dir=site.directory) as directory,
            LocalCluster(3, directory, node_command=command, ready_timeout_s=READY_TIMEOUT_S) as cluster,
        ):
            yield OurCluster(cluster, started_at)

    @contextmanager
    def networked() -> Iterator[Networked]:
        target = LocalTarget({}, node_command=[*site.cores.command_prefix, *NODE_COMMAND])
        with closing(target):
            target.start()
            yield NetworkedCluster(target)

    return Contestant(OURS, _version(), SETTINGS, fresh, networked if networks.offered() else None)


def _version() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return f"{version('quorumlog')} {done.stdout.strip()}".strip()
