"""Local clusters of processes, with a fake node in the nodes' place: what is started, found, signalled and left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quorumlog.host.local_cluster import LocalProcesses, environment
from quorumlog.host.local_layout import (
    Layout,
    LocalClusterError,
    ReservedPorts,
    config_fields,
    plan_layout,
    toml_text,
)
from quorumlog.host.processes import find_process

FAKE_NODE = (sys.executable, "-S", str(Path(__file__).with_name("fake_node.py")))


@pytest.fixture
def base_port() -> Iterator[int]:
    ports = ReservedPorts(node_count=3)
    yield ports.base_port
    ports.release()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[LocalProcesses]:
    cluster = LocalProcesses(tmp_path / "cluster", die_with_parent=True, node_command=FAKE_NODE)
    yield cluster
    cluster.kill_all()


def processes_naming(directory: Path) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if any(str(directory) in word for word in process.info["cmdline"] or ())
    ]


def wait_until_none(directory: Path) -> None:
    deadline = time.monotonic() + 5
    while processes_naming(directory) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes_naming(directory) == []


def test_cluster_json_holds_exactly_the_promised_fields(processes: LocalProcesses, base_port: int) -> None:
    """The file that others build on: ports by the rule, living pids, and every field by its name."""
    processes.up(node_count=2, base_port=base_port)
    held = json.loads(processes.cluster_file.read_text())
    assert held["bootstrap_servers"] == f"127.0.0.1:{base_port},127.0.0.1:{base_port + 1}"
    assert held.keys() == {"bootstrap_servers", "nodes"}
    directory = processes.directory
    for index, node in enumerate(held["nodes"]):
        assert psutil.pid_exists(node["pid"])
        assert node == {
            "id": index + 1,
            "pid": node["pid"],
            "kafka": f"127.0.0.1:{base_port + index}",
            "peer": f"127.0.0.1:{base_port + 100 + index}",
            "http": f"127.0.0.1:{base_port + 200 + index}",
            "data_dir": str(directory / f"node-{index + 1}"),
            "log_file": str(directory / f"node-{index + 1}.log"),
        }


def test_down_stops_cleanly_and_leaves_nothing(processes: LocalProcesses, base_port: int) -> None:
    """A stopped cluster has no process, no cluster.json, and nodes that had their clean stop, the paused one too."""
    processes.up(node_count=2, base_port=base_port)
    processes.signal(2, signal.SIGSTOP)
    processes.down()
    assert processes_naming(processes.directory) == []
    assert not processes.cluster_file.exists()
    assert all("stops cleanly" in node.log_tail() for node in processes.nodes)


def test_down_kills_a_node_that_does_not_stop(processes: LocalProcesses, base_port: int) -> None:
    """A clean stop has a limit."""
    processes.up(node_count=1, base_port=base_port, settings={"fake_ignore_term": "1"})
    processes.down(timeout_s=0.2)
    assert processes_naming(processes.directory) == []


def test_kill_start_pause_resume(processes: LocalProcesses, base_port: int) -> None:
    """Each fault shows in the status, and a new start shows in cluster.json."""
    processes.up(node_count=2, base_port=base_port)
    first_pid = processes.pid(1)
    processes.signal(1, signal.SIGKILL)
    processes.signal(2, signal.SIGSTOP)
    assert [status.state for status in processes.status()] == ["stopped", "paused"]
    processes.signal(2, signal.SIGCONT)
    processes.start(1)
    assert [status.state for status in processes.status()] == ["ready", "ready"]
    held = json.loads(processes.cluster_file.read_text())
    assert held["nodes"][0]["pid"] == processes.pid(1) != first_pid


def test_another_process_sees_and_drives_the_same_cluster(processes: LocalProcesses, base_port: int) -> None:
    """Nothing depends on being the one who started the nodes."""
    processes.up(node_count=2, base_port=base_port)
    stranger = LocalProcesses(processes.directory, die_with_parent=True, node_command=FAKE_NODE)
    stranger.signal(2, signal.SIGKILL)
    stranger.start(2)
    assert [status.state for status in processes.status()] == ["ready", "ready"]
    processes.down()
    assert [status.state for status in stranger.status()] == ["stopped", "stopped"]
    stranger.kill_all()


def test_refusals_name_the_thing(processes: LocalProcesses, base_port: int) -> None:
    """What cannot be done is said in words: no cluster, no such node, runs already, does not run, other size."""
    with pytest.raises(LocalClusterError, match="no cluster in"):
        processes.status()
    processes.up(node_count=1, base_port=base_port)
    with pytest.raises(LocalClusterError, match="no node 7"):
        processes.signal(7, signal.SIGKILL)
    with pytest.raises(LocalClusterError, match="runs already"):
        processes.start(1)
    with pytest.raises(LocalClusterError, match="runs already"):
        processes.up()
    processes.signal(1, signal.SIGTERM)
    with pytest.raises(LocalClusterError, match="does not run"):
        processes.signal(1, signal.SIGTERM)
    with pytest.raises(LocalClusterError, match="cluster of 1 nodes, not of 3"):
        processes.up(node_count=3)


def test_restart_keeps_data_ports_and_identity(processes: LocalProcesses, base_port: int) -> None:
    """The same directory comes up again without being told how."""
    processes.up(node_count=2, base_port=base_port)
    before = processes.layout
    processes.down()
    processes.up()
    assert processes.layout == before and before.formatted
    assert [status.state for status in processes.status()] == ["ready", "ready"]


def test_a_node_that_exits_early_ends_the_start(processes: LocalProcesses, base_port: int) -> None:
    """The error ends in the node's own words, and the other nodes are gone."""
    with pytest.raises(LocalClusterError, match="exited with status 3") as failure:
        processes.up(node_count=2, base_port=base_port, settings={"fake_exit": "3"})
    assert "fake node fails as told" in str(failure.value)
    assert processes_naming(processes.directory) == [] and not processes.cluster_file.exists()


