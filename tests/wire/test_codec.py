"""Aim: our codec writes and reads every message as kio's does, and refuses everything else with a DecodeError."""

import contextlib
from random import Random
from typing import Any
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode

from quorumlog.wire import codec
from quorumlog.wire.catalogue import api_name, is_flexible, known_versions
from quorumlog.wire.codec import DecodeError, EncodeError, Struct
from quorumlog.wire.encoding import unsigned_varint
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.schema import Direction
from tests.wire import twin
from tests.wire.mutations import mutate, peak_bytes

MESSAGES_EACH = 3
MUTATIONS_EACH = 4
METADATA = 3
OFFSET_COMMIT = 8
OFFSET_FETCH = 9
DELETE_TOPICS = 20


def encode(api_key: int, version: int, direction: Direction, body: Any) -> bytes:
    return (codec.encode_request if direction is Direction.REQUEST else codec.encode_response)(api_key, version, body)


def decode(api_key: int, version: int, direction: Direction, frame: bytes) -> Struct:
    return (codec.decode_request if direction is Direction.REQUEST else codec.decode_response)(api_key, version, frame)


def assert_holds(struct: Any, body: Any) -> None:
    if isinstance(body, dict):
        for name, value in body.items():
            assert_holds(getattr(struct, name), value)
    elif isinstance(body, list):
        assert len(struct) == len(body)
        for item, expected in zip(struct, body, strict=True):
            assert_holds(item, expected)
    else:
        assert struct == body
        assert type(struct) is type(body) or isinstance(body, ErrorCode)


@pytest.mark.parametrize("api_key", twin.ALL_APIS, ids=api_name)
def test_agrees_with_kio(api_key: int) -> None:
    """Random messages of every version: the same bytes as kio's, and every field read back from them."""
    random = Random(api_key)
    for version, direction in twin.every_message(api_key):
        for _ in range(MESSAGES_EACH):
            entity, body = twin.random_message(random, api_key, version, direction)
            expected = twin.encode(entity)
            assert encode(api_key, version, direction, body) == expected, (version, direction, body)
            struct = decode(api_key, version, direction, expected)
            assert_holds(struct, body)
            assert encode(api_key, version, direction, struct.as_dict()) == expected


@pytest.mark.parametrize("api_key", twin.ALL_APIS, ids=api_name)
def test_mutations_are_refused_or_read(api_key: int) -> None:
    """Flipped, cut and hostile bytes: a DecodeError or a message, and no other exception."""
    random = Random(api_key)
    for version, direction in twin.every_message(api_key):
        frame = twin.encode(twin.random_message(random, api_key, version, direction)[0])
        for _ in range(MUTATIONS_EACH):
            mutated = mutate(random, frame)
            try:
                struct = decode(api_key, version, direction, mutated)
            except DecodeError as error:
                assert str(error).startswith(api_name(api_key))
            else:
                assert isinstance(struct, Struct)


@pytest.mark.parametrize("cut", range(60))
def test_every_prefix_is_refused(cut: int) -> None:
    """A message cut anywhere is refused."""
    body = {"topics": [{"name": "orders", "topic_id": UUID(int=5)}, {"name": None, "topic_id": UUID(int=6)}]}
    frame = codec.encode_request(METADATA, 12, body)
    with pytest.raises(DecodeError):
        codec.decode_request(METADATA, 12, frame[: min(cut, len(frame) - 1)])


def test_bytes_behind_a_request_are_ignored() -> None:
    """librdkafka 2.16.1 asks for all topics with these bytes: it reserves four for the count and uses one."""
    request = codec.decode_request(METADATA, 13, bytes.fromhex("00 000000 01 00 00"))
    assert request.topics is None
    assert request.allow_auto_topic_creation is False


def test_bytes_behind_a_response_are_refused() -> None:
    """What follows our own message is an error, and the sentence says where."""
    frame = codec.encode_response(METADATA, 9, {}) + b"x"
    with pytest.raises(DecodeError, match="metadata v9 response: 1 bytes follow the message"):
        codec.decode_response(METADATA, 9, frame)


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07" + b"\x01" * 100])
def test_hostile_counts_reserve_nothing(frame: bytes) -> None:
    """An array that claims 2^32 items costs no memory."""
    codec.prepare([METADATA])
    assert peak_of(METADATA, 9, frame) < 20_000


def test_memory_is_a_small_multiple_of_the_input() -> None:
    """The most structs that a frame can hold."""
    frame = commit_of(topic=b"\x01\x01\x00", count=18_000)
    assert peak_of(OFFSET_COMMIT, 9, frame) < 60 * len(frame)


def commit_of(topic: bytes, count: int) -> bytes:
    """An OffsetCommit with so many topics of these bytes."""
    empty = codec.encode_request(OFFSET_COMMIT, 9, {"topics": []})
    assert empty.endswith(b"\x01\x00")
    return empty[:-2] + unsigned_varint(count + 1) + topic * count + b"\x00"


@pytest.mark.parametrize("kind", ["structs", "strings", "numbers"])
def test_a_message_has_a_bounded_number_of_items(kind: str) -> None:
    """Over 20,000 items of whatever kind are refused before the first is made."""
    many = unsigned_varint(300_001)
    api_key, version, frame = {
        "structs": (OFFSET_COMMIT, 9, commit_of(topic=b"\x01\x01\x00", count=300_000)),
        "strings": (DELETE_TOPICS, 4, many + b"\x01" * 300_000 + b"\x00" * 5),
        "numbers": (OFFSET_FETCH, 6, b"\x01\x02\x01" + many + bytes(1_200_000) + bytes(2)),
    }[kind]
    with pytest.raises(DecodeError, match=r"claims 300000 items, and this message may have (20000|19999) more"):
        codec.decode_request(api_key, version, frame)
    assert peak_of(api_key, version, frame) < 20_000


