"""The local target: real node processes, each with a network and a file system of its own where this machine has them.

What the machine lacks is said (`shortcomings`), and the faults that need it are not made. Without a network of their own all
nodes listen on loopback; without a file system of their own they keep their data in plain directories.
"""

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from quorumlog.cli.certs import make_certificates
from quorumlog.host.local_cluster import NODE_COMMAND, describe_exit, environment, quoted_log, unreadiness
from quorumlog.host.local_layout import HOST, LocalNode, ReservedPorts, toml_text
from quorumlog.host.processes import Process, find_process, send_signal, spawn, wait_for_effect, wait_gone
from tests.chaos.disks import LocalDisks
from tests.chaos.network import Network, NetworkError
from tests.chaos.targets import Ability, TargetError
from tests.cluster.leaders import metric

NODES = (1, 2, 3)
CLUSTER_ID = "chaos"
KAFKA_PORT, PEER_PORT, HTTP_PORT = 19092, 19192, 19292
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 10.0
CONTROLLER_TIMEOUT_S = 10.0
POLL_S = 0.03
SETTINGS: Mapping[str, str] = {
    # Leadership goes back to preferred replicas within seconds, so that it moves all the time.
    "leader_rebalance_interval_s": "3",
    # Segments are rolled, checkpoints and snapshots written often, so that faults strike them too.
    "segment_bytes": str(1 << 20),
    "checkpoint_interval_bytes": str(256 << 10),
    "snapshot_every_entries": "50",
    "auto_create_topics": "false",
    # Groups of chaos share few coordinators, and there are fewer replicas to look after.
    "offsets_topic_num_partitions": "4",
    "transaction_state_log_num_partitions": "3",
    # Members that fall silent are noticed within the round.
    "group_consumer_min_session_timeout_ms": "6000",
    "group_consumer_session_timeout_ms": "6000",
    "group_consumer_min_heartbeat_interval_ms": "1000",
    "group_consumer_heartbeat_interval_ms": "1000",
}