def test_a_node_that_never_gets_ready_ends_the_start(processes: LocalProcesses, base_port: int) -> None:
    """Waiting is bounded, and the reason is the one that the node gave."""
    with pytest.raises(LocalClusterError, match=r"not ready after 2\.5 s: metadata is behind"):
        processes.up(node_count=1, base_port=base_port, settings={"fake_never_ready": "1"}, timeout_s=2.5)
    assert processes_naming(processes.directory) == []


def test_a_foreign_data_directory_is_refused(processes: LocalProcesses, base_port: int) -> None:
    """What the format step says reaches the user."""
    data_dir = processes.directory / "node-1"
    data_dir.mkdir(parents=True)
    (data_dir / "meta.json").write_text('{"cluster_id": "another", "node_id": "9"}')
    with pytest.raises(LocalClusterError, match="formatted for another node"):
        processes.up(node_count=1, base_port=base_port)


def test_taken_ports_are_refused_before_anything_starts(processes: LocalProcesses, base_port: int) -> None:
    """The owner of a port is not disturbed, and the user hears which one it is."""
    import socket

    with socket.create_server(("127.0.0.1", base_port + 201)), pytest.raises(LocalClusterError, match="node 2, HTTP"):
        processes.up(node_count=2, base_port=base_port)
    assert not processes.directory.exists()


def test_nodes_outlive_the_thread_that_started_them(processes: LocalProcesses, base_port: int) -> None:
    """The kernel's death signal follows the thread that forked; ours must be one that stays."""
    thread = threading.Thread(target=lambda: processes.up(node_count=1, base_port=base_port))
    thread.start()
    thread.join()
    time.sleep(0.05)
    assert [status.state for status in processes.status()] == ["ready"]


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), 9)", "os._exit(0)", "raise SystemExit(3)"])
def test_nodes_die_with_their_owner(tmp_path: Path, base_port: int, ending: str) -> None:
    """However the owner ends, kill -9 included, the kernel ends its nodes."""
    script = f"""
import os
from pathlib import Path
from quorumlog.host.local_cluster import LocalProcesses
cluster = LocalProcesses(Path({str(tmp_path)!r}), die_with_parent=True, node_command={FAKE_NODE!r})
cluster.up(node_count=2, base_port={base_port})
print(cluster.pid(1), flush=True)
{ending}
"""
    owner = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30)
    assert owner.stdout.strip().isdigit(), owner.stderr
    wait_until_none(tmp_path / "node-1.toml")