@pytest.mark.parametrize("version", [8, 9])
def test_long_texts_are_refused(version: int) -> None:
    """As in Kafka a text has at most 32,767 bytes, also where its length is a varint."""
    longest = codec.encode_request(METADATA, version, {"topics": [{"name": "x" * 32767}]})
    assert len(codec.decode_request(METADATA, version, longest).topics[0].name) == 32767
    with pytest.raises(EncodeError, match="text of 32768 bytes, allowed are 32767"):
        codec.encode_request(METADATA, version, {"topics": [{"name": "x" * 32768}]})
    with pytest.raises(DecodeError, match="name has 32768 bytes, allowed are 32767"):
        codec.decode_request(METADATA, 9, b"\x02" + unsigned_varint(32769) + b"x" * 40000)


def peak_of(api_key: int, version: int, frame: bytes) -> int:
    def read() -> None:
        with contextlib.suppress(DecodeError):
            codec.decode_request(api_key, version, frame)

    return peak_bytes(read)


def test_fields_of_other_versions_hold_their_defaults() -> None:
    """A handler reads the fields of all versions, whatever the request's is."""
    oldest = codec.decode_request(METADATA, 0, codec.encode_request(METADATA, 0, {"topics": [{"name": "a"}]}))
    assert oldest.allow_auto_topic_creation is True
    assert oldest.include_topic_authorized_operations is False
    assert oldest.topics[0].topic_id is NO_TOPIC_ID
    fetch = codec.decode_request(1, 4, codec.encode_request(1, 4, {"replica_id": 3, "max_wait_ms": 500}))
    assert (fetch.replica_id, fetch.max_wait_ms, fetch.session_epoch, fetch.cluster_id) == (3, 500, -1, None)
    assert fetch.replica_state.replica_epoch == -1
    with pytest.raises(AttributeError, match="has no field 'replica_ids'"):
        _ = fetch.replica_ids


def test_missing_fields_take_the_schema_default() -> None:
    """An answer names only what it has to say."""
    response = codec.decode_response(METADATA, 12, codec.encode_response(METADATA, 12, {}))
    assert (response.controller_id, response.cluster_id, response.topics) == (-1, None, ())


def test_names_are_checked() -> None:
    """A name of another version is dropped, one of no version is our slip."""
    codec.encode_response(
        METADATA, 0, {"throttle_time_ms": 5, "cluster_id": "c", "topics": [{"topic_id": NO_TOPIC_ID, "name": "a"}]}
    )
    with pytest.raises(EncodeError, match="metadata v12 response: MetadataResponseTopic has no field topic"):
        codec.encode_response(METADATA, 12, {"topics": [{"topic": "a"}]})


@pytest.mark.parametrize(
    "topic", [{"error_code": 2**15}, {"error_code": None}, {"name": None}, {"name": 5}, {"partitions": 7}, {"name": "x" * 2**15}]
)
def test_values_that_do_not_fit_are_our_slip(topic: dict[str, Any]) -> None:
    """A value that its field cannot hold is named."""
    with pytest.raises(EncodeError, match="metadata v1 response"):
        codec.encode_response(METADATA, 1, {"topics": [{"name": "a"} | topic]})


def test_unknown_tags_are_stepped_over() -> None:
    """A field of a later version, behind a tag, does not disturb."""
    plain = codec.encode_request(METADATA, 9, {"topics": None})
    struct = codec.decode_request(METADATA, 9, plain[:-1] + b"\x01\x63\x03abc")
    assert struct == codec.decode_request(METADATA, 9, plain)


def test_a_tagged_field_must_fill_its_size() -> None:
    """A tagged value shorter or longer than announced is refused."""
    fetch = codec.encode_request(1, 12, {"cluster_id": "abc"})
    assert fetch.endswith(b"\x01\x00\x04\x04abc")
    for size in (b"\x03", b"\x05"):
        with pytest.raises(DecodeError):
            codec.decode_request(1, 12, fetch[:-5] + size + fetch[-4:] + b"\x00")


def test_memoryviews_are_read_like_bytes() -> None:
    """Frames arrive as views."""
    frame = codec.encode_request(METADATA, 12, {"topics": [{"name": "ä"}]})
    view = memoryview(b"head" + frame)
    assert codec.decode_request(METADATA, 12, view, 4) == codec.decode_request(METADATA, 12, frame)


def test_structs_are_frozen() -> None:
    """Defaults are shared between messages, so nobody may change one."""
    struct = codec.decode_request(METADATA, 12, codec.encode_request(METADATA, 12, {}))
    with pytest.raises(AttributeError):
        struct.topics = ()  # type: ignore[attr-defined]


def test_catalogue() -> None:
    """Versions as in Apache Kafka 4.3; keys that stand for nothing have none."""
    assert (api_name(0), known_versions(0), known_versions(1)) == ("produce", range(3, 14), range(4, 19))
    assert (known_versions(999), api_name(999)) == (range(0), "api 999")
    assert (is_flexible(0, 8), is_flexible(0, 9)) == (False, True)
    with pytest.raises(KeyError):
        codec.decode_request(METADATA, 99, b"")
