"""The files and ports of a local cluster: what `quorumlog local` and the test kit keep in one directory.

    DIR/layout.json      what `up` was told: cluster id, node count, ports, settings (only this module reads it)
    DIR/node-1.toml      the config of node 1, and the words by which its process is found again
    DIR/node-1/          its data directory
    DIR/node-1.log       its output
    DIR/cluster.json     there while the cluster is up, for others to read: bootstrap servers, and pid and ports of each node

Node i listens on base port + i - 1 for Kafka, + 100 for its peers, + 200 for HTTP.
"""

import base64
import json
import os
import random
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

HOST = "127.0.0.1"
DEFAULT_NODE_COUNT = 3
DEFAULT_BASE_PORT = 19092
NODE_COUNT_MAX = 100  # more would run from the Kafka ports into the peers' ports
PEER_PORT_OFFSET = 100
HTTP_PORT_OFFSET = 200
PORT_BLOCK = 300
FREE_BLOCKS = range(10_000, 32_000, PORT_BLOCK)  # below the ports that Linux hands to outgoing connections
VOTER_COUNT_MAX = 5
LOG_TAIL_LINES = 30
LOG_TAIL_BYTES = 16_384


class LocalClusterError(Exception):
    """The cluster could not do what was asked; the message says why, and ends in the node's last words where there are any."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """Where one node of a local cluster lives. Addresses are host:port."""

    node_id: int
    kafka: str
    peer: str
    http: str
    data_dir: Path
    config_file: Path
    log_file: Path

    @property
    def run_words(self) -> tuple[str, ...]:
        """The words on the command line of its process, and of no other."""
        return ("run", "--config", str(self.config_file))

    def log_tail(self, line_count: int = LOG_TAIL_LINES) -> str:
        """The last lines of its log; empty if there is none."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self.log_file.stat().st_size - LOG_TAIL_BYTES, 0))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-line_count:])
        except FileNotFoundError:
            return ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a directory was set up for. `settings` go to every node; `{node_id}` in a value stands for the node's own."""

    cluster_id: str
    node_count: int
    base_port: int
    settings: dict[str, str] = field(default_factory=dict)
    formatted: bool = False

    @property
    def voter_ids(self) -> range:
        """All nodes vote in clusters of up to three; larger ones have three or five voters, the others observe."""
        count = self.node_count if self.node_count <= 3 else 3 if self.node_count == 4 else VOTER_COUNT_MAX
        return range(1, count + 1)

    def nodes(self, directory: Path) -> list[LocalNode]:
        return [self._node(directory, node_id) for node_id in range(1, self.node_count + 1)]

    def _node(self, directory: Path, node_id: int) -> LocalNode:
        port = self.base_port + node_id - 1
        return LocalNode(
            node_id=node_id,
            kafka=f"{HOST}:{port}",
            peer=f"{HOST}:{port + PEER_PORT_OFFSET}",
            http=f"{HOST}:{port + HTTP_PORT_OFFSET}",
            data_dir=directory / f"node-{node_id}",
            config_file=directory / f"node-{node_id}.toml",
            log_file=directory / f"node-{node_id}.log",
        )


