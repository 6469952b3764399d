"""A local cluster as a context manager, with its faults on call."""

import atexit
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from quorumlog.host.local_cluster import LocalProcesses, NodeStatus, quoted_log
from quorumlog.host.local_layout import LocalNode, ReservedPorts


class LocalCluster:
    """Real node processes on free ports of this machine, all up and ready within the `with` block.

        with LocalCluster(nodes=3, settings={"num_partitions": 6}) as cluster:
            producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
            cluster.kill(1)

    No process outlives the block, nor this process, however it ends. A directory that was given keeps its data, so that a
    later LocalCluster finds it again; without one the data goes with the block. If the block fails, the exception ends in
    the last lines of each node's log. Its methods raise quorumlog.testing.LocalClusterError.
    """

    def __init__(
        self,
        nodes: int | None = None,
        directory: str | Path | None = None,
        base_port: int | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        ready_timeout_s: float = 60,
        node_command: Sequence[str] | None = None,
    ) -> None:
        """`nodes` is 3 unless the directory holds a cluster; `settings` go to every node, `{node_id}` in them is its own;
        `node_command` runs another program."""
        self._node_count = nodes
        self._given_directory = Path(directory) if directory is not None else None
        self._given_base_port = base_port
        self._settings = {key: _setting_text(value) for key, value in (settings or {}).items()}
        self._ready_timeout_s = ready_timeout_s
        self._node_command = node_command
        self._ports: ReservedPorts | None = None
        self._running: LocalProcesses | None = None

    def __enter__(self) -> Self:
        if self._running is not None:
            raise RuntimeError("this LocalCluster is up already")
        self.directory = self._given_directory or Path(tempfile.mkdtemp(prefix="quorumlog-"))
        self._running = LocalProcesses(self.directory, die_with_parent=True, node_command=self._node_command)
        atexit.register(self.close)
        try:
            self._running.up(
                node_count=self._node_count,
                base_port=self._given_base_port or self._reserve_ports(),
                settings=self._settings,
                timeout_s=self._ready_timeout_s,
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        if isinstance(error, Exception):
            for node in self.nodes:
                error.add_note(quoted_log(node))
        self.close()

    def close(self) -> None:
        """End every process: at once where the data goes too, cleanly where it stays. Fine if they have ended already."""
        running, self._running = self._running, None
        if running is None:
            return
        atexit.unregister(self.close)
        try:
            if self._given_directory is not None and running.cluster_file.exists():
                running.down()
        finally:
            self._clean_up(running)

    def _clean_up(self, running: LocalProcesses) -> None:
        running.kill_all()
        if self._ports is not None:
            self._ports.release()
        if self._given_directory is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _reserve_ports(self) -> int:
        self._ports = ReservedPorts(self._node_count or 3)
        return self._ports.base_port

    @property
    def _processes(self) -> LocalProcesses:
        if self._running is None:
            raise RuntimeError("this LocalCluster is not up: use it in a with statement")
        return self._running

    @property
    def bootstrap_servers(self) -> str:
        """host:port of every node, as Kafka clients take it."""
        return self._processes.bootstrap_servers

    @property
    def nodes(self) -> list[LocalNode]:
        """Addresses, data directory and log file of every node, by ascending id."""
        return self._processes.nodes

    def status(self) -> list[NodeStatus]:
        """Which nodes are ready, running, paused or stopped right now."""
        return self._processes.status()

    def pid(self, node_id: int) -> int | None:
        """The pid of a node's process, or None if it does not run."""
        return self._processes.pid(node_id)

    def kill(self, node_id: int) -> None:
        """SIGKILL, as a crash of the process; returns when it is gone."""
        self._processes.signal(node_id, signal.SIGKILL)

    def stop(self, node_id: int) -> None:
        """SIGTERM: a clean stop, which hands over leadership first; returns when the process is gone."""
        self._processes.signal(node_id, signal.SIGTERM)

    def pause(self, node_id: int) -> None:
        """SIGSTOP: the node stands still with its connections open, as one that a long pause or a swap storm holds."""
        self._processes.signal(node_id, signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        """SIGCONT: the node goes on where it stood, not knowing that time has passed."""
        self._processes.signal(node_id, signal.SIGCONT)

    def start(self, node_id: int, *, wait: bool = True) -> None:
        """Start a node that was killed or stopped, on its data, and (with `wait`) wait until it is ready."""
        self._processes.start(node_id, timeout_s=self._ready_timeout_s, wait=wait)

    def restart(self, node_id: int) -> None:
        """A clean stop and a start."""
        self.stop(node_id)
        self.start(node_id)

    def wait_ready(self, node_ids: Iterable[int] | None = None, *, timeout_s: float = 60) -> None:
        """Wait until nodes (all by default) say that they have joined and caught up with the cluster's metadata."""
        self._processes.wait_ready(None if node_ids is None else list(node_ids), timeout_s=timeout_s)

    def log(self, node_id: int) -> str:
        """All that a node has written to its output, over all its starts."""
        return self._processes.node(node_id).log_file.read_text(errors="replace")


def _setting_text(value: object) -> str:
    """As a config file would spell it: true and false are lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)
