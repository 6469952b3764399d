"""The compose target: the three containers of docker-compose.yml, struck through the container engine.

The same image and file as a user would run, with the settings that the local target has. Links between single nodes, disks and
files are the engine's, so they are left alone; a node is taken off the network as a whole. The engine starts a container again
whose process has ended by itself (`restart: unless-stopped`): none has a reason to, so that counts as a failure.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from quorumlog.host.local_cluster import unreadiness
from tests.chaos.local_target import CONTROLLER_TIMEOUT_S, KILL_TIMEOUT_S, POLL_S, SETTINGS, START_TIMEOUT_S
from tests.chaos.targets import Ability, Disks, Links, TargetError
from tests.cluster.leaders import metric
from tests.compose.stack import HOST, NODES, EngineError, Stack, compose_command

PROJECT = "quorumlog-chaos"
TAIL_LINES = 40
KEPT_LINES = 200_000
CLEAN_STOPS = {0, 128 + signal.SIGTERM}  # the second of a node that was just starting, and held nothing yet


class ComposeTarget:
    """Three containers. Implements `targets.Target`; not for several threads at once.

    `QUORUMLOG_HOST_ADDRESS` puts the published ports on another address of this machine, beside a cluster that has them already.
    """

    name = "compose"
    nodes = NODES
    abilities = frozenset({Ability.ISOLATE})
    shortcomings: tuple[str, ...] = ()
    links: Links | None = None
    disks: Disks | None = None

    def __init__(self, settings: Mapping[str, str] = SETTINGS) -> None:
        """Raises TargetError if no container engine answers, or Compose is not installed; whoever makes it closes it."""
        compose = compose_command()
        self.directory = Path(tempfile.mkdtemp(prefix="quorumlog-chaos-"))
        overrides = self.directory / "settings.yml"
        overrides.write_text(_overrides(settings))
        host = os.environ.get("QUORUMLOG_HOST_ADDRESS", HOST)
        self._stack = Stack(compose, project=PROJECT, host=host, overrides=overrides)
        self._started: set[int] = set()
        """The nodes that we have not stopped, killed or paused: these must run and, in time, be ready."""

    # What there is

    @property
    def bootstrap(self) -> str:
        return self._stack.bootstrap_servers

    def data_dirs(self) -> Mapping[int, Path]:
        """Copies, made once: the directories themselves may be on another machine, or another user's."""
        return self._copies

    def log_tails(self) -> Mapping[int, str]:
        return {node: self._stack.log_tail(node, TAIL_LINES) for node in NODES}

    def keep(self, directory: Path) -> None:
        for node, copy in self.data_dirs().items():
            (directory / f"node-{node}.log").write_text(self._stack.log_tail(node, KEPT_LINES))
            shutil.copytree(copy, directory / copy.name)

    # The whole cluster

    def start(self) -> None:
        """Builds the image too, and removes what a run that was killed has left behind."""
        self._stack.down()
        self._stack.build()
        self._stack.up()
        self._started.update(NODES)
        self.wait_ready(START_TIMEOUT_S)

    def stop(self) -> None:
        for node in NODES:
            self.resume(node)
        self._stop(self._running(NODES))

    def close(self) -> None:
        try:
            self._stack.down()
        except EngineError as error:
            print(f"containers of {PROJECT} may be left behind: {error}", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_ready(self, timeout_s: float) -> None:
        self._wait_ready(sorted(self._started), timeout_s)

    def active_controller(self) -> int:
        deadline = time.monotonic() + CONTROLLER_TIMEOUT_S
        while time.monotonic() < deadline:
            for node in sorted(self._started):
                with contextlib.suppress(OSError, KeyError):
                    if metric(self._stack.http(node), "quorumlog_controller_active") == 1:
                        return node
            time.sleep(POLL_S)
        raise TargetError(f"no node is the active controller within {CONTROLLER_TIMEOUT_S:g} s")

    # One node

    def is_running(self, node: int) -> bool:
        return bool(self._running([node]))

    def kill(self, *nodes: int) -> None:
        self._require_running()
        running = self._running(nodes)
        self._started.difference_update(nodes)
        if running:
            self._stack.kill(*running)
        self._wait_gone(running)

    def pause(self, node: int) -> None:
        self._require_running()
        self._started.discard(node)
        self._stack.pause(node)

    def resume(self, node: int) -> None:
        if self._stack.inspect([node])[node]["State"]["Paused"]:
            self._stack.unpause(node)
            self._started.add(node)

    def stop_node(self, node: int) -> None:
        if not self.is_running(node):
            raise TargetError(f"node {node} does not run\n{self._stack.log_tail(node, TAIL_LINES)}")
        self._stop([node])

    def start_node(self, node: int, *, wait: bool = True) -> None:
        if self.is_running(node):
            raise TargetError(f"node {node} runs already")
        self._stack.start(node)
        self._started.add(node)
        if wait:
            self._wait_ready([node], START_TIMEOUT_S)

    def isolate(self, node: int) -> None:
        self._stack.disconnect(node)

    def rejoin(self, node: int) -> None:
        if not self._stack.is_connected(node):
            self._stack.connect(node)

    # Inside

    @functools.cached_property
    def _copies(self) -> Mapping[int, Path]:
        copies = {node: self.directory / f"node-{node}" for node in NODES}
        for node, copy in copies.items():
            self._stack.copy_data(node, copy)
        return copies

    def _running(self, nodes: Sequence[int]) -> list[int]:
        return [node for node, found in self._stack.inspect(nodes).items() if found["State"]["Running"]]

    def _stop(self, nodes: Sequence[int]) -> None:
        self._require_running()
        self._started.difference_update(nodes)
        if not nodes:
            return
        self._stack.stop(*nodes)
        codes = {node: found["State"]["ExitCode"] for node, found in self._stack.inspect(nodes).items()}
        if not set(codes.values()) <= CLEAN_STOPS:
            raise TargetError(f"exit codes after a clean stop: {codes}")

    def _wait_ready(self, nodes: Sequence[int], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._require_running()
            waiting = {node: reason for node in nodes if (reason := unreadiness(self._stack.http(node)))}
            if not waiting:
                return
            if time.monotonic() > deadline:
                tails = "\n".join(self._stack.log_tail(node, TAIL_LINES) for node in waiting)
                raise TargetError(f"not ready after {timeout_s:g} s: {waiting}\n{tails}")
            time.sleep(POLL_S)

    def _wait_gone(self, nodes: Sequence[int]) -> None:
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while left := self._running(nodes):
            if time.monotonic() > deadline:
                raise TargetError(f"nodes {left} outlive SIGKILL")
            time.sleep(POLL_S)

    def _require_running(self) -> None:
        """A node that ended by itself has failed, though the engine may have started it again: that must not pass unseen."""
        for node, found in self._stack.inspect(sorted(self._started)).items():
            if found["RestartCount"] or not found["State"]["Running"]:
                code = found["State"]["ExitCode"]
                again = f", started again {found['RestartCount']} times" if found["RestartCount"] else f" with status {code}"
                raise TargetError(f"node {node} ended by itself{again}\n{self._stack.log_tail(node, TAIL_LINES)}")


def _overrides(settings: Mapping[str, str]) -> str:
    """A second Compose file, which adds settings to every node. JSON is YAML."""
    environment = {f"QUORUMLOG_{name.upper()}": value for name, value in settings.items()}
    return json.dumps({"services": {f"node-{node}": {"environment": environment} for node in NODES}})
