"""The cluster of docker-compose.yml, under a project name of its own so that nobody's running cluster is touched."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tenacity

from tests.chaos.targets import TargetError

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "quorumlog:compose-test"
NODES = (1, 2, 3)
HOST = "127.0.0.1"
KAFKA_PORTS = {1: 19092, 2: 19093, 3: 19094}
HTTP_PORTS = {1: 19292, 2: 19293, 3: 19294}
DATA_DIR = "/var/lib/quorumlog"
STOP_TIMEOUT_S = 25


class EngineError(TargetError):
    """The container engine did not do what it was told; the message has the command and what it answered."""


class UnhealthyError(Exception):
    """Not every node is healthy yet."""


def compose_command() -> list[str]:
    """Compose v2 where it is installed, docker-compose 1.29 otherwise. EngineError without either, or without an engine."""
    if not shutil.which("docker"):
        raise EngineError("no container engine: 'docker' is not installed")
    run(["docker", "info", "--format", "{{.ServerVersion}}"], timeout_s=30)
    try:
        run(["docker", "compose", "version"], timeout_s=30)
    except EngineError:
        if shutil.which("docker-compose"):
            return ["docker-compose"]
        raise EngineError("neither 'docker compose' nor 'docker-compose' is installed") from None
    return ["docker", "compose"]


def run(command: Sequence[str], timeout_s: float, environment: dict[str, str] | None = None) -> str:
    """Runs in the repository; returns what the command printed. Raises EngineError."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{' '.join(command)}: no answer within {timeout_s:g} s") from error
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-8000:]}".rstrip())
    return done.stdout


class Stack:
    """Three containers and their volumes, from up() to down(); whoever called up() calls down(). They raise EngineError."""

    def __init__(
        self, compose: Sequence[str], *, project: str = "quorumlog-compose-test", host: str = HOST, overrides: Path | None = None
    ) -> None:
        """`host` is the address of this machine that the ports are published on; `overrides` a second Compose file."""
        files = [ROOT / "docker-compose.yml", *([overrides] if overrides else [])]
        self._compose = [*compose, "--project-name", project, *(word for file in files for word in ("--file", str(file)))]
        self._environment = {"QUORUMLOG_IMAGE": IMAGE, "QUORUMLOG_HOST_ADDRESS": host}
        self._network = f"{project}_default"
        self._project = project
        self._host = host
        self._containers: dict[int, str] = {}

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{self._host}:{KAFKA_PORTS[node]}" for node in NODES)

    def http(self, node: int) -> str:
        """host:port of a node's /readyz and /metrics."""
        return f"{self._host}:{HTTP_PORTS[node]}"

    # All containers

    def build(self) -> None:
        base_image = os.environ.get("BASE_IMAGE")
        argument = ["--build-arg", f"BASE_IMAGE={base_image}"] if base_image else []
        run(["docker", "build", "--network", "host", "--tag", IMAGE, *argument, "."], timeout_s=300)

    def up(self) -> None:
        self._run_compose("up", "--detach", "--no-build", timeout_s=120)
        self._containers = {node: self._find(node) for node in NODES}

    def down(self) -> None:
        self._run_compose("down", "--volumes", "--timeout", "15", timeout_s=120)
        self._containers.clear()

    def logs(self, lines: int) -> str:
        return self._run_compose("logs", "--no-color", f"--tail={lines}", timeout_s=60)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(UnhealthyError),
        wait=tenacity.wait_fixed(0.5),
        stop=tenacity.stop_after_delay(90),
        reraise=True,
    )
    def wait_until_healthy(self) -> None:
        """Raises UnhealthyError after 90 seconds."""
        health = {node: found["State"]["Health"]["Status"] for node, found in self.inspect(NODES).items()}
        if set(health.values()) != {"healthy"}:
            raise UnhealthyError(f"health of the nodes: {health}")

    # Some of them

    def inspect(self, nodes: Sequence[int]) -> dict[int, dict[str, Any]]:
        """All that the engine knows of each container."""
        found: list[dict[str, Any]] = json.loads(self._run_docker("inspect", nodes=nodes)) if nodes else []
        return dict(zip(nodes, found, strict=True))

    def exit_codes(self) -> dict[int, int]:
        return {node: int(found["State"]["ExitCode"]) for node, found in self.inspect(NODES).items()}

    def kill(self, *nodes: int) -> None:
        """SIGKILL, all at once; returns when they are gone. The engine does not start them again."""
        self._run_docker("kill", nodes=nodes)

    def stop(self, *nodes: int) -> None:
        """SIGTERM, and SIGKILL after 25 seconds: the exit codes tell."""
        self._run_docker("stop", f"--time={STOP_TIMEOUT_S}", nodes=nodes, timeout_s=STOP_TIMEOUT_S + 30)

    def start(self, *nodes: int) -> None:
        self._run_docker("start", nodes=nodes)

    def pause(self, node: int) -> None:
        """Freezes every process of the container, which keeps its connections."""
        self._run_docker("pause", nodes=[node])

    def unpause(self, node: int) -> None:
        self._run_docker("unpause", nodes=[node])

    def disconnect(self, node: int) -> None:
        """Takes the container's one network from it, and with it the ports on the host."""
        self._run_docker("network", "disconnect", self._network, nodes=[node])

    def connect(self, node: int) -> None:
        """Gives it back, perhaps with another address, under the name that the other nodes know."""
        self._run_docker("network", "connect", "--alias", f"node-{node}", self._network, nodes=[node])

    def is_connected(self, node: int) -> bool:
        return self._network in self.inspect([node])[node]["NetworkSettings"]["Networks"]

    def log_tail(self, node: int, lines: int) -> str:
        # A container's errors come as the command's errors, so the shell puts them together, in their order.
        return run(["sh", "-c", 'exec docker logs --tail="$1" "$2" 2>&1', "-", str(lines), self._containers[node]], timeout_s=30)

    def copy_data(self, node: int, directory: Path) -> None:
        """A copy of the node's data directory, wherever the engine keeps it."""
        run(["docker", "cp", f"{self._containers[node]}:{DATA_DIR}", str(directory)], timeout_s=120)

    def _run_docker(self, *words: str, nodes: Iterable[int], timeout_s: float = 30) -> str:
        return run(["docker", *words, *(self._containers[node] for node in nodes)], timeout_s)

    def _run_compose(self, *words: str, timeout_s: float) -> str:
        return run([*self._compose, *words], timeout_s, self._environment)

    def _find(self, node: int) -> str:
        # By its labels: Compose 1 and 2 name their containers differently, and docker-compose needs most of a second to tell.
        labels = [f"label=com.docker.compose.project={self._project}", f"label=com.docker.compose.service=node-{node}"]
        found = run(
            ["docker", "ps", "--all", "--quiet", *(word for label in labels for word in ("--filter", label))], timeout_s=30
        )
        return found.strip()
