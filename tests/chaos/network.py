"""A network of its own for every node: namespaces on one bridge, with links that can be cut each way. Needs root.

    root namespace            qlcN      198.18.N.254   clients
    namespace qlcN-hub        bridge
    namespace qlcN-1, -2 ...  eth0      198.18.N.1, 198.18.N.2 ...

The bridge stands in a namespace of its own: what the host's firewall says of bridged packets (Docker makes it drop them) does not
reach there. 198.18.0.0/15 is kept for tests of networks (RFC 2544). A cut drops packets in silence, at the receiver: no reset, no
unreachable, as a broken switch does it.
"""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterable

from tests.chaos.targets import TargetError

COMMAND_TIMEOUT_S = 20
NUMBER_MAX = 200


class NetworkError(TargetError):
    """A command refused; the message is its own."""


class Network:
    """One bridge and one namespace a node, from its making to `close`. Implements `targets.Links`."""

    def __init__(self, nodes: Iterable[int]) -> None:
        """Raises NetworkError if this machine lets us make no namespaces; nothing is left behind then."""
        self._nodes = tuple(nodes)
        self._number, self._lock = _claim_number()
        self._hub = f"qlc{self._number}-hub"
        try:
            self._remove_all()  # of a run that was killed: the number is ours alone now
            self._make()
        except BaseException:
            self.close()
            raise

    def address(self, node: int) -> str:
        return f"198.18.{self._number}.{node}"

    def command_prefix(self, node: int) -> list[str]:
        """The words that make a command run in the node's namespace, in the same process."""
        return [_path_of("nsenter"), f"--net=/run/netns/{self._namespace(node)}", "--"]

    def cut(self, sender: int, receiver: int) -> None:
        self._firewall(receiver, "-A", "INPUT", "-s", self.address(sender), "-j", "DROP")

    def isolate(self, node: int) -> None:
        """Neither nodes nor clients reach it; it still reaches itself."""
        self._firewall(node, "-A", "INPUT", "!", "-i", "lo", "-j", "DROP")
        self._firewall(node, "-A", "OUTPUT", "!", "-o", "lo", "-j", "DROP")

    def heal(self) -> None:
        for node in self._nodes:
            self._firewall(node, "-F")

    def close(self) -> None:
        self._remove_all()
        self._lock.close()

    def _namespace(self, node: int) -> str:
        return f"qlc{self._number}-{node}"

    def _make(self) -> None:
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")
        self._plug_in(254, name=f"qlc{self._number}", namespace=None)
        for node in self._nodes:
            _ip("netns", "add", self._namespace(node))
            _ip("-n", self._namespace(node), "link", "set", "lo", "up")
            self._plug_in(node, name="eth0", namespace=self._namespace(node))
            self._firewall(node, "-F")  # refuses here and now where there is no firewall

    def _plug_in(self, host: int, *, name: str, namespace: str | None) -> None:
        """A cable from the bridge to a namespace, or to the one that we are in."""
        into = ["netns", namespace] if namespace else []
        where = ["-n", namespace] if namespace else []
        port = f"port-{host}"
        draft = f"{self._hub[:-4]}x{host}"  # both ends are born here, so the name must be free here
        _ip("link", "add", draft, "type", "veth", "peer", "name", port, "netns", self._hub)
        _ip("link", "set", draft, *into, "name", name)
        _ip("-n", self._hub, "link", "set", port, "master", "bridge", "up")
        _ip(*where, "address", "add", f"198.18.{self._number}.{host}/24", "dev", name)
        _ip(*where, "link", "set", name, "up")

    def _firewall(self, node: int, *words: str) -> None:
        _run(*self.command_prefix(node), _path_of("iptables"), "-w", *words)

    def _remove_all(self) -> None:
        for namespace in (*(self._namespace(node) for node in self._nodes), self._hub):
            _remove("netns", namespace)
        _remove("link", f"qlc{self._number}")


def _claim_number() -> tuple[int, socket.socket]:
    """A number that no other run on this machine uses: an abstract Unix socket (unix(7)), gone with its owner."""
    for number in range(1, NUMBER_MAX):
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0quorumlog-chaos-{number}")
        except OSError:
            lock.close()
            continue
        return number, lock
    raise NetworkError(f"{NUMBER_MAX} networks are in use")


def _ip(*words: str) -> None:
    _run(_path_of("ip"), *words)


def _path_of(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NetworkError(f"{program} is not installed")
    return path


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")


def _remove(kind: str, name: str) -> None:
    """Fine if it is not there."""
    with contextlib.suppress(NetworkError):
        _ip(kind, "delete", name)
