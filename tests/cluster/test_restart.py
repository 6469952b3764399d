"""Clusters that stop and come back: under other addresses, and one node after the other."""

import time
from pathlib import Path

import pytest

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import wait_in_sync
from tests.events import create_topic, judge, made_up, numbered, produce_all, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "events"


def test_a_cluster_comes_back_under_other_addresses(tmp_path: Path) -> None:
    """All ports are others than before, and the metadata in the snapshots tells of the old ones: voters go by their config."""
    settings = {"snapshot_every_entries": 10}
    with LocalCluster(nodes=3, directory=tmp_path, settings=settings) as cluster:
        ports = [node.peer for node in cluster.nodes]
        for number in range(15):
            create_topic(cluster.bootstrap_servers, f"filler-{number}", partitions=1)
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=3)
        promises = produce_all(cluster.bootstrap_servers, TOPIC, numbered(made_up(1000)))
    assert all(list(tmp_path.glob(f"node-{node}/raft/snapshot*")) for node in (1, 2, 3))
    with LocalCluster(directory=tmp_path, settings=settings, ready_timeout_s=20) as cluster:
        assert not set(ports) & {node.peer for node in cluster.nodes}
        wait_in_sync(cluster.bootstrap_servers, TOPIC)
        assert judge(promises, read_all(cluster.bootstrap_servers, TOPIC)).is_clean


def test_the_last_node_asks_nobody_for_leave_to_stop() -> None:
    """Where most voters are gone, no controller can give leave: a clean stop goes on without."""
    with LocalCluster(nodes=3) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=3)
        produce_all(cluster.bootstrap_servers, TOPIC, numbered(made_up(1000)))
        cluster.kill(1)
        cluster.kill(2)
        started = time.monotonic()
        cluster.stop(3)
        assert time.monotonic() - started < 5
        assert "stopped" in cluster.nodes[2].log_tail()
