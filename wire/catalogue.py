"""Which messages there are: the APIs and versions of Apache Kafka 4.3, by kio's index."""

from functools import cache

from kio.index import load_entity_schema
from kio.schema.index import api_key_map, schema_name_map
from kio.static.constants import EntityType

PRODUCE = 0
FETCH = 1
API_VERSIONS = 18


def api_name(api_key: int) -> str:
    """Such as "list_offsets", and "api 999" of a number that stands for nothing. For people only."""
    return api_key_map.get(api_key, f"api {api_key}")


def known_apis() -> tuple[int, ...]:
    return tuple(sorted(api_key_map))


@cache
def known_versions(api_key: int) -> range:
    """The versions that can be decoded and encoded, without a gap; empty of a key that stands for nothing."""
    if api_key not in api_key_map:
        return range(0)
    versions = sorted(version for version, types in schema_name_map[api_key_map[api_key]].items() if EntityType.request in types)
    assert versions == list(range(versions[0], versions[-1] + 1)), (api_key, versions)
    return range(versions[0], versions[-1] + 1)


@cache
def is_flexible(api_key: int, api_version: int) -> bool:
    """Whether compact lengths and tagged fields are used (KIP-482). Raises KeyError unless the version is known."""
    return bool(load_entity_schema(api_key_map[api_key], api_version, EntityType.request).__flexible__)