class LocalTarget:
    """Three nodes in a directory that `close` removes. Implements `targets.Target`; not for several threads at once."""

    name = "local"
    nodes = NODES

    def __init__(self, settings: Mapping[str, str] = SETTINGS, *, node_command: Sequence[str] = NODE_COMMAND) -> None:
        """Takes the network and the file systems at once, so that the abilities are known; whoever makes it closes it."""
        self._settings = dict(settings)
        self._node_command = tuple(node_command)
        self._children: dict[int, Process] = {}
        self._lacking: list[str] = []
        self._ports: ReservedPorts | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="quorumlog-chaos-"))
        self.links = self._made_network()
        self.disks = self._made_disks()
        self._layout = {node: self._node(node) for node in NODES}

    # What there is

    @property
    def bootstrap(self) -> str:
        return ",".join(node.kafka for node in self._layout.values())

    @property
    def abilities(self) -> frozenset[Ability]:
        network = {Ability.ISOLATE, Ability.LINKS} if self.links else set()
        return frozenset({Ability.FILES, *network, *({Ability.DISKS} if self.disks else ())})

    @property
    def shortcomings(self) -> tuple[str, ...]:
        return tuple(self._lacking)

    def data_dirs(self) -> Mapping[int, Path]:
        return {node: self._data_dir(node) for node in NODES}

    def log_tails(self) -> Mapping[int, str]:
        return {node.node_id: node.log_tail() for node in self._layout.values()}

    def keep(self, directory: Path) -> None:
        for node in self._layout.values():
            shutil.copy(node.log_file, directory)
            shutil.copytree(node.data_dir, directory / node.data_dir.name)

    # The whole cluster

    def start(self) -> None:
        hosts = [node.kafka.rpartition(":")[0] for node in self._layout.values()]
        make_certificates(self._certificates, cluster_id=CLUSTER_ID, node_ids=NODES, hosts=hosts, life=timedelta(days=30))
        for node in self._layout.values():
            node.config_file.write_text(toml_text(self._config(node)))
            self._format(node)
        for node_id in NODES:
            self._spawn(node_id)
        self.wait_ready(START_TIMEOUT_S)

    def stop(self) -> None:
        for node in NODES:
            self.resume(node)
            if self.is_running(node):
                send_signal(self._children[node].pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        late = [node for node in NODES if not self._wait_gone(node, max(deadline - time.monotonic(), 0.0))]
        if late:
            self.kill(*late)
            raise TargetError(f"nodes {late} have not stopped within {STOP_TIMEOUT_S:g} s")

    def close(self) -> None:
        with contextlib.ExitStack() as last_first:
            last_first.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for owned in (self._ports, self.links, self.disks):
                if owned is not None:
                    last_first.callback(owned.release if isinstance(owned, ReservedPorts) else owned.close)
            last_first.callback(self._kill_all)

    def wait_ready(self, timeout_s: float) -> None:
        self._wait_ready([node for node in NODES if node in self._children], timeout_s)

    def active_controller(self) -> int:
        deadline = time.monotonic() + CONTROLLER_TIMEOUT_S
        while time.monotonic() < deadline:
            for node in self._layout.values():
                with contextlib.suppress(OSError, KeyError):
                    if self.is_running(node.node_id) and metric(node.http, "quorumlog_controller_active") == 1:
                        return node.node_id
            time.sleep(POLL_S)
        raise TargetError(f"no node is the active controller within {CONTROLLER_TIMEOUT_S:g} s")

    # One node

    def is_running(self, node: int) -> bool:
        child = self._children.get(node)
        return child is not None and child.poll() is None

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            if self.is_running(node):
                send_signal(self._children[node].pid, signal.SIGKILL)
        late = [node for node in nodes if not self._wait_gone(node, KILL_TIMEOUT_S)]
        if late:
            raise TargetError(f"nodes {late} outlive SIGKILL")

    def pause(self, node: int) -> None:
        self._signal(node, signal.SIGSTOP, KILL_TIMEOUT_S)

    def resume(self, node: int) -> None:
        if self.is_running(node):
            self._signal(node, signal.SIGCONT, KILL_TIMEOUT_S)

    def stop_node(self, node: int) -> None:
        self._signal(node, signal.SIGTERM, STOP_TIMEOUT_S)
        self._wait_gone(node, KILL_TIMEOUT_S)

    def start_node(self, node: int, *, wait: bool = True) -> None:
        if self.is_running(node):
            raise TargetError(f"node {node} runs already")
        self._spawn(node)
        if wait:
            self._wait_ready([node], START_TIMEOUT_S)

    def isolate(self, node: int) -> None:
        if self.links is None:
            raise TargetError("the nodes have no network of their own")
        self.links.isolate(node)

    def rejoin(self, node: int) -> None:
        if self.links is not None:
            self.links.heal()

    # Inside

    def _kill_all(self) -> None:
        """Also a node that was just being started when we were interrupted, and is in no list yet."""
        self.kill(*NODES)
        for node in self._layout.values():
            if (pid := find_process(node.run_words)) is not None:
                send_signal(pid, signal.SIGKILL)
                wait_gone(pid, KILL_TIMEOUT_S)

    def _made_network(self) -> Network | None:
        try:
            return Network(NODES)
        except (NetworkError, OSError) as error:
            self._lacking.append(f"no network namespaces, so no link is cut: {error}")
            return None

    def _made_disks(self) -> LocalDisks | None:
        try:
            return LocalDisks(self.directory, {node: self._data_dir(node) for node in NODES})
        except OSError as error:
            self._lacking.append(f"no file systems can be mounted, so no disk fills up or loses power: {error}")
            return None

    def _data_dir(self, node: int) -> Path:
        return self.directory / f"node-{node}"

    @property
    def _certificates(self) -> Path:
        return self.directory / "certificates"

    def _node(self, node: int) -> LocalNode:
        host, kafka, peer, http = self._addresses(node)
        return LocalNode(
            node_id=node,
            kafka=f"{host}:{kafka}",
            peer=f"{host}:{peer}",
            http=f"{host}:{http}",
            data_dir=self._data_dir(node),
            config_file=self.directory / f"node-{node}.toml",
            log_file=self.directory / f"node-{node}.log",
        )

    def _addresses(self, node: int) -> tuple[str, int, int, int]:
        if self.links is not None:
            return self.links.address(node), KAFKA_PORT, PEER_PORT, HTTP_PORT
        self._ports = self._ports or ReservedPorts(len(NODES))
        first = self._ports.base_port + node - 1
        return HOST, first, first + 100, first + 200

    def _config(self, node: LocalNode) -> dict[str, str | int]:
        return {
            "node_id": node.node_id,
            "cluster_id": CLUSTER_ID,
            "data_dir": str(node.data_dir),
            "voters": ",".join(f"{voter.node_id}@{voter.peer}" for voter in self._layout.values()),
            "kafka_listen": node.kafka,
            "peer_listen": node.peer,
            "http_listen": node.http,
            "certs_dir": str(self._certificates),
            **self._settings,
        }

    def _format(self, node: LocalNode) -> None:
        identity = ["--data-dir", str(node.data_dir), "--cluster-id", CLUSTER_ID, "--node-id", str(node.node_id)]
        voters = ",".join(map(str, NODES))
        command = [*self._node_command, "format", *identity, "--voters", voters]
        child = spawn(command, node.log_file, environment(), die_with_parent=True)
        if (code := child.wait(START_TIMEOUT_S)) != 0:
            raise TargetError(f"node {node.node_id} could not be formatted: it {describe_exit(code)}\n{quoted_log(node)}")

    def _spawn(self, node: int) -> None:
        layout = self._layout[node]
        place = self.links.command_prefix(node) if self.links else []
        command = [*place, *self._node_command, *layout.run_words]
        self._children[node] = spawn(command, layout.log_file, environment(), die_with_parent=True)

    def _signal(self, node: int, number: signal.Signals, timeout_s: float) -> None:
        if not self.is_running(node):
            raise TargetError(f"node {node} does not run\n{quoted_log(self._layout[node])}")
        pid = self._children[node].pid
        send_signal(pid, number)
        if not wait_for_effect(pid, number, timeout_s):
            raise TargetError(f"node {node} has not obeyed {number.name} within {timeout_s:g} s")

    def _wait_gone(self, node: int, timeout_s: float) -> bool:
        child = self._children.get(node)
        if child is None or child.poll() is not None:
            return True
        return wait_gone(child.pid, timeout_s) and child.wait(KILL_TIMEOUT_S) is not None

    def _wait_ready(self, nodes: Sequence[int], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        waiting = dict.fromkeys(nodes, "never asked")
        while waiting:
            waiting = {node: reason for node in waiting if (reason := unreadiness(self._layout[node].http))}
            for node in waiting:
                self._refuse_exited(node)
            if waiting and time.monotonic() > deadline:
                words = "\n".join(quoted_log(self._layout[node]) for node in waiting)
                raise TargetError(f"not ready after {timeout_s:g} s: {waiting}\n{words}")
            if waiting:
                time.sleep(POLL_S)

    def _refuse_exited(self, node: int) -> None:
        code = self._children[node].poll()
        if code is not None:
            raise TargetError(f"node {node} {describe_exit(code)}\n{quoted_log(self._layout[node])}")