def test_a_detached_cluster_outlives_its_starter(tmp_path: Path, base_port: int) -> None:
    """`--detach` leaves the nodes running, for another process to stop."""
    script = f"""
from pathlib import Path
from quorumlog.host.local_cluster import LocalProcesses
LocalProcesses(Path({str(tmp_path)!r}), die_with_parent=False, node_command={FAKE_NODE!r}).up(node_count=1, base_port={base_port})
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    finisher = LocalProcesses(tmp_path, die_with_parent=True)
    assert [status.state for status in finisher.status()] == ["ready"]
    finisher.down()
    assert processes_naming(tmp_path / "node-1.toml") == []


def test_a_process_that_only_mentions_the_config_is_no_node(tmp_path: Path) -> None:
    """A pager on the config file, or a stranger that got an old pid, is never signalled."""
    config = tmp_path / "node-1.toml"
    config.touch()
    config.write_text("node_id = 1\n")
    with subprocess.Popen(["tail", "-f", str(config)], stdout=subprocess.PIPE) as pager:
        assert pager.stdout is not None and pager.stdout.readline()  # it is tail by now
        found = find_process(("run", "--config", str(config))), find_process(("-f", str(config)))
        pager.kill()
    assert found == (None, pager.pid)


def test_identity_in_the_environment_reaches_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One QUORUMLOG_NODE_ID for all nodes would make them all the same one; other settings pass."""
    monkeypatch.setenv("QUORUMLOG_NODE_ID", "7")
    monkeypatch.setenv("QUORUMLOG_KAFKA_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("QUORUMLOG_SESSION_TIMEOUT_MS", "900")
    assert environment().keys() >= {"QUORUMLOG_SESSION_TIMEOUT_MS", "PATH"}
    assert not {"QUORUMLOG_NODE_ID", "QUORUMLOG_KAFKA_LISTEN"} & environment().keys()
    assert os.environ["QUORUMLOG_NODE_ID"] == "7"


@pytest.mark.parametrize(("node_count", "voters"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (9, 5)])
def test_voters_are_three_or_five_in_larger_clusters(node_count: int, voters: int) -> None:
    """More voters would only slow the quorum down; an even number tolerates no more failures."""
    assert len(Layout("c", node_count, 19092).voter_ids) == voters


def test_config_of_a_node_is_toml_with_its_addresses(tmp_path: Path) -> None:
    """What is written can be read back, odd characters in the path included."""
    import tomllib

    layout = Layout("cluster-a", 3, 19092)
    nodes = layout.nodes(tmp_path / 'odd "näme" \\ 🙂')
    config = tomllib.loads(toml_text(config_fields(nodes[1], nodes, layout)))
    assert config["voters"] == "1@127.0.0.1:19192,2@127.0.0.1:19193,3@127.0.0.1:19194"
    assert (config["node_id"], config["kafka_listen"], config["http_listen"]) == (2, "127.0.0.1:19093", "127.0.0.1:19293")
    assert config["data_dir"] == str(nodes[1].data_dir)


@pytest.mark.parametrize(("node_count", "base_port"), [(0, 19092), (101, 19092), (3, 65_400)])
def test_impossible_layouts_are_refused(node_count: int, base_port: int) -> None:
    """No start with ports or counts that cannot be."""
    with pytest.raises(LocalClusterError):
        plan_layout(None, node_count, base_port, {})


def test_reserved_ports_are_disjoint() -> None:
    """Two test runs at once never get the same block, and a released block can be had again."""
    reserved = [ReservedPorts(node_count=3) for _ in range(5)]
    assert len({ports.base_port for ports in reserved}) == 5
    for ports in reserved:
        ports.release()
