"""Bytes that rot on a disk, and a disk that is replaced: never served, made known, fetched again from a sound replica."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorumlog.node.flusher import CHECKPOINT_INTERVAL_S
from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cluster.leaders import in_sync_of, leaders_of, metric, wait_in_sync
from tests.cluster.production import ConfluentClient, produce_through
from tests.cluster.raw import RawConnection, address_of, describe, eventually, fetch, values_of
from tests.cluster.segments import batches, segment_files, wait_equal
from tests.events import Found, Promises, create_topic, judge, made_up, numbered, produce_all, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "events"
COUNT = 3_000
SETTINGS = {"segment_bytes": 32 << 10, "leader_rebalance_interval_s": 0}
NEVER_SERVED = (ErrorCode.kafka_storage_error, ErrorCode.not_leader_or_follower)


def fill(cluster: LocalCluster) -> Promises:
    """One partition of several segments, committed and the same on all nodes."""
    create_topic(cluster.bootstrap_servers, TOPIC, partitions=1)
    promises = produce_all(cluster.bootstrap_servers, TOPIC, numbered(made_up(COUNT)), batch_num_messages=20)
    assert promises.failed == {}
    wait_equal(cluster, TOPIC, [0])
    return promises


def flip(data_dir: Path, segment: int) -> int:
    """Change one bit of a record in the middle of a replica's segment (counted as lists are); the offset of its batch."""
    path = segment_files(data_dir, TOPIC, 0)[segment]
    whole = list(batches(path.read_bytes()))
    before, (header, _) = whole[: len(whole) // 2], whole[len(whole) // 2]
    position = sum(len(batch) for _, batch in before) + header.size - 10
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x04]))
    return header.base_offset


def check_healed(cluster: LocalCluster, promises: Promises) -> None:
    """All replicas are in sync and the same again, nobody is damaged, and every record is as it was."""
    wait_in_sync(cluster.bootstrap_servers, TOPIC)
    log = wait_equal(cluster, TOPIC, [0])[0]
    for header, batch in batches(log):
        values_of(batch)  # raises if a batch does not parse
        assert header.size == len(batch)
    for node in cluster.nodes:
        eventually(lambda http=node.http: metric(http, "quorumlog_partitions_damaged") == 0)
    found: list[Found] = read_all(cluster.bootstrap_servers, TOPIC)
    assert judge(promises, found).is_clean
    assert len(found) == len(promises.acknowledged)


def replica_order(cluster: LocalCluster) -> list[int]:
    """The partition's replicas; the next one in this order leads when the leader dies."""
    return list(describe(cluster.nodes[0].kafka, TOPIC).partitions[0].replica_nodes)


def data_dir(cluster: LocalCluster, node_id: int) -> Path:
    return cluster.nodes[node_id - 1].data_dir


def is_refused_by(cluster: LocalCluster, node_id: int, offset: int) -> bool:
    """Ask this very node for a damaged batch, as long as it leads: it must never hand out anything at that offset."""
    with RawConnection(address_of(cluster, node_id)) as node:
        answer = fetch(node, TOPIC, offset)
    assert answer.error_code in NEVER_SERVED, (answer.error_code, values_of(answer.records))
    assert not answer.records
    return bool(answer.error_code == ErrorCode.not_leader_or_follower)


def test_damage_of_a_running_leader() -> None:
    """The leader finds it when it reads: it serves nothing of it, gives up the lead, and is repaired by the others. So does the
    next leader, whose active segment rots."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        promises = fill(cluster)
        for segment in (1, -1):
            leader = leaders_of(cluster.bootstrap_servers, TOPIC)[0]
            offset = flip(data_dir(cluster, leader), segment)
            eventually(lambda leader=leader, offset=offset: is_refused_by(cluster, leader, offset))
            assert leaders_of(cluster.bootstrap_servers, TOPIC)[0] != leader
            check_healed(cluster, promises)
            assert f"{TOPIC}-0 is damaged at offset {offset}" in cluster.log(leader)
            assert f"{TOPIC}-0: cut at the damage, to offset {offset}" in cluster.log(leader)


def test_damage_of_a_running_follower() -> None:
    """Nobody reads a follower. It finds its damage when it comes to lead, serves nothing of it, and lets another one lead."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        promises = fill(cluster)
        leader, damaged, third = replica_order(cluster)
        assert leaders_of(cluster.bootstrap_servers, TOPIC)[0] == leader
        offset = flip(data_dir(cluster, damaged), 1)
        cluster.kill(leader)
        witness = address_of(cluster, third)
        eventually(lambda: leaders_of(witness, TOPIC)[0] == damaged)
        eventually(lambda: is_refused_by(cluster, damaged, offset))
        eventually(lambda: leaders_of(witness, TOPIC)[0] == third)
        assert judge(promises, read_all(witness, TOPIC)).is_clean
        cluster.start(leader)
        check_healed(cluster, promises)
        assert f"{TOPIC}-0 is damaged at offset {offset}" in cluster.log(damaged)


