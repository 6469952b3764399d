import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.host.peer_identity import Hello, PeerCredentials, Refused, check_caller, check_certificate, is_loopback
from tests.host.certificates import make_authority


@given(st.text(), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_hello_round_trips(cluster_id: str, source: int, destination: int) -> None:
    """What one side says is what the other side reads."""
    try:
        cluster_id.encode()
    except UnicodeEncodeError:
        return
    hello = Hello(cluster_id, source, destination)
    assert Hello.from_metadata(hello.to_metadata()) == hello


@given(st.lists(st.tuples(st.sampled_from([key for key, _ in Hello("c", 1, 2).to_metadata()]), st.text() | st.binary())))
def test_any_metadata_is_read_or_refused(metadata: list[tuple[str, str | bytes]]) -> None:
    """A stranger's hello never raises anything but Refused."""
    with contextlib.suppress(Refused):
        Hello.from_metadata(metadata)


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("ipv4:127.0.0.1:4000", True),
        ("ipv6:[::1]:4000", True),
        ("ipv6:%5B::1%5D:4000", True),
        ("ipv4:10.0.0.1:4000", False),
        ("ipv6:[2001:db8::1]:4000", False),
        ("unix:/tmp/socket", False),
        ("", False),
    ],
)
def test_without_certificates_only_loopback_is_accepted(address: str, accepted: bool) -> None:
    """The address is the one gRPC reports for the connection."""
    if accepted:
        check_caller(Hello("c", 1, 2), certificates=None, address=address)
    else:
        with pytest.raises(Refused, match="only peers on loopback"):
            check_caller(Hello("c", 1, 2), certificates=None, address=address)


def test_a_caller_without_certificate_or_with_rubbish_is_refused() -> None:
    """Where there are certificates, being on loopback is not enough."""
    for proven in ((), (b"rubbish",)):
        with pytest.raises(Refused, match="certificate"):
            check_caller(Hello("c", 1, 2), certificates=proven, address="ipv4:127.0.0.1:4000")


def test_credentials_are_read_by_the_names_of_the_files(tmp_path: Path) -> None:
    """ca.pem, node-<id>.pem and node-<id>.key; a missing one is named."""
    made = make_authority().credentials("node-7", "c")
    (tmp_path / "ca.pem").write_bytes(made.ca_pem)
    (tmp_path / "node-7.pem").write_bytes(made.certificate_pem)
    with pytest.raises(FileNotFoundError, match=r"node-7\.key"):
        PeerCredentials.read(tmp_path, 7)
    (tmp_path / "node-7.key").write_bytes(made.key_pem)
    assert PeerCredentials.read(tmp_path, 7) == made
    check_certificate(made.certificate_pem, cluster_id="c", node_id=7)


def test_names_of_loopback() -> None:
    """A host name other than localhost could point anywhere."""
    assert [is_loopback(host) for host in ("127.3.2.1", "::1", "localhost", "example.org", "0.0.0.0", "")] == [True] * 3 + [
        False
    ] * 3
