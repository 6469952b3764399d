"""The machine's faults are sharp: a cut link drops one direction, a full disk takes nothing. Needs root."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.disks import LocalDisks
from tests.chaos.network import Network

pytestmark = pytest.mark.root
CONNECT = """
import socket, sys
probe = socket.socket()
probe.settimeout(0.3)
try:
    probe.connect((sys.argv[1], 1))
except ConnectionRefusedError:
    print("reached")
except TimeoutError:
    print("silence")
"""

LISTEN = """
import socket
receiver = socket.socket(type=socket.SOCK_DGRAM)
receiver.settimeout(0.5)
receiver.bind(("", 7))
print("bound", flush=True)
receiver.recv(1)
"""


def require_root() -> None:
    if os.geteuid() == 0:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("network namespaces and mounts need root")
    pytest.skip("CUT LINKS AND FULL DISKS NOT JUDGED: network namespaces and mounts need root")


@pytest.fixture
def network() -> Iterator[Network]:
    require_root()
    made = Network([1, 2])
    yield made
    made.close()


def asked(network: Network, asker: int | None, asked: int) -> str:
    """What comes of connecting to a node, from another one or from where the clients are."""
    place = network.command_prefix(asker) if asker else []
    command = [*place, sys.executable, "-I", "-S", "-c", CONNECT, network.address(asked)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def test_cuts_and_isolation(network: Network) -> None:
    """A cut of one direction leaves packets of the other; clients go on; an isolated node hears nobody; healing heals all."""
    assert [asked(network, 1, 2), asked(network, None, 2)] == ["reached", "reached"]
    network.cut(1, 2)
    assert [asked(network, 1, 2), asked(network, None, 2), asked(network, None, 1)] == ["silence", "reached", "reached"]
    assert is_received(network, sender=2, receiver=1)
    assert not is_received(network, sender=1, receiver=2)
    network.heal()
    network.isolate(2)
    assert [asked(network, 1, 2), asked(network, None, 2), asked(network, None, 1)] == ["silence", "silence", "reached"]
    network.heal()
    assert [asked(network, 1, 2), asked(network, None, 2)] == ["reached", "reached"]


def is_received(network: Network, *, sender: int, receiver: int) -> bool:
    """Whether one datagram arrives."""
    send = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{network.address(receiver)}', 7))"
    python = [sys.executable, "-I", "-S", "-c"]
    with subprocess.Popen(
        [*network.command_prefix(receiver), *python, LISTEN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as listener:
        assert listener.stdout is not None
        listener.stdout.readline()
        subprocess.run([*network.command_prefix(sender), *python, send], timeout=20, check=True)
        return listener.wait(20) == 0


def test_two_networks_live_side_by_side(network: Network) -> None:
    """Two rounds on one machine do not meet, and the end of one leaves the other alone."""
    other = Network([1, 2])
    assert other.address(1) != network.address(1)
    other.close()
    assert asked(network, 1, 2) == "reached"


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing can be written until there is room again, and the other node's disk has room all the time."""
    require_root()
    disks = LocalDisks(tmp_path, {node: tmp_path / "data" / f"node-{node}" for node in (1, 2)})
    try:
        full, free = (tmp_path / "data" / f"node-{node}" / "file" for node in (1, 2))
        disks.fill(1)
        with pytest.raises(OSError, match="No space left"):
            full.write_bytes(b"x" * 100)
        free.write_bytes(b"x" * 100)
        disks.free(1)
        full.write_bytes(b"x" * 100)
    finally:
        disks.close()
