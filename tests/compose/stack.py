"""The cluster of docker-compose.yml, under a project name of its own so that nobody's running cluster is touched."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tenacity

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "quorumlog:compose-test"
PROJECT = "quorumlog-compose-test"
NODES = (1, 2, 3)
BOOTSTRAP_SERVERS = "127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094"


class UnhealthyError(Exception):
    """Not every node is healthy yet."""


def compose_command() -> list[str]:
    """Compose v2 where it is installed, docker-compose 1.29 otherwise; SystemExit if there is neither."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise SystemExit("neither 'docker compose' nor 'docker-compose' is installed")


def run(command: Sequence[str], timeout_seconds: float, *, quiet: bool = False) -> str:
    """Runs in the repository; returns what the command printed. Shows it only on failure, which raises CalledProcessError."""
    environment = os.environ | {"QUORUMLOG_IMAGE": IMAGE, "COMPOSE_PROJECT_NAME": PROJECT}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        timeout=timeout_seconds,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and not quiet:
        print(done.stdout[-8000:], done.stderr[-8000:], sep="\n")
    done.check_returncode()
    return done.stdout


class Stack:
    """Three containers and their volumes, from up() to down(); whoever called up() calls down()."""

    def __init__(self, compose: Sequence[str]) -> None:
        self.compose = list(compose)

    def build(self) -> None:
        base_image = os.environ.get("BASE_IMAGE")
        argument = ["--build-arg", f"BASE_IMAGE={base_image}"] if base_image else []
        run(["docker", "build", "--network", "host", "--tag", IMAGE, *argument, "."], timeout_seconds=300)

    def up(self) -> None:
        run([*self.compose, "up", "--detach", "--no-build"], timeout_seconds=120)

    def down(self) -> None:
        run([*self.compose, "down", "--volumes", "--timeout", "15"], timeout_seconds=120)

    def logs(self, lines: int) -> str:
        return run([*self.compose, "logs", "--no-color", f"--tail={lines}"], timeout_seconds=60, quiet=True)

    def kill(self, node: int) -> None:
        run(["docker", "kill", "--signal", "KILL", self._container(node)], timeout_seconds=30)

    def start(self, node: int) -> None:
        run([*self.compose, "start", f"node-{node}"], timeout_seconds=60)

    def stop(self) -> None:
        run([*self.compose, "stop", "--timeout", "20", *(f"node-{node}" for node in NODES)], timeout_seconds=90)

    def exit_codes(self) -> dict[int, int]:
        return {node: int(self._inspect(node)["ExitCode"]) for node in NODES}

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(UnhealthyError),
        wait=tenacity.wait_fixed(0.5),
        stop=tenacity.stop_after_delay(90),
        reraise=True,
    )
    def wait_until_healthy(self) -> None:
        """Raises UnhealthyError after 90 seconds."""
        health = {node: self._inspect(node)["Health"]["Status"] for node in NODES}
        if set(health.values()) != {"healthy"}:
            raise UnhealthyError(f"health of the nodes: {health}")

    def _container(self, node: int) -> str:
        return run([*self.compose, "ps", "--all", "--quiet", f"node-{node}"], timeout_seconds=30).strip()

    def _inspect(self, node: int) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(
            run(["docker", "inspect", "--format", "{{json .State}}", self._container(node)], timeout_seconds=30)
        )
        return state
