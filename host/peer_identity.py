"""Who speaks between two nodes: the hello that opens every stream and call, and the certificate that must agree with it.

The hello travels as gRPC metadata, both ways, so that it is judged before the first message:

    quorumlog-protocol       1
    quorumlog-cluster-bin    the cluster's id, UTF-8
    quorumlog-source         id of the node that speaks
    quorumlog-destination    id of the node it speaks to

A node's certificate has the common name and the DNS name `node-<id>`, and the cluster's id as its organisation.
"""

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

PROTOCOL_VERSION = 1


class Refused(Exception):
    """The other side is not who it should be. The message names what was seen and what is allowed."""


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """What a node proves itself with, and whom it believes. All in PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    @classmethod
    def read(cls, directory: str | Path, node_id: int) -> "PeerCredentials":
        """From `ca.pem`, `node-<id>.pem` and `node-<id>.key`. Raises OSError naming the file."""
        folder, name = Path(directory), node_name(node_id)
        return cls(
            ca_pem=(folder / "ca.pem").read_bytes(),
            certificate_pem=(folder / f"{name}.pem").read_bytes(),
            key_pem=(folder / f"{name}.key").read_bytes(),
        )


@dataclass(frozen=True, slots=True)
class Hello:
    """Which node of which cluster speaks, and to whom."""

    cluster_id: str
    source: int
    destination: int

    def to_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return (
            ("quorumlog-protocol", str(PROTOCOL_VERSION)),
            ("quorumlog-cluster-bin", self.cluster_id.encode()),
            ("quorumlog-source", str(self.source)),
            ("quorumlog-destination", str(self.destination)),
        )

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, Any]] | None) -> "Hello":
        """Raises Refused if a part is missing or wrong, or the protocol is another one."""
        fields = {str(key): value for key, value in metadata or ()}
        try:
            version = int(fields["quorumlog-protocol"])
            hello = cls(
                cluster_id=bytes(fields["quorumlog-cluster-bin"]).decode(),
                source=int(fields["quorumlog-source"]),
                destination=int(fields["quorumlog-destination"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Refused("there is no valid hello of a quorumlog node") from error
        if version != PROTOCOL_VERSION:
            raise Refused(f"protocol version {version} is not supported, only {PROTOCOL_VERSION}")
        return hello


def node_name(node_id: int) -> str:
    """The name of a node in its certificate."""
    return f"node-{node_id}"


def check_hello(hello: Hello, *, cluster_id: str, node_id: int) -> None:
    """Raises Refused unless the hello is meant for this node of this cluster."""
    if hello.cluster_id != cluster_id:
        raise Refused(f"the hello is for cluster {hello.cluster_id!r}, this is cluster {cluster_id!r}")
    if hello.destination != node_id:
        raise Refused(f"the hello is for node {hello.destination}, this is node {node_id}")
    if hello.source == node_id or hello.source < 0:
        raise Refused(f"node {node_id} has no peer with the id {hello.source}")


def check_certificate(pem: bytes, *, cluster_id: str, node_id: int) -> None:
    """Raises Refused unless a certificate (whose signature is verified already) is that of this node of this cluster."""
    common_name, organisation = _subject(pem)
    if (common_name, organisation) != (node_name(node_id), cluster_id):
        raise Refused(
            f"the certificate is for {common_name!r} of cluster {organisation!r}, "
            f"not for {node_name(node_id)!r} of cluster {cluster_id!r}"
        )


def check_caller(hello: Hello, *, certificates: Iterable[bytes] | None, address: str) -> None:
    """Raises Refused unless the caller is whom its hello names.

    `certificates` are those it proved to hold, None where the cluster has none: then only this machine is believed.
    `address` is the caller's as gRPC writes it, such as `ipv4:127.0.0.1:40112`.
    """
    if certificates is None:
        if not is_loopback(_host_of(address)):
            raise Refused(f"without certificates only peers on loopback are accepted, not {_host_of(address)}")
        return
    pem = next(iter(certificates), None)
    if pem is None:
        raise Refused("there is no certificate")
    check_certificate(pem, cluster_id=hello.cluster_id, node_id=hello.source)


def proven_certificates(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[bytes, ...]:
    """The client certificate that gRPC verified against our authority, if there is one."""
    return tuple(auth_context.get("x509_pem_cert", ()))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(address: str) -> str:
    host = address.partition(":")[2].rpartition(":")[0]
    return host.replace("%5B", "[").replace("%5D", "]").strip("[]")


@functools.lru_cache(maxsize=64)  # a node is asked by the same few peers again and again
def _subject(pem: bytes) -> tuple[str, str]:
    try:
        subject = x509.load_pem_x509_certificate(pem).subject
    except ValueError as error:
        raise Refused("the certificate cannot be read") from error
    return _attribute(subject, NameOID.COMMON_NAME), _attribute(subject, NameOID.ORGANIZATION_NAME)


def _attribute(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one value of an attribute; empty if there is none, or more than one to choose from."""
    values = [str(attribute.value) for attribute in subject.get_attributes_for_oid(oid)]
    return values[0] if len(values) == 1 else ""
