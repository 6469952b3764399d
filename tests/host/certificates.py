"""Certificates for tests, with the conventions of `quorumlog certs`."""

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quorumlog.host.peer_identity import PeerCredentials


@dataclass(frozen=True)
class Authority:
    """A certificate authority that signs whatever a test asks for."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def credentials(self, common_name: str, organisation: str) -> PeerCredentials:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(common_name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(_name(common_name, organisation), self.certificate.subject, key)
        certificate = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(self.key, hashes.SHA256())
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return PeerCredentials(ca_pem=_pem(self.certificate), certificate_pem=_pem(certificate), key_pem=key_pem)


def make_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("ca", "c1")
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _name(common_name: str, organisation: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
