"""Power cuts of real file systems under real nodes: what was acknowledged was on the disks."""

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quorumlog.host.disk import RealDisk
from quorumlog.testing import LocalCluster
from tests.cluster.images import Images
from tests.cluster.leaders import active_controller, busiest_leader, in_sync_of, wait_in_sync
from tests.cluster.production import ConfluentClient, produce_through
from tests.events import create_topic, judge, made_up, numbered, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.root]

TOPIC = "events"
PARTITIONS = 6
NODES = (1, 2, 3)
EXIT_FATAL = 70
SETTINGS = {"leader_rebalance_interval_s": 1, "segment_bytes": 1 << 20}


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    """The data directories of three nodes in `tmp_path/cluster`, each on a file system of its own."""
    if os.geteuid() != 0:
        reason = "mounting file systems needs root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(f"POWER CUTS NOT JUDGED: {reason}")
    with Images(tmp_path, [tmp_path / "cluster" / f"node-{node}" for node in NODES]) as mounted:
        yield mounted


def data_dir(cluster: LocalCluster, node_id: int) -> Path:
    return cluster.nodes[node_id - 1].data_dir


def check(cluster: LocalCluster, client: ConfluentClient, count: int) -> None:
    promises = client.promises
    assert promises.failed == {}
    assert len(promises.acknowledged) == count
    found = read_all(cluster.bootstrap_servers, TOPIC)
    verdict = judge(promises, found)
    assert verdict.is_clean, verdict
    assert len(found) == count


def test_the_cut_drops_what_was_not_synced(images: Images, tmp_path: Path) -> None:
    """The tool is sharp: of two files only the synced one is there after the cut."""
    directory = tmp_path / "cluster" / "node-1"
    with (directory / "synced").open("wb") as file:
        file.write(b"x" * 5000)
        os.fsync(file.fileno())
    (directory / "unsynced").write_bytes(b"x" * 5000)
    images.cut_power(directory)
    with pytest.raises(OSError, match="Input/output error"):
        (directory / "later").write_bytes(b"x")
    images.mount_again(directory)
    assert (directory / "synced").read_bytes() == b"x" * 5000
    assert not (directory / "unsynced").exists() or (directory / "unsynced").stat().st_size == 0


def test_many_files_synced_together_survive_the_cut(images: Images, tmp_path: Path) -> None:
    """What one sync of the whole file system covered is there, names and bytes, names and bytes."""
    root = tmp_path / "cluster" / "node-1"
    disk = RealDisk(root, create=True)
    assert disk.can_sync_together, "ext4 is one of those that can"
    disk.make_directory("logs")
    files = [disk.open(f"logs/{number}") for number in range(200)]
    for file in files:
        file.append([file.path.encode() * 700])
    disk.sync_all(files, ["logs"])
    for file in files:
        file.append([b"late"])
    images.cut_power(root)
    for file in files:
        file.close()
    disk.close()
    images.mount_again(root)
    for file in files:
        assert (root / file.path).read_bytes().removesuffix(b"late") == file.path.encode() * 700


@pytest.mark.timeout(180)
def test_all_nodes_lose_power_at_once(images: Images, tmp_path: Path) -> None:
    """Three cuts of all nodes under production: every acknowledged record is there, in its place, and the cluster goes on."""
    count = 90_000
    rng = random.Random(6)
    with LocalCluster(nodes=3, directory=tmp_path / "cluster", settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        still = itertools.cycle((True, False))

        def power_cut() -> None:
            time.sleep(rng.uniform(0, 0.2))
            # Standing still, all lose the same moment. Running on, the last sees the first one's disk fail.
            if next(still):
                for node in NODES:
                    cluster.pause(node)
            images.cut_power()
            for node in NODES:
                if cluster.pid(node) is not None:
                    cluster.kill(node)
            images.mount_again()
            for node in NODES:
                cluster.start(node, wait=False)
            cluster.wait_ready()
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        # Small batches, so that at every moment some are written and not yet synced.
        client = ConfluentClient(cluster.bootstrap_servers, TOPIC, batch_num_messages=50)
        produce_through(client, numbered(made_up(count)), count, [power_cut] * 3)
        check(cluster, client, count)
        assert all(isr == list(NODES) for isr in in_sync_of(cluster.bootstrap_servers, TOPIC).values())


@pytest.mark.parametrize("kind", ["leader", "controller"])
def test_a_node_whose_disk_fails_stops(images: Images, tmp_path: Path, kind: str) -> None:
    """One disk answers EIO from now on: that node ends by itself and at once, the others go on, nothing is lost."""
    count = 40_000
    with LocalCluster(nodes=3, directory=tmp_path / "cluster", settings=SETTINGS) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)

        def disk_failure() -> None:
            choose = {
                "leader": lambda: busiest_leader(cluster.bootstrap_servers, TOPIC),
                "controller": lambda: active_controller(cluster),
            }
            victim = choose[kind]()
            pid = cluster.pid(victim)
            images.cut_power(data_dir(cluster, victim))
            assert psutil.Process(pid).wait(timeout=5) == EXIT_FATAL
            assert "this node cannot go on" in cluster.log(victim)
            assert "EIO" in cluster.log(victim) or "Input/output error" in cluster.log(victim)
            wait_in_sync_without(cluster, victim)
            images.mount_again(data_dir(cluster, victim))
            cluster.start(victim)
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        produce_through(client, numbered(made_up(count)), count, [disk_failure])
        check(cluster, client, count)
        assert client.promises.longest_silence_s < 5.0


def wait_in_sync_without(cluster: LocalCluster, gone: int, timeout_s: float = 10.0) -> None:
    """Wait until every partition is led, with the others in sync."""
    others = [node for node in NODES if node != gone]
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if all(isr == others for isr in in_sync_of(cluster.bootstrap_servers, TOPIC).values()):
            return
        time.sleep(0.05)
    raise TimeoutError(f"in sync are {in_sync_of(cluster.bootstrap_servers, TOPIC)}, not {others}")
