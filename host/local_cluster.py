"""A cluster of real node processes on this machine: what `quorumlog local`, the demo and the test kit drive.

The directory and its files are described in local_layout.py.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quorumlog.host.local_layout import (
    Layout,
    LocalClusterError,
    LocalNode,
    cluster_file_text,
    config_fields,
    plan_layout,
    read_layout,
    refuse_taken_ports,
    toml_text,
    write_atomic,
    write_layout,
)
from quorumlog.host.processes import Process, find_process, is_paused, send_signal, spawn, wait_for_effect, wait_gone

NODE_COMMAND = (sys.executable, "-P", "-m", "quorumlog.node")
POLL_S = 0.03
PROBE_TIMEOUT_S = 1.0
KILL_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
IDENTITY_VARIABLES = {
    f"QUORUMLOG_{key}"
    for key in (
        *("NODE_ID", "CLUSTER_ID", "DATA_DIR", "VOTERS"),
        *(f"{listener}_{kind}" for listener in ("KAFKA", "PEER", "HTTP") for kind in ("LISTEN", "ADVERTISED")),
    )
}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How a node is right now: state is ready, running (not ready; `reason` says why), paused or stopped."""

    node: LocalNode
    state: str
    pid: int | None
    reason: str = ""


class LocalProcesses:
    """The node processes of one directory. Whoever calls `up` calls `down` or `kill_all` at the end, or leaves them running.

    It remembers nothing but the children it started (to reap them): another process may kill and start nodes meanwhile.
    """

    def __init__(
        self,
        directory: Path,
        *,
        die_with_parent: bool,
        node_command: Sequence[str] | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_wait` is called again and again while a start waits; what it raises ends the start, and leaves no process."""
        self.directory = directory.resolve()
        self._die_with_parent = die_with_parent
        self._node_command = tuple(node_command or NODE_COMMAND)
        self._on_wait = on_wait
        self._children: dict[int, Process] = {}

    # What there is

    @property
    def cluster_file(self) -> Path:
        return self.directory / "cluster.json"

    @property
    def layout(self) -> Layout:
        """Raises LocalClusterError if no cluster was ever set up here."""
        layout = read_layout(self.directory)
        if layout is None:
            raise LocalClusterError(f"no cluster in {self.directory}: 'quorumlog local up --dir {self.directory}' makes one")
        return layout

    @property
    def nodes(self) -> list[LocalNode]:
        return self.layout.nodes(self.directory)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.kafka for node in self.nodes)

    def node(self, node_id: int) -> LocalNode:
        nodes = self.nodes
        if not 1 <= node_id <= len(nodes):
            raise LocalClusterError(f"there is no node {node_id} in {self.directory}, only 1 to {len(nodes)}")
        return nodes[node_id - 1]

    def pid(self, node_id: int) -> int | None:
        """The pid of a node's process, or None if it does not run."""
        return self._pid_of(self.node(node_id))

    def status(self) -> list[NodeStatus]:
        return [self._status_of(node) for node in self.nodes]

    # The whole cluster

    def up(
        self,
        *,
        node_count: int | None = None,
        base_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Format what is new, start every node, wait until all are ready, write cluster.json.

        A directory used before is started again with its data; its node count and ports are the defaults. Raises
        LocalClusterError; no node is left running then.
        """
        layout = plan_layout(read_layout(self.directory), node_count, base_port, settings or {})
        nodes = layout.nodes(self.directory)
        self._refuse_running(nodes)
        refuse_taken_ports(nodes)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cluster_file.unlink(missing_ok=True)
        write_layout(self.directory, layout)
        try:
            self._start_all(nodes, layout, timeout_s)
        except BaseException:
            self.kill_all()
            raise

    def down(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop every node cleanly, all at once; those still there after `timeout_s` are killed."""
        pids = [pid for node in self.nodes if (pid := self._pid_of(node)) is not None]
        for pid in pids:
            send_signal(pid, signal.SIGTERM)
            send_signal(pid, signal.SIGCONT)  # a paused one takes its TERM only when it wakes
        deadline = time.monotonic() + timeout_s
        for pid in pids:
            wait_gone(pid, max(deadline - time.monotonic(), 0))
        self.kill_all()

    def kill_all(self) -> None:
        """Leave no process of this directory behind, at once and without a clean stop."""
        layout = read_layout(self.directory)
        for node in layout.nodes(self.directory) if layout else []:
            self._kill(node)
        for child in self._children.values():
            send_signal(child.pid, signal.SIGKILL)
            child.wait(timeout=KILL_TIMEOUT_S)
        self._children.clear()
        self.cluster_file.unlink(missing_ok=True)

    # One node

    def start(self, node_id: int, *, timeout_s: float = START_TIMEOUT_S, wait: bool = True) -> None:
        """Start a node that does not run, on the data it has, and (with `wait`) wait until it is ready.

        Raises LocalClusterError if it runs already, exits, or is not ready in time; it does not run then.
        """
        node = self.node(node_id)
        self._refuse_running([node])
        self._spawn(node)
        try:
            if wait:
                self.wait_ready([node_id], timeout_s=timeout_s)
        except BaseException:
            self._kill(node)
            raise
        self._write_cluster_file()

    def signal(self, node_id: int, number: signal.Signals, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Send a signal and wait until it has its effect. Raises LocalClusterError if the node does not run, or goes on."""
        pid = self.pid(node_id)
        if pid is None:
            raise LocalClusterError(f"node {node_id} does not run")
        send_signal(pid, number)
        if not wait_for_effect(pid, number, timeout_s):
            raise LocalClusterError(f"node {node_id} (process {pid}) has not obeyed {number.name} within {timeout_s:g} s")
        self._reap()

    def wait_ready(self, node_ids: Sequence[int] | None = None, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until nodes (all by default) answer /readyz with 200. Raises LocalClusterError if one exits or time runs out."""
        waiting = self.nodes if node_ids is None else [self.node(node_id) for node_id in node_ids]
        deadline = time.monotonic() + timeout_s
        while waiting:
            reasons = {node.node_id: unreadiness(node.http) for node in waiting}
            waiting = [node for node in waiting if reasons[node.node_id]]
            for node in waiting:
                self._refuse_exited(node)
            if waiting and time.monotonic() > deadline:
                raise LocalClusterError(_not_ready(waiting[0], timeout_s, reasons[waiting[0].node_id]))
            if waiting:
                self._on_wait()
                time.sleep(POLL_S)

    def take_exited(self) -> list[tuple[int, int]]:
        """(node id, return code) of every child of ours that ended since the last call."""
        ended = [(node_id, code) for node_id, child in self._children.items() if (code := child.poll()) is not None]
        for node_id, _ in ended:
            del self._children[node_id]
        return ended

    # Inside

    def _pid_of(self, node: LocalNode) -> int | None:
        self._reap()
        child = self._children.get(node.node_id)
        if child is not None and child.returncode is None:
            return child.pid  # while it turns from launcher to node (execve) its command line is empty for a moment
        return find_process(node.run_words)

    def _reap(self) -> None:
        for child in self._children.values():
            child.poll()

    def _status_of(self, node: LocalNode) -> NodeStatus:
        pid = self._pid_of(node)
        if pid is None:
            return NodeStatus(node, "stopped", None)
        if is_paused(pid):
            return NodeStatus(node, "paused", pid)
        reason = unreadiness(node.http)
        return NodeStatus(node, "running" if reason else "ready", pid, reason)

    def _refuse_running(self, nodes: Sequence[LocalNode]) -> None:
        for node in nodes:
            pid = self._pid_of(node)
            if pid is None:
                continue
            state = "is paused" if is_paused(pid) else "runs already"
            raise LocalClusterError(f"node {node.node_id} of {self.directory} {state}, as process {pid}")

    def _start_all(self, nodes: Sequence[LocalNode], layout: Layout, timeout_s: float) -> None:
        for node in nodes:
            write_atomic(node.config_file, toml_text(config_fields(node, nodes, layout)))
        if not layout.formatted:
            self._format_all(nodes, layout)
            write_layout(self.directory, replace(layout, formatted=True))
        for node in nodes:
            self._spawn(node)
        self.wait_ready(timeout_s=timeout_s)
        self._write_cluster_file()

    def _format_all(self, nodes: Sequence[LocalNode], layout: Layout) -> None:
        voters = ",".join(str(voter) for voter in layout.voter_ids)
        for node in nodes:
            identity = [f"--data-dir={node.data_dir}", f"--cluster-id={layout.cluster_id}", f"--node-id={node.node_id}"]
            command = [*self._node_command, "format", *identity, f"--voters={voters}", "--ignore-formatted"]
            self._children[node.node_id] = spawn(command, node.log_file, environment(), die_with_parent=True)
        for node in nodes:
            code = self._children[node.node_id].wait(timeout=START_TIMEOUT_S)
            if code != 0:
                raise LocalClusterError(
                    f"node {node.node_id} could not be formatted: it {describe_exit(code)}\n{quoted_log(node)}"
                )
        self._children.clear()

    def _spawn(self, node: LocalNode) -> None:
        own = {key: value.replace("{node_id}", str(node.node_id)) for key, value in self.layout.settings.items()}
        settings = [word for key, value in own.items() for word in ("--set", f"{key}={value}")]
        command = [*self._node_command, *node.run_words, *settings]
        self._children[node.node_id] = spawn(command, node.log_file, environment(), die_with_parent=self._die_with_parent)

    def _refuse_exited(self, node: LocalNode) -> None:
        if self._pid_of(node) is not None:
            return
        child = self._children.get(node.node_id)
        ending = describe_exit(child.returncode) if child and child.returncode is not None else "does not run"
        raise LocalClusterError(f"node {node.node_id} {ending}\n{quoted_log(node)}")

    def _kill(self, node: LocalNode) -> None:
        pid = self._pid_of(node)
        if pid is not None:
            send_signal(pid, signal.SIGKILL)
            wait_gone(pid, KILL_TIMEOUT_S)
            self._reap()

    def _write_cluster_file(self) -> None:
        nodes = self.nodes
        pids = {node.node_id: self._pid_of(node) for node in nodes}
        write_atomic(self.cluster_file, cluster_file_text(nodes, pids))


def environment() -> dict[str, str]:
    """Our environment without the settings that tell nodes apart: a QUORUMLOG_NODE_ID meant for one node must not reach all."""
    return {name: value for name, value in os.environ.items() if name not in IDENTITY_VARIABLES}


def unreadiness(address: str) -> str:
    """Why the node behind an HTTP address (host:port) is not ready yet; empty if it is."""
    import http.client

    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(4096).decode(errors="replace")
        return "" if response.status == 200 else _reason_in(body) or f"/readyz answered {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{address} does not answer: {error}"
    finally:
        connection.close()


def _reason_in(body: str) -> str:
    try:
        fields = json.loads(body)
    except ValueError:
        return body.strip()
    return str(fields.get("reason", fields)) if isinstance(fields, dict) else body.strip()


def describe_exit(code: int) -> str:
    """A return code in words: 'exited with status 3', 'was ended by SIGKILL'."""
    return f"exited with status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def quoted_log(node: LocalNode) -> str:
    """The node's last words, indented under the name of its log."""
    lines = node.log_tail().splitlines() or ["(empty)"]
    return "\n".join([f"end of {node.log_file}:", *(f"  {line}" for line in lines)])


def _not_ready(node: LocalNode, timeout_s: float, reason: str) -> str:
    return f"node {node.node_id} is not ready after {timeout_s:g} s: {reason}\n{quoted_log(node)}"
