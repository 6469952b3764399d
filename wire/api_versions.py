"""ApiVersions, v0 to v4: the first request of a client, sent before it knows what the broker speaks.

    v1: throttle time    v3: flexible, client software name and version (KIP-511)    v4: feature ranges from 0

Its rules differ from those of all others:

- The header of an answer is always v0 (headers.py).
- A version that we do not know is answered with a v0 body, UNSUPPORTED_VERSION and our ranges, so that the client can ask again.
  (The Java client reads a wrong body as a throttle time and waits for ever.)
- A client name or version with other characters than letters, digits, dots and hyphens gets INVALID_REQUEST.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quorumlog.wire.catalogue import API_VERSIONS
from quorumlog.wire.codec import encode_response

VERSIONS = range(5)
FEATURES_FROM = 3
ZERO_AS_LEAST_FROM = 4


@dataclass(frozen=True, slots=True)
class Feature:
    """What the whole cluster can do at a level (KIP-584); at level 0 it cannot, and the feature is not told as finalized."""

    name: str
    least: int
    most: int
    level: int


CLIENT_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def is_valid_client_software(name: str, version: str) -> bool:
    """What a client of v3 or later says about itself."""
    return all(CLIENT_SOFTWARE.fullmatch(text) for text in (name, version))


def encode_api_versions(
    version: int, error_code: int, apis: Mapping[int, Sequence[int]], features: Sequence[Feature] = (), epoch: int = -1
) -> bytes:
    """The body, in v0 if the version is none of ours.

    `apis` says in which versions each API key is served: a range, or the least and the greatest. `epoch` rises whenever a
    feature's level changes; -1 is "not known".
    """
    ranges = [{"api_key": key, "min_version": versions[0], "max_version": versions[-1]} for key, versions in sorted(apis.items())]
    body: dict[str, object] = {"error_code": error_code, "api_keys": ranges}
    if version >= FEATURES_FROM and version in VERSIONS:
        body |= _features(version, features, epoch)
    return encode_response(API_VERSIONS, version if version in VERSIONS else 0, body)


def _features(version: int, features: Sequence[Feature], epoch: int) -> dict[str, object]:
    # Older clients cannot read a least level of 0 (KAFKA-17492).
    told = [one for one in features if one.least > 0 or version >= ZERO_AS_LEAST_FROM]
    return {
        "supported_features": [{"name": one.name, "min_version": one.least, "max_version": one.most} for one in told],
        "finalized_features_epoch": epoch,
        "finalized_features": [
            {"name": one.name, "max_version_level": one.level, "min_version_level": one.level}
            for one in features
            if one.level > 0
        ],
    }
