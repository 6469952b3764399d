"""Certificates: the names that the nodes rely on, the chain, the modes, and what happens to files that are there."""

import datetime
import ipaddress
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from tests.cli.conftest import Run


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[object]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def make(run: Run, directory: Path, *more: str, nodes: str = "1,2,3", cluster_id: str = "cluster-a") -> str:
    result = run("certs", "--dir", directory, "--cluster-id", cluster_id, "--nodes", nodes, *more)
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_node_certificates_name_the_node_and_its_cluster(run: Run, tmp_path: Path) -> None:
    """Common name, organisation, alternative names and key as the nodes check them."""
    make(run, tmp_path, "--host", "log-2.example", "--host", "10.1.2.3", "--days", "30")
    certificate = load(tmp_path / "node-2.pem")
    assert subject(certificate, NameOID.COMMON_NAME) == ["node-2"]
    assert subject(certificate, NameOID.ORGANIZATION_NAME) == ["cluster-a"]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node-2", "localhost", "log-2.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("10.1.2.3")]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    life = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29) < life <= datetime.timedelta(days=30)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_chain_verifies_as_server_and_as_client(run: Run, tmp_path: Path) -> None:
    """A strict verifier takes each node certificate in both roles, and OpenSSL loads the pairs."""
    make(run, tmp_path)
    policy = PolicyBuilder().store(Store([load(tmp_path / "ca.pem")]))
    for node_id in (1, 2, 3):
        certificate = load(tmp_path / f"node-{node_id}.pem")
        policy.build_server_verifier(x509.DNSName(f"node-{node_id}")).verify(certificate, [])
        policy.build_client_verifier().verify(certificate, [])
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / f"node-{node_id}.pem", tmp_path / f"node-{node_id}.key")


def test_keys_are_readable_by_their_owner_only(run: Run, tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        make(run, tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    assert len(modes) == 8


def test_existing_files_are_kept(run: Run, tmp_path: Path) -> None:
    """A second run adds what is missing and says which is which."""
    make(run, tmp_path, nodes="1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    output = make(run, tmp_path, nodes="1,2")
    assert [line.split()[0] for line in output.splitlines()] == ["kept", "kept", "made"]
    assert "expires 20" in output
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    load(tmp_path / "node-2.pem").verify_directly_issued_by(load(tmp_path / "ca.pem"))


def test_what_does_not_fit_is_refused(run: Run, tmp_path: Path) -> None:
    """Another cluster's authority, half a pair, a stranger's certificate: an error that names the file."""
    make(run, tmp_path, nodes="1")
    other = run("certs", "--dir", tmp_path, "--cluster-id", "cluster-b", "--nodes", "1")
    assert other.exit_code == 1 and "authority of cluster 'cluster-a'" in other.output
    (tmp_path / "ca.key").rename(tmp_path / "moved")
    half = run("certs", "--dir", tmp_path, "--cluster-id", "cluster-a", "--nodes", "1")
    assert half.exit_code == 1 and "ca.key" in half.output
    (tmp_path / "ca.pem").unlink()
    stranger = run("certs", "--dir", tmp_path, "--cluster-id", "cluster-a", "--nodes", "1")
    assert stranger.exit_code == 1 and "was not signed by" in stranger.output


@pytest.mark.parametrize("nodes", ["", "1,,2", "a", "1,1", "-1"])
def test_wrong_node_ids_are_usage_errors(run: Run, tmp_path: Path, nodes: str) -> None:
    """Nothing is made for a list that is none."""
    assert run("certs", "--dir", tmp_path / "new", "--cluster-id", "c", f"--nodes={nodes}").exit_code == 2
    assert not (tmp_path / "new").exists()


def test_a_cluster_id_that_no_certificate_can_hold(run: Run, tmp_path: Path) -> None:
    """X.509 allows 64 characters for an organisation: said in one line, and nothing is made."""
    result = run("certs", "--dir", tmp_path, "--cluster-id", "c" * 65, "--nodes", "1")
    assert result.exit_code == 1 and "1 to 64 characters, not 65" in result.output
    assert not list(tmp_path.iterdir())
