"""Mutual TLS between real nodes: `quorumlog certs` makes what they need, and who has no right certificate is left outside."""

import asyncio
import dataclasses
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorumlog.host.grpc_peers import GrpcPeers
from quorumlog.host.local_layout import DEFAULT_BASE_PORT, Layout, LocalNode, write_layout
from quorumlog.host.loop import run as run_loop
from quorumlog.host.peer_identity import PeerCredentials
from quorumlog.host.ports import PeerGone
from quorumlog.testing import LocalCluster
from tests.cluster.leaders import busiest_leader, wait_in_sync
from tests.cluster.production import ConfluentClient, produce_through
from tests.events import create_topic, judge, made_up, numbered, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

CLUSTER_ID = "tls-cluster"
TOPIC = "events"
EXIT_REFUSED = 1


def make_certificates(directory: Path, cluster_id: str = CLUSTER_ID) -> Path:
    """With the operator's command; nodes 1 to 4."""
    words = ["certs", "--dir", str(directory), "--cluster-id", cluster_id, "--nodes", "1,2,3,4"]
    command = [sys.executable, "-c", "from quorumlog.cli.main import main; main()", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return directory


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_certificates(tmp_path / "certs")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Set up for a cluster of the name that is in the certificates."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    write_layout(directory, Layout(CLUSTER_ID, 3, DEFAULT_BASE_PORT))
    return directory


def test_a_cluster_speaks_tls_and_strangers_are_left_outside(certs: Path, directory: Path, tmp_path: Path) -> None:
    """Three nodes with certificates live through a kill; whoever has none, or another authority's, or claims to be another
    node or of another cluster is refused, and who has the right one is heard."""
    count = 20_000
    with LocalCluster(nodes=3, directory=directory, settings={"certs_dir": certs, "leader_rebalance_interval_s": 1}) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=3)

        def crash() -> None:
            victim = busiest_leader(cluster.bootstrap_servers, TOPIC)
            cluster.kill(victim)
            cluster.start(victim)
            wait_in_sync(cluster.bootstrap_servers, TOPIC)

        client = ConfluentClient(cluster.bootstrap_servers, TOPIC)
        promises = produce_through(client, numbered(made_up(count)), count, [crash])
        assert promises.failed == {}
        assert judge(promises, read_all(cluster.bootstrap_servers, TOPIC)).is_clean

        node = cluster.nodes[0]
        right = PeerCredentials.read(certs, 4)
        assert speaks(node, right) == "heard"
        assert "gone" in speaks(node, None)
        stranger = PeerCredentials.read(make_certificates(tmp_path / "strangers"), 4)
        assert "gone" in speaks(node, stranger)
        assert "gone" in speaks(node, dataclasses.replace(stranger, ca_pem=right.ca_pem))
        assert "the certificate is for 'node-4'" in speaks(node, right, node_id=2)
        assert "this is cluster" in speaks(node, right, cluster_id="another")
        assert not accepts_tls_without_certificate(node, certs)
        assert all(status.state == "ready" for status in cluster.status())


def speaks(node: LocalNode, credentials: PeerCredentials | None, *, node_id: int = 4, cluster_id: str = CLUSTER_ID) -> str:
    """Try to observe the metadata as a node would: 'heard', or why not."""

    async def attempt() -> str:
        peers = GrpcPeers(cluster_id=CLUSTER_ID, node_id=4, credentials=credentials)
        peers.node_id, peers.cluster_id = node_id, cluster_id  # of a liar, the hello says something else than the certificate
        host, _, port = node.peer.rpartition(":")
        peers.set_address(node.node_id, host, int(port))
        try:
            stream = await peers.connect(node.node_id, "metadata", 3.0)
            async with asyncio.timeout(3):
                return "heard" if await stream.receive() else "nothing"
        except PeerGone as error:
            return str(error)
        finally:
            await peers.stop(0.1)

    return run_loop(attempt())


def accepts_tls_without_certificate(node: LocalNode, certs: Path) -> bool:
    """Shake hands with TLS alone, trusting the right authority: does the node go on with someone who shows nothing?"""
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    host, _, port = node.peer.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=f"node-{node.node_id}") as secure,
        ):
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            return secure.recv(9) != b""
    except (ssl.SSLError, ConnectionError):
        return False


def test_a_node_with_a_wrong_certificate_does_not_get_in(certs: Path, directory: Path, tmp_path: Path) -> None:
    """Signed by a stranger, it is left outside while the others go on; with another node's certificate it refuses to start."""
    with LocalCluster(nodes=3, directory=directory, settings={"certs_dir": certs}) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=3)
        cluster.stop(3)
        strangers = make_certificates(tmp_path / "strangers")
        own = {name: (certs / name).read_bytes() for name in ("node-3.pem", "node-3.key")}
        for name in own:
            shutil.copy(strangers / name, certs / name)
        cluster.start(3, wait=False)
        client = ConfluentClient(cluster.nodes[0].kafka, TOPIC)
        promises = produce_through(client, numbered(made_up(2_000)), 2_000, [])
        assert promises.failed == {}
        time.sleep(2)
        assert cluster.status()[2].state == "running"
        assert "not registered" in cluster.status()[2].reason
        cluster.kill(3)

        for name in own:
            shutil.copy(certs / name.replace("3", "2"), certs / name)
        cluster.start(3, wait=False)
        deadline = time.monotonic() + 10
        while cluster.pid(3) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "the certificate is for 'node-2'" in cluster.nodes[2].log_tail()
        assert cluster.pid(3) is None

        for name, content in own.items():
            (certs / name).write_bytes(content)
        cluster.start(3)
        wait_in_sync(cluster.bootstrap_servers, TOPIC)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_without_certificates_peers_are_served_on_loopback_only(tmp_path: Path, host: str) -> None:
    """The node says what is wrong and what is allowed, and ends."""
    node = [sys.executable, "-m", "quorumlog.node"]
    subprocess.run(
        [*node, "format", "--data-dir", str(tmp_path), "--cluster-id", "open", "--node-id", "1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    settings = {
        "node_id": "1", "cluster_id": "open", "data_dir": str(tmp_path), "voters": "1@127.0.0.1:9", "peer_listen": f"{host}:0",
        "kafka_listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "kafka_advertised": "127.0.0.1:9",
        "peer_advertised": "127.0.0.1:9",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    for _ in range(3):  # the quorum's thread is up by then, and must have ended before the store is closed
        ended = subprocess.run([*node, "run", *words], check=False, capture_output=True, text=True, timeout=30)
        assert ended.returncode == EXIT_REFUSED, ended.stderr
        assert "without certificates peers can only be served on loopback" in ended.stderr
        assert host.strip("[]") in ended.stderr
        assert "Traceback" not in ended.stderr
