"""Our three nodes with default settings: an acknowledgment comes after an fsync on every in-sync replica."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from quorumlog.host.local_cluster import NODE_COMMAND
from quorumlog.testing import LocalCluster
from tests.bench.contestants import Cluster, Contestant, Site
from tests.bench.figures import OURS

NODES = (1, 2, 3)
SETTINGS = "default settings; every acknowledged record is fsynced on all in-sync replicas"


class OurCluster:
    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.bootstrap_servers = cluster.bootstrap_servers

    def pids(self) -> list[int]:
        return [pid for node in NODES if (pid := self._cluster.pid(node)) is not None]

    def data_dirs(self) -> list[Path]:
        return [node.data_dir for node in self._cluster.nodes]

    def kill(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self._cluster.kill(node_id)

    def stop(self, node_id: int) -> None:
        self._cluster.stop(node_id)

    def pause(self, node_id: int) -> None:
        self._cluster.pause(node_id)

    def resume(self, node_id: int) -> None:
        self._cluster.resume(node_id)

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self._cluster.start(node_id, wait=False)
        self._cluster.wait_ready(node_ids)


def contestant(site: Site) -> Contestant:
    @contextmanager
    def fresh() -> Iterator[Cluster]:
        command = [*site.cores.command_prefix, *NODE_COMMAND]
        with (
            tempfile.TemporaryDirectory(prefix="quorumlog-", dir=site.directory) as directory,
            LocalCluster(nodes=3, directory=directory, node_command=command) as cluster,
        ):
            yield OurCluster(cluster)

    return Contestant(OURS, _version(), SETTINGS, fresh)


def _version() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return f"{version('quorumlog')} {done.stdout.strip()}".strip()
