"""Apache Kafka itself as a local cluster of combined KRaft nodes, with the faults that LocalCluster has.

`python -m tests.clients.kafka_peer` starts one, prints its bootstrap servers, and ends it with Ctrl-C.
"""

import argparse
import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from quorumlog.host.local_layout import ReservedPorts
from quorumlog.host.processes import Process, spawn
from tests.clients import cache

HOST = "127.0.0.1"
READY_TIMEOUT_S = 90
CONTROLLER_PORT_OFFSET = 100
QUICK_JVM = ("-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOGGING = ("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

# What a test cannot wait for; all else is Kafka's default, or what three nodes need.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "8",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """How the nodes run: the default is quick to start and small, for tests; benchmarks measure another."""

    settings: Mapping[str, str]
    jvm: tuple[str, ...]
    command_prefix: Callable[[int], list[str]] = lambda _: []
    host: Callable[[int], str] = lambda _: HOST
    ready_timeout_s: float = READY_TIMEOUT_S


QUICK = Setup(SETTINGS, QUICK_JVM)


class KafkaCluster:
    """Kafka's processes, all up within the `with` block; they and their data go with it."""

    def __init__(
        self, nodes: int = 3, settings: Mapping[str, str] | None = None, *, setup: Setup = QUICK, parent: Path | None = None
    ) -> None:
        """`parent` is where its directory is made, by default where temporary files are."""
        self._node_ids = range(1, nodes + 1)
        self._setup, self._parent = setup, parent
        self._settings = dict(setup.settings) | dict(settings or {})
        if nodes < 3:
            small = {"offsets.topic.replication.factor": str(nodes), "transaction.state.log.replication.factor": str(nodes)}
            small |= {"transaction.state.log.min.isr": "1", "default.replication.factor": str(nodes), "min.insync.replicas": "1"}
            self._settings |= small | dict(settings or {})
        self._running: dict[int, Process] = {}

    def __enter__(self) -> Self:
        self._java, self._classpath = cache.java(), cache.classpath()
        self.directory = Path(tempfile.mkdtemp(prefix="kafka-", dir=self._parent))
        self._ports = ReservedPorts(len(self._node_ids))
        try:
            self._format()
            self.started_at = time.monotonic()
            for node_id in self._node_ids:
                self._spawn(node_id)
            for node_id in self._node_ids:
                self._wait(node_id)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for node_id in list(self._running):
            self._end(node_id, signal.SIGKILL)
        self._ports.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _port(self, node_id: int) -> int:
        return self._ports.base_port + node_id - 1

    def _address(self, node_id: int, offset: int = 0) -> str:
        return f"{self._setup.host(node_id)}:{self._port(node_id) + offset}"

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(self._address(node_id) for node_id in self._node_ids)

    @property
    def node_ids(self) -> list[int]:
        return list(self._node_ids)

    def segments(self, topic: str, partition: int) -> list[Path]:
        """The segment files of a partition on some node, by ascending offset."""
        return sorted((self.data_dir(1) / f"{topic}-{partition}").glob("*.log"))

    def data_dir(self, node_id: int) -> Path:
        return self.directory / f"data-{node_id}"

    def pid(self, node_id: int) -> int | None:
        """The pid of a node's process, or None if it does not run."""
        process = self._running.get(node_id)
        return process.pid if process else None

    def kill(self, node_id: int) -> None:
        self._end(node_id, signal.SIGKILL)

    def stop(self, node_id: int) -> None:
        """A controlled shutdown: it hands over leadership first."""
        self._end(node_id, signal.SIGTERM)

    def pause(self, node_id: int) -> None:
        self._running[node_id].send_signal(signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        self._running[node_id].send_signal(signal.SIGCONT)

    def start(self, node_id: int, *, wait: bool = True) -> None:
        self._spawn(node_id)
        if wait:
            self._wait(node_id)

    def wait_ready(self) -> None:
        for node_id in self._running:
            self._wait(node_id)

    def log(self, node_id: int) -> str:
        return (self.directory / f"node-{node_id}.log").read_text(errors="replace")

    def _properties(self, node_id: int) -> str:
        voters = ",".join(f"{each}@{self._address(each, CONTROLLER_PORT_OFFSET)}" for each in self._node_ids)
        listeners = f"PLAINTEXT://{self._address(node_id)},CONTROLLER://{self._address(node_id, CONTROLLER_PORT_OFFSET)}"
        own = {
            "process.roles": "broker,controller",
            "node.id": str(node_id),
            "controller.quorum.voters": voters,
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://{self._address(node_id)}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir(node_id)),
        }
        return "".join(f"{name}={value}\n" for name, value in (own | self._settings).items())

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        command = [self._java, *QUICK_JVM, *LOGGING, "-cp", self._classpath, "kafka.tools.StorageTool", "format"]
        for node_id in self._node_ids:
            path = self.directory / f"node-{node_id}.properties"
            path.write_text(self._properties(node_id))
            done = subprocess.run([*command, "-t", cluster_id, "-c", str(path)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"kafka-storage format: {done.stdout}{done.stderr}")

    def _spawn(self, node_id: int) -> None:
        command = [*self._setup.command_prefix(node_id), self._java, *self._setup.jvm]
        command += [*LOGGING, "-cp", self._classpath, "kafka.Kafka"]
        command.append(str(self.directory / f"node-{node_id}.properties"))
        log_file = self.directory / f"node-{node_id}.log"
        self._running[node_id] = spawn(command, log_file, os.environ, die_with_parent=True)

    def _wait(self, node_id: int) -> None:
        """Until its port answers: Kafka opens it when the broker is unfenced."""
        deadline = time.monotonic() + self._setup.ready_timeout_s
        while time.monotonic() < deadline:
            if self._running[node_id].poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection((self._setup.host(node_id), self._port(node_id)), 1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"Kafka's node {node_id} is not ready:\n" + self.log(node_id)[-4000:])

    def _end(self, node_id: int, how: signal.Signals) -> None:
        process = self._running.pop(node_id)
        process.send_signal(how)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.kafka_peer", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a line of server.properties")
    arguments = parser.parse_args()
    for how in (signal.SIGINT, signal.SIGTERM):
        signal.signal(how, lambda *_: sys.exit())
    with KafkaCluster(arguments.nodes, dict(line.split("=", 1) for line in arguments.set)) as cluster:
        print(f"Kafka {cache.kafka_version()}: {cluster.bootstrap_servers}\ndata and logs: {cluster.directory}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