def read_layout(directory: Path) -> Layout | None:
    """The layout of a directory, or None if there is no cluster in it. Raises LocalClusterError if it cannot be read."""
    path = directory / "layout.json"
    try:
        return Layout(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LocalClusterError(f"{path} is damaged: {error}") from error


def write_layout(directory: Path, layout: Layout) -> None:
    write_atomic(directory / "layout.json", json.dumps(asdict(layout), indent=2) + "\n")


def plan_layout(held: Layout | None, node_count: int | None, base_port: int | None, settings: Mapping[str, str]) -> Layout:
    """The layout to run: what was held, with the ports and settings asked for. Raises LocalClusterError for another count."""
    if held is None:
        count = DEFAULT_NODE_COUNT if node_count is None else node_count
        return _checked(Layout(_new_cluster_id(), count, base_port or DEFAULT_BASE_PORT, dict(settings)))
    if node_count not in (None, held.node_count):
        raise LocalClusterError(f"the directory holds a cluster of {held.node_count} nodes, not of {node_count}")
    return _checked(replace(held, base_port=base_port or held.base_port, settings=dict(settings)))


def _checked(layout: Layout) -> Layout:
    if not 1 <= layout.node_count <= NODE_COUNT_MAX:
        raise LocalClusterError(f"a local cluster has 1 to {NODE_COUNT_MAX} nodes, not {layout.node_count}")
    highest = layout.base_port + HTTP_PORT_OFFSET + layout.node_count - 1
    if not (layout.base_port > 0 and highest < 65_536):
        raise LocalClusterError(f"base port {layout.base_port} needs ports up to {highest}; they end at 65535")
    return layout


def _new_cluster_id() -> str:
    """22 characters, as Kafka's own cluster ids have; no dash in front, which a command line would take for an option."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def config_fields(node: LocalNode, nodes: Sequence[LocalNode], layout: Layout) -> dict[str, str | int]:
    """The settings that make a node this node; everything else has its default."""
    voters = ",".join(f"{voter.node_id}@{voter.peer}" for voter in nodes if voter.node_id in layout.voter_ids)
    return {
        "node_id": node.node_id,
        "cluster_id": layout.cluster_id,
        "data_dir": str(node.data_dir),
        "voters": voters,
        "kafka_listen": node.kafka,
        "kafka_advertised": node.kafka,
        "peer_listen": node.peer,
        "peer_advertised": node.peer,
        "http_listen": node.http,
    }


def toml_text(fields: Mapping[str, str | int]) -> str:
    """Flat TOML. A JSON string is a TOML basic string, but for characters beyond the BMP, which are left unescaped."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items())


def cluster_file_text(nodes: Sequence[LocalNode], pids: Mapping[int, int | None]) -> str:
    """cluster.json: the contract with whoever finds a running cluster by its directory."""
    fields = [
        {
            "id": node.node_id,
            "pid": pids[node.node_id],
            "kafka": node.kafka,
            "peer": node.peer,
            "http": node.http,
            "data_dir": str(node.data_dir),
            "log_file": str(node.log_file),
        }
        for node in nodes
    ]
    return json.dumps({"bootstrap_servers": ",".join(node.kafka for node in nodes), "nodes": fields}, indent=2) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that a reader finds the old or the new text whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def refuse_taken_ports(nodes: Sequence[LocalNode]) -> None:
    """Raises LocalClusterError naming the first port that someone listens on already."""
    for node in nodes:
        for use, address in (("Kafka", node.kafka), ("peers", node.peer), ("HTTP", node.http)):
            if not is_free(int(address.rpartition(":")[2])):
                raise LocalClusterError(f"{address} (node {node.node_id}, {use}) is in use; choose another --base-port")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the nodes do: a port is free although connections of an earlier owner are still in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class ReservedPorts:
    """A block of free ports, kept from other test runs on this machine until `release` or the end of the process.

    The reservation is an abstract Unix socket (unix(7)): bound by one process at a time, gone with its owner.
    """

    def __init__(self, node_count: int) -> None:
        """Raises LocalClusterError if every block is taken."""
        for base_port in random.sample(FREE_BLOCKS, len(FREE_BLOCKS)):
            lock = _bind_lock(base_port)
            if lock is None:
                continue
            if all(is_free(base_port + offset + index) for offset in (0, 100, 200) for index in range(node_count)):
                self.base_port, self._lock = base_port, lock
                return
            lock.close()
        raise LocalClusterError(f"no free block of {PORT_BLOCK} ports from {FREE_BLOCKS.start} to {FREE_BLOCKS.stop}")

    def release(self) -> None:
        self._lock.close()


def _bind_lock(base_port: int) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0quorumlog-local-{base_port}")
    except OSError:
        lock.close()
        return None
    return lock
