"""`quorumlog local`, with a fake node in the nodes' place: foreground, detached, and its other commands."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quorumlog.host import local_cluster
from quorumlog.host.local_cluster import LocalProcesses
from quorumlog.host.local_layout import LocalClusterError, ReservedPorts
from tests.cli.conftest import Run

FAKE_NODE = (sys.executable, "-S", str(Path(__file__).parents[1] / "testing" / "fake_node.py"))
FAKE_QUORUMLOG = f"""
import quorumlog.host.local_cluster as local_cluster
local_cluster.NODE_COMMAND = {FAKE_NODE!r}
from quorumlog.cli.main import main
main()
"""


@pytest.fixture
def base_port() -> Iterator[int]:
    ports = ReservedPorts(node_count=3)
    yield ports.base_port
    ports.release()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(local_cluster, "NODE_COMMAND", FAKE_NODE)
    yield tmp_path / "cluster"
    LocalProcesses(tmp_path / "cluster", die_with_parent=True).kill_all()


def node_processes(directory: Path) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory / "node-") in word for word in process.info["cmdline"] or ())
    ]


def start_up(directory: Path, base_port: int, *more: str) -> subprocess.Popen[str]:
    words = ["local", "up", "--nodes", "2", "--dir", str(directory), "--base-port", str(base_port), *more]
    return subprocess.Popen(
        [sys.executable, "-c", FAKE_QUORUMLOG, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_stops_its_nodes(directory: Path, base_port: int, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM stop the nodes cleanly; status 0, cluster.json gone, nothing left."""
    with start_up(directory, base_port) as process:
        wait_for(directory / "cluster.json")
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "stopping\n")
    assert output.startswith("2 nodes ready in ")
    assert node_processes(directory) == [] and not (directory / "cluster.json").exists()
    assert "stops cleanly" in (directory / "node-1.log").read_text()


def test_a_signal_while_starting_leaves_nothing(directory: Path, base_port: int) -> None:
    """Whoever loses patience before the cluster is ready is not left with half of it."""
    with start_up(directory, base_port, "--set", "fake_never_ready=1") as process:
        wait_for(directory / "node-2.log")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert node_processes(directory) == []


def test_foreground_reports_a_lost_node_and_goes_on(run: Run, directory: Path, base_port: int) -> None:
    """A node that was killed on purpose does not end the cluster, and what another command started again is stopped too."""
    with start_up(directory, base_port) as process:
        wait_for(directory / "cluster.json")
        assert run("local", "kill", 2, "--dir", directory).exit_code == 0
        assert run("local", "start", 2, "--dir", directory).exit_code == 0
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "node 2 was ended by SIGKILL" in errors
    assert node_processes(directory) == []


def test_detached_cluster_and_its_commands(run: Run, directory: Path, base_port: int) -> None:
    """up --detach, status, kill with each signal, start, down: as the contract says."""
    up = run("local", "up", "--nodes", 2, "--dir", directory, "--base-port", base_port, "--detach", "--set", "num_partitions=3")
    assert up.exit_code == 0, up.output
    assert json.loads((directory / "cluster.json").read_text())["nodes"][1]["kafka"] == f"127.0.0.1:{base_port + 1}"

    assert run("local", "kill", 1, "--dir", directory, "--signal", "STOP").exit_code == 0
    assert run("local", "kill", 2, "--dir", directory, "--signal", "TERM").exit_code == 0
    status = run("local", "status", "--dir", directory, "--output", "json")
    assert [node["state"] for node in json.loads(status.output)] == ["paused", "stopped"]
    assert run("local", "kill", 1, "--dir", directory, "--signal", "CONT").exit_code == 0
    assert run("local", "start", 2, "--dir", directory).exit_code == 0
    assert "--set num_partitions=3" in " ".join(psutil.Process(LocalProcesses(directory, die_with_parent=False).pid(2)).cmdline())
    table = run("local", "status", "--dir", directory)
    assert table.output.count("ready") == 2

    assert run("local", "down", "--dir", directory).exit_code == 0
    assert node_processes(directory) == []
    assert run("local", "down", "--dir", directory).exit_code == 0


def test_an_early_exit_prints_the_log_and_fails(directory: Path, base_port: int) -> None:
    """Status 1, the node's last words on stderr, no traceback."""
    with start_up(directory, base_port, "--set", "fake_exit=3") as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "exited with status 3" in errors and "fake node fails as told" in errors and "Traceback" not in errors
    assert node_processes(directory) == []


def test_errors_and_usage(run: Run, directory: Path) -> None:
    """A wrong setting or signal is a usage error; a cluster that is not there is a failure in words."""
    assert run("local", "up", "--dir", directory, "--set", "no-equals-sign").exit_code == 2
    assert run("local", "kill", 1, "--dir", directory, "--signal", "HUP").exit_code == 2
    missing = run("local", "start", 1, "--dir", directory)
    assert isinstance(missing.exception, LocalClusterError)
