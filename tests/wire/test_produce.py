"""Aim: our Produce codec reads and writes what the schema codec (and so kio) does, in every version, without copying records."""

from random import Random
from typing import Any
from uuid import UUID

import pytest

from quorumlog.wire import codec
from quorumlog.wire.catalogue import PRODUCE, known_versions
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.leader_hints import CurrentLeader, NodeEndpoint
from quorumlog.wire.produce import (
    VERSIONS,
    ProducedPartition,
    ProducedTopic,
    ProduceRequest,
    ProduceResponse,
    RecordError,
    decode_produce,
    encode_produce_response,
)
from quorumlog.wire.schema import Direction
from tests.wire import twin
from tests.wire.mutations import mutate, peak_bytes

EXAMPLES = 30


def as_plain(request: ProduceRequest) -> dict[str, Any]:
    return {
        "transactional_id": request.transactional_id,
        "acks": request.acks,
        "timeout_ms": request.timeout_ms,
        "topic_data": [
            (
                topic.name,
                topic.topic_id,
                [(p.index, None if p.records is None else bytes(p.records)) for p in topic.partitions],
            )
            for topic in request.topics
        ],
    }


def expected_plain(body: dict[str, Any]) -> dict[str, Any]:
    topics = [
        (
            topic.get("name"),
            topic.get("topic_id", NO_TOPIC_ID),
            [(partition["index"], partition["records"]) for partition in topic["partition_data"]],
        )
        for topic in body["topic_data"]
    ]
    return body | {"topic_data": topics}


def response_of(body: dict[str, Any]) -> ProduceResponse:
    return ProduceResponse(
        topics=tuple(topic_of(topic) for topic in body["responses"]),
        throttle_time_ms=body["throttle_time_ms"],
        node_endpoints=tuple(NodeEndpoint(**endpoint) for endpoint in body.get("node_endpoints", ())),
    )


def topic_of(body: dict[str, Any]) -> ProducedTopic:
    partitions = tuple(partition_of(partition) for partition in body["partition_responses"])
    return ProducedTopic(body.get("name"), body.get("topic_id", NO_TOPIC_ID), partitions)


def partition_of(body: dict[str, Any]) -> ProducedPartition:
    errors = tuple(RecordError(e["batch_index"], e["batch_index_error_message"]) for e in body.get("record_errors", ()))
    leader = CurrentLeader(**body["current_leader"]) if "current_leader" in body else CurrentLeader()
    return ProducedPartition(**body | {"record_errors": errors, "current_leader": None if leader == CurrentLeader() else leader})


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_agree_with_kio(version: int) -> None:
    """Random requests are read field by field as kio wrote them."""
    random = Random(version)
    for _ in range(EXAMPLES):
        entity, body = twin.random_message(random, PRODUCE, version, Direction.REQUEST)
        frame = b"head" + twin.encode(entity)
        expected = {"transactional_id": None} | expected_plain(body)
        assert as_plain(decode_produce(version, memoryview(frame), 4)) == expected
        assert as_plain(decode_produce(version, frame, 4)) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_agree_with_kio(version: int) -> None:
    """Random answers are the same bytes as kio's."""
    random = Random(version)
    for _ in range(EXAMPLES):
        entity, body = twin.random_message(random, PRODUCE, version, Direction.RESPONSE)
        assert encode_produce_response(version, response_of(body)) == twin.encode(entity)


@pytest.mark.parametrize("version", VERSIONS)
def test_full_answers_are_written_in_every_version(version: int) -> None:
    """What a version cannot say is left out, so that the handler says everything always."""
    partition = ProducedPartition(
        1, 6, 7, 8, 9, (RecordError(3, "bad"),), "not the leader", CurrentLeader(leader_id=2, leader_epoch=5)
    )
    topic = ProducedTopic("orders", UUID(int=7), (partition,))
    frame = encode_produce_response(version, ProduceResponse((topic,), 11, (NodeEndpoint(2, "host", 9092, "rack"),)))
    response = codec.decode_response(PRODUCE, version, frame)
    assert response.throttle_time_ms == 11
    assert response.responses[0].partition_responses[0].base_offset == 7
    assert len(response.node_endpoints) == (1 if version >= 10 else 0)


def test_every_version_of_the_catalogue_is_served() -> None:
    """When kio's tables grow, so must this codec."""
    assert known_versions(PRODUCE) == VERSIONS


@pytest.mark.parametrize("version", [8, 9, 13])
def test_records_are_views_of_the_frame(version: int) -> None:
    """A megabyte of records costs no memory to decode."""
    partitions = [{"index": 0, "records": bytes(2**20)}]
    frame = codec.encode_request(PRODUCE, version, {"topic_data": [{"name": "a", "partition_data": partitions}]})
    decode_produce(version, frame)
    assert peak_bytes(lambda: decode_produce(version, frame)) < 10_000
    (partition,) = decode_produce(version, frame).topics[0].partitions
    assert partition.records is not None
    assert partition.records.obj is frame


@pytest.mark.parametrize("version", VERSIONS)
def test_mutations_are_refused_or_read(version: int) -> None:
    """Flipped, cut and hostile bytes: a DecodeError or a request, in little memory."""
    random = Random(version)
    for _ in range(EXAMPLES * 10):
        frame = mutate(random, twin.encode(twin.random_message(random, PRODUCE, version, Direction.REQUEST)[0]))
        try:
            assert isinstance(decode_produce(version, frame), ProduceRequest)
        except DecodeError as error:
            assert str(error).startswith(f"produce v{version} request: ")


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\xff\x01"])
def test_hostile_counts_reserve_nothing(count: bytes) -> None:
    """The 12 bytes that abort kio's decoder are refused, and so are smaller lies."""
    frame = b"\x00\x00\x01\x00\x00\x00\x00" + count
    with pytest.raises(DecodeError, match="topics claims"):
        decode_produce(9, frame)

    def refused() -> None:
        with pytest.raises(DecodeError):
            decode_produce(9, frame)

    assert peak_bytes(refused) < 20_000
