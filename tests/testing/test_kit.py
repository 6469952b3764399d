"""The test kit: LocalCluster's life and faults, and the pytest plugin, with a fake node in the nodes' place."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quorumlog.testing import LocalCluster

FAKE_NODE = (sys.executable, "-S", str(Path(__file__).with_name("fake_node.py")))


def fake_cluster(nodes: int = 1, directory: Path | None = None, **settings: object) -> LocalCluster:
    return LocalCluster(nodes=nodes, directory=directory, settings=settings, node_command=FAKE_NODE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with fake_cluster(nodes=2) as running:
        yield running


def test_faults_show_and_heal(cluster: LocalCluster) -> None:
    """kill, pause, resume, start, restart, stop: each does to the process what its name says."""
    assert [status.state for status in cluster.status()] == ["ready", "ready"]
    cluster.kill(1)
    cluster.pause(2)
    assert [status.state for status in cluster.status()] == ["stopped", "paused"]
    cluster.resume(2)
    cluster.start(1, wait=False)
    cluster.wait_ready(timeout_s=10)
    before = cluster.pid(2)
    cluster.restart(2)
    assert cluster.pid(2) != before
    assert cluster.log(2).count("stops cleanly") == 1
    cluster.stop(2)
    assert cluster.pid(2) is None
    cluster.start(2)


def test_bootstrap_names_every_node(cluster: LocalCluster) -> None:
    """A client gets all addresses, so that it starts although one node is down."""
    assert cluster.bootstrap_servers == ",".join(node.kafka for node in cluster.nodes)
    assert [node.node_id for node in cluster.nodes] == [1, 2]


def test_the_block_leaves_no_process_and_no_file() -> None:
    """A temporary cluster vanishes, also when the test failed, with the nodes' last words in the failure."""
    with pytest.raises(ValueError, match="boom") as failure, fake_cluster() as cluster:
        pid, directory = cluster.pid(1), cluster.directory
        raise ValueError("boom")
    assert pid is not None and not psutil.pid_exists(pid)
    assert not directory.exists()
    assert any("fake node 1 starts" in note for note in failure.value.__notes__)


def test_a_given_directory_keeps_its_data(tmp_path: Path) -> None:
    """The second cluster goes on with the first one's identity and finds its nodes stopped cleanly."""
    with fake_cluster(nodes=2, directory=tmp_path) as cluster:
        first = (tmp_path / "node-1" / "meta.json").read_text()
    assert "stops cleanly" in (tmp_path / "node-1.log").read_text()
    with LocalCluster(directory=tmp_path, node_command=FAKE_NODE) as cluster:
        assert len(cluster.nodes) == 2
        assert (tmp_path / "node-1" / "meta.json").read_text() == first


def test_settings_reach_the_nodes_as_a_config_file_would_spell_them() -> None:
    """Python's True is not a word that a config file knows."""
    with fake_cluster(auto_create_topics=False, num_partitions=6) as cluster:
        assert psutil.Process(cluster.pid(1)).cmdline()[-4:] == ["--set", "auto_create_topics=false", "--set", "num_partitions=6"]


def test_a_cluster_that_cannot_start_leaves_nothing() -> None:
    """The failure of the start itself cleans up too."""
    cluster = fake_cluster(fake_exit=3)
    with pytest.raises(Exception, match="exited with status 3"), cluster:
        pass
    assert not cluster.directory.exists()
    with pytest.raises(RuntimeError, match="not up"):
        cluster.bootstrap_servers  # noqa: B018


def test_the_plugin_gives_a_cluster_and_shows_logs_of_failures(tmp_path: Path) -> None:
    """A user's test run: the fixture follows its marker, and a failed test shows what the nodes said."""
    (tmp_path / "test_user.py").write_text(f"""
import pytest

@pytest.mark.quorumlog(nodes=2, node_command={FAKE_NODE!r})
def test_fails(quorumlog_cluster):
    assert len(quorumlog_cluster.nodes) == 2
    assert quorumlog_cluster.log(1) == "nothing"
""")
    options = ["-q", "-p", "no:cacheprovider", "--strict-markers", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    if not _is_registered():
        options += ["-p", "quorumlog.testing.plugin"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "log of quorumlog node 2" in run.stdout and "fake node 2 starts" in run.stdout
    assert "nothing" in run.stdout


def _is_registered() -> bool:
    from importlib.metadata import entry_points

    return any(entry.value == "quorumlog.testing.plugin" for entry in entry_points(group="pytest11"))