def test_damage_of_a_stopped_replica() -> None:
    """It rots while its node is down. In what a crash makes the node scan it is found at the start, else when it is read."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        promises = fill(cluster)
        leader, damaged, third = replica_order(cluster)
        time.sleep(5 * CHECKPOINT_INTERVAL_S)  # what no checkpoint tells of yet would count as torn by the crash
        cluster.kill(damaged)
        offset = flip(data_dir(cluster, damaged), -1)
        cluster.start(damaged)
        eventually(lambda: f"{TOPIC}-0: cut at the damage, to offset {offset}" in cluster.log(damaged))
        check_healed(cluster, promises)

        cluster.stop(damaged)
        offset = flip(data_dir(cluster, damaged), 0)
        cluster.start(damaged)
        wait_in_sync(cluster.bootstrap_servers, TOPIC)
        cluster.kill(leader)
        eventually(lambda: leaders_of(address_of(cluster, third), TOPIC)[0] == damaged)
        eventually(lambda: is_refused_by(cluster, damaged, offset))
        cluster.start(leader)
        check_healed(cluster, promises)
        assert f"{TOPIC}-0 is damaged at offset {offset}" in cluster.log(damaged)


def test_damage_under_production() -> None:
    """While a producer goes on, one leader rots and then the next: no record is lost, nobody reads a wrong one."""
    count = 8_000
    with LocalCluster(nodes=3, settings=SETTINGS | {"leader_rebalance_interval_s": 1}) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=1)

        def rot() -> None:
            leader = leaders_of(cluster.bootstrap_servers, TOPIC)[0]
            eventually(lambda: len(segment_files(data_dir(cluster, leader), TOPIC, 0)) > 2)
            offset = flip(data_dir(cluster, leader), 0)
            eventually(lambda: is_refused_by(cluster, leader, offset))
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC, batch_num_messages=20)
        promises = produce_through(client, numbered(made_up(count)), count, [rot, rot])
        assert promises.failed == {}
        check_healed(cluster, promises)


def test_a_replaced_disk_is_a_new_one() -> None:
    """A broker that is no voter comes back with an empty disk under its old id, under production: it is out of every in-sync set
    before it serves, fetches all it should hold, and is in sync again."""
    count = 20_000
    with LocalCluster(nodes=4, settings=SETTINGS | {"leader_rebalance_interval_s": 1}) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=8)

        def replace_disk() -> None:
            eventually(lambda: 4 in leaders_of(cluster.bootstrap_servers, TOPIC).values())
            cluster.kill(4)
            shutil.rmtree(data_dir(cluster, 4))
            format_again(cluster, 4)
            cluster.start(4)
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC, batch_num_messages=50)
        promises = produce_through(client, numbered(made_up(count)), count, [replace_disk, replace_disk])
        assert promises.failed == {}
        found = read_all(cluster.bootstrap_servers, TOPIC)
        assert judge(promises, found).is_clean
        assert len(found) == count
        for partition, isr in in_sync_of(cluster.bootstrap_servers, TOPIC).items():
            assert len(isr) == 3
            wait_equal(cluster, TOPIC, [partition], isr)
        eventually(lambda: 4 in leaders_of(cluster.bootstrap_servers, TOPIC).values())


def format_again(cluster: LocalCluster, node_id: int) -> None:
    """As an operator does it after putting in a new disk."""
    cluster_id = json.loads((cluster.directory / "layout.json").read_text())["cluster_id"]
    command = [sys.executable, "-m", "quorumlog.node", "format", "--data-dir", str(data_dir(cluster, node_id))]
    identity = ["--cluster-id", cluster_id, "--node-id", str(node_id), "--voters", "1,2,3"]
    subprocess.run([*command, *identity], check=True, capture_output=True, timeout=60)
