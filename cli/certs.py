"""`quorumlog certs`: a certificate authority and the node certificates that it signs.

The names are the contract with the nodes: common name `node-<id>`, organisation the cluster id. A peer is who its certificate
says, so the authority's key must stay with the operator; the nodes need ca.pem and their own pair only.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quorumlog.cli.options import node_ids

CLOCK_SKEW = datetime.timedelta(hours=1)  # a node whose clock is behind must not refuse a certificate made just now
ORGANISATION_MAX = 64  # ub-organization-name, RFC 5280 appendix A
CA_LIFE = datetime.timedelta(days=3650)


class CertificateError(Exception):
    """A file that stands in the way: half a pair, another cluster's, or not readable."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its private key, and whether this run made it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: Path
    is_new: bool


def make_certificates(
    directory: Path, *, cluster_id: str, node_ids: Sequence[int], hosts: Sequence[str], life: datetime.timedelta
) -> list[Pair]:
    """The authority and one pair per node in `directory`, made where they are missing. Raises CertificateError."""
    if not 1 <= len(cluster_id) <= ORGANISATION_MAX:
        raise CertificateError(f"a certificate names clusters by 1 to {ORGANISATION_MAX} characters, not {len(cluster_id)}")
    directory.mkdir(parents=True, exist_ok=True)
    authority = _load_pair(directory, "ca") or _make_authority(directory, cluster_id)
    if organisation(authority.certificate) != cluster_id:
        raise CertificateError(f"{authority.path} is the authority of cluster {organisation(authority.certificate)!r}")
    nodes = [
        _load_pair(directory, f"node-{node_id}") or _make_node(directory, authority, cluster_id, node_id, hosts, life)
        for node_id in node_ids
    ]
    for node in nodes:
        _verify_signed(node, authority)
    return [authority, *nodes]


def organisation(certificate: x509.Certificate) -> str:
    """The cluster id that a certificate is made for; empty if it names none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def _load_pair(directory: Path, name: str) -> Pair | None:
    """The pair of a name, or None if neither file is there."""
    certificate_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
    if not certificate_path.exists() and not key_path.exists():
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{certificate_path} and {key_path} must be there together: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(f"{key_path} is not the key of {certificate_path}")
    return Pair(certificate, key, certificate_path, is_new=False)


def _make_authority(directory: Path, cluster_id: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("quorumlog CA", cluster_id)
    builder = _builder(name, name, key, CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(is_authority=True), critical=True)
    return _store(directory, "ca", builder.sign(key, hashes.SHA256()), key)


def _make_node(
    directory: Path, authority: Pair, cluster_id: str, node_id: int, hosts: Sequence[str], life: datetime.timedelta
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(f"node-{node_id}", cluster_id), authority.certificate.subject, key, life)
    builder = builder.add_extension(x509.SubjectAlternativeName(_alternative_names(node_id, hosts)), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_authority=False), critical=True)
    # Every node is a server to its peers and a client of them.
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return _store(directory, f"node-{node_id}", builder.sign(authority.key, hashes.SHA256()), key)


def _name(common_name: str, cluster_id: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - CLOCK_SKEW).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(node_id: int, hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(f"node-{node_id}"), x509.DNSName("localhost")]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return list(dict.fromkeys([*names, *(_host_name(host) for host in hosts)]))


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _store(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    _write(directory / f"{name}.key", key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password), 0o600)
    _write(directory / f"{name}.pem", certificate.public_bytes(encoding), 0o644)
    return Pair(certificate, key, directory / f"{name}.pem", is_new=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    # O_EXCL with the mode: at no moment is the key readable by others, and no one's file is overwritten.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _verify_signed(node: Pair, authority: Pair) -> None:
    try:
        node.certificate.verify_directly_issued_by(authority.certificate)
    except Exception as error:
        raise CertificateError(f"{node.path} was not signed by {authority.path}; remove it to have it made again") from error


@click.command()
@click.option("--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where the files are, and go.")
@click.option("--cluster-id", required=True, help="The organisation in every certificate.")
@click.option("--nodes", "ids", required=True, type=node_ids, metavar="ID,...", help="Node ids, for example 1,2,3.")
@click.option("--host", "hosts", multiple=True, help="One more name or address of the nodes; may be given again.")
@click.option("--days", default=825, show_default=True, type=click.IntRange(1, 3650), help="How long node certificates live.")
def certs(directory: Path, cluster_id: str, ids: list[int], hosts: tuple[str, ...], days: int) -> None:
    """Make a CA and the certificates by which nodes know each other. Files that are there already are kept."""
    life = datetime.timedelta(days=days)
    try:
        pairs = make_certificates(directory, cluster_id=cluster_id, node_ids=ids, hosts=hosts, life=life)
    except (CertificateError, OSError, ValueError) as error:  # ValueError: a name that no certificate can hold
        raise click.ClickException(str(error)) from error
    for pair in pairs:
        expiry = pair.certificate.not_valid_after_utc
        click.echo(f"{'made' if pair.is_new else 'kept'} {pair.path}, expires {expiry:%Y-%m-%d}")
