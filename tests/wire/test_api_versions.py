"""Aim: ApiVersions is answered by its own rules, so that every client finds a version to go on with."""

import pytest

from quorumlog.wire import codec
from quorumlog.wire.api_versions import VERSIONS, Feature, encode_api_versions, is_valid_client_software
from quorumlog.wire.catalogue import API_VERSIONS, known_versions
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.headers import encode_response_header

APIS = {API_VERSIONS: (0, 4), 0: range(3, 14)}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_tells_the_ranges(version: int) -> None:
    """All that is served, sorted by key, and no finalized features."""
    response = codec.decode_response(API_VERSIONS, version, encode_api_versions(version, ErrorCode.none, APIS))
    ranges = [(api.api_key, api.min_version, api.max_version) for api in response.api_keys]
    assert (response.error_code, ranges) == (0, [(0, 3, 13), (API_VERSIONS, 0, 4)])
    assert (response.finalized_features_epoch, response.finalized_features) == (-1, ())


@pytest.mark.parametrize("version", VERSIONS)
def test_features_are_told_as_the_version_can_read_them(version: int) -> None:
    """Before v3 not at all; a least level of 0 from v4 on; what stands at level 0 is not finalized."""
    features = (Feature("group.version", 0, 1, 1), Feature("metadata.version", 7, 25, 25), Feature("share.version", 0, 1, 0))
    body = encode_api_versions(version, ErrorCode.none, APIS, features, 12)
    response = codec.decode_response(API_VERSIONS, version, body)
    supported = {(one.name, one.min_version, one.max_version) for one in response.supported_features}
    finalized = {(one.name, one.min_version_level, one.max_version_level) for one in response.finalized_features}
    zeros = {("group.version", 0, 1), ("share.version", 0, 1)}
    assert supported == (set() if version < 3 else {("metadata.version", 7, 25)} | (zeros if version >= 4 else set()))
    assert finalized == (set() if version < 3 else {("group.version", 1, 1), ("metadata.version", 25, 25)})
    assert response.finalized_features_epoch == (12 if version >= 3 else -1)


@pytest.mark.parametrize("version", [5, 99, -1])
def test_unknown_versions_are_answered_in_v0(version: int) -> None:
    """A newer client reads v0, header and body, and asks again."""
    frame = encode_response_header(API_VERSIONS, version, 7) + encode_api_versions(version, ErrorCode.unsupported_version, APIS)
    assert frame == bytes.fromhex("00000007 0023 00000002 0000 0003 000d 0012 0000 0004")
    assert codec.decode_response(API_VERSIONS, 0, frame, 4).error_code == ErrorCode.unsupported_version


def test_every_version_of_the_catalogue_is_served() -> None:
    """When kio's tables grow, so must this codec."""
    assert known_versions(API_VERSIONS) == VERSIONS


@pytest.mark.parametrize("text", ["apache-kafka-java", "4.3.0", "a", "librdkafka", "2.16.0-RC1"])
def test_names_of_real_clients_are_valid(text: str) -> None:
    """The clients there are say such things of themselves."""
    assert is_valid_client_software(text, text)


@pytest.mark.parametrize("text", ["", "-a", "a-", ".", "a b", "a\n", "ä", "a_b", "a" * 10 + "$"])
def test_other_names_are_not(text: str) -> None:
    """KIP-511: letters and digits, dots and hyphens only inside."""
    assert not is_valid_client_software("good", text)
    assert not is_valid_client_software(text, "1.0")
