"""Aim: our Fetch codec reads and writes what kio does, in every version, and hands record buffers through untouched."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from quorumlog.wire import codec
from quorumlog.wire.batches import Buffer
from quorumlog.wire.catalogue import FETCH, known_versions
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.fetch import (
    VERSIONS,
    AbortedTransaction,
    EpochEndOffset,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    SnapshotId,
    decode_fetch,
    encode_fetch_response,
)
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.leader_hints import CurrentLeader, NodeEndpoint
from quorumlog.wire.schema import Direction
from tests.wire import twin
from tests.wire.mutations import mutate, peak_bytes

EXAMPLES = 30


def assert_reads(request: FetchRequest, body: dict[str, Any]) -> None:
    body = dict(body)
    replica_state = body.pop("replica_state", None) or {"replica_id": body.pop("replica_id", -1), "replica_epoch": -1}
    assert (request.replica_id, request.replica_epoch) == (replica_state["replica_id"], replica_state["replica_epoch"])
    topics, forgotten_topics = body.pop("topics"), body.pop("forgotten_topics_data", [])
    assert {name: getattr(request, name) for name in body} == body
    for topic, expected in zip(request.topics, topics, strict=True):
        assert topic.name == expected.get("topic")
        assert topic.topic_id == expected.get("topic_id", NO_TOPIC_ID)
        assert topic.partitions == tuple(FetchPartition(**partition) for partition in expected["partitions"])
    for forgotten, expected in zip(request.forgotten_topics, forgotten_topics, strict=True):
        assert forgotten.name == expected.get("topic")
        assert forgotten.topic_id == expected.get("topic_id", NO_TOPIC_ID)
        assert list(forgotten.partitions) == expected["partitions"]


def response_of(random: Random, body: dict[str, Any]) -> FetchResponse:
    return FetchResponse(
        topics=tuple(
            FetchedTopic(
                topic.get("topic"),
                topic.get("topic_id", NO_TOPIC_ID),
                tuple(partition_of(random, partition) for partition in topic["partitions"]),
            )
            for topic in body["responses"]
        ),
        throttle_time_ms=body["throttle_time_ms"],
        error_code=body.get("error_code", 0),
        session_id=body.get("session_id", 0),
        node_endpoints=tuple(NodeEndpoint(**endpoint) for endpoint in body.get("node_endpoints", ())),
    )


def partition_of(random: Random, body: dict[str, Any]) -> FetchedPartition:
    fields = dict(body)
    fields["partition"] = fields.pop("partition_index")
    fields["records"] = pieces(random, fields["records"])
    if fields["aborted_transactions"] is not None:
        fields["aborted_transactions"] = tuple(AbortedTransaction(**aborted) for aborted in fields["aborted_transactions"])
    for name, hint, default in (
        ("diverging_epoch", EpochEndOffset, EpochEndOffset(epoch=-1, end_offset=-1)),
        ("current_leader", CurrentLeader, CurrentLeader()),
        ("snapshot_id", SnapshotId, SnapshotId(end_offset=-1, epoch=-1)),
    ):
        if name in fields:
            value = hint(**fields[name])
            fields[name] = None if value == default else value
    return FetchedPartition(**fields)


def pieces(random: Random, records: bytes) -> list[Buffer]:
    cut = random.randrange(len(records) + 1)
    return [records[:cut], memoryview(records)[cut:]] if records else []


def random_response(random: Random, version: int) -> tuple[Any, dict[str, Any]]:
    """kio's answers with null records are left out: we write none as empty, as Kafka's broker does."""
    while True:
        entity, body = twin.random_message(random, FETCH, version, Direction.RESPONSE)
        if all(p["records"] is not None for topic in body["responses"] for p in topic["partitions"]):
            return entity, body


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_agree_with_kio(version: int) -> None:
    """Random requests are read field by field as kio wrote them."""
    random = Random(version)
    for _ in range(EXAMPLES):
        entity, body = twin.random_message(random, FETCH, version, Direction.REQUEST)
        frame = b"head" + twin.encode(entity)
        assert_reads(decode_fetch(version, memoryview(frame), 4), body)


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_agree_with_kio(version: int) -> None:
    """Random answers are the same bytes as kio's, wherever the records are cut."""
    random = Random(version)
    for _ in range(EXAMPLES):
        entity, body = random_response(random, version)
        assert b"".join(encode_fetch_response(version, response_of(random, body))) == twin.encode(entity)


@pytest.mark.parametrize("version", VERSIONS)
def test_full_answers_are_written_in_every_version(version: int) -> None:
    """What a version cannot say is left out, so that the handler says everything always."""
    partition = FetchedPartition(
        partition=1,
        error_code=6,
        high_watermark=10,
        last_stable_offset=9,
        log_start_offset=2,
        records=[b"abc"],
        aborted_transactions=(AbortedTransaction(producer_id=7, first_offset=5),),
        preferred_read_replica=3,
        diverging_epoch=EpochEndOffset(epoch=4, end_offset=8),
        current_leader=CurrentLeader(leader_id=2, leader_epoch=5),
        snapshot_id=SnapshotId(end_offset=6, epoch=1),
    )
    topic = FetchedTopic("orders", NO_TOPIC_ID, (partition, replace(partition, partition=2, records=[])))
    response = FetchResponse((topic,), 11, 0, 77, (NodeEndpoint(2, "host", 9092),))
    read = codec.decode_response(FETCH, version, b"".join(encode_fetch_response(version, response)))
    first, second = read.responses[0].partitions
    assert (first.records, second.records, first.high_watermark) == (b"abc", b"", 10)
    assert first.aborted_transactions[0].first_offset == 5
    assert first.diverging_epoch.end_offset == (8 if version >= 12 else -1)
    assert read.session_id == (77 if version >= 7 else 0)


def test_every_version_of_the_catalogue_is_served() -> None:
    """When kio's tables grow, so must this codec."""
    assert known_versions(FETCH) == VERSIONS


def test_record_buffers_are_handed_through() -> None:
    """The very objects that were read from disk leave in the scatter list, in order, between our own bytes."""
    first, second, third = bytes(1000), memoryview(bytes(2000)), bytearray(3000)
    partitions = (FetchedPartition(0, records=[first, second]), FetchedPartition(1), FetchedPartition(2, records=[third]))
    buffers = encode_fetch_response(12, FetchResponse((FetchedTopic("a", NO_TOPIC_ID, partitions),)))
    assert [id(buffer) for buffer in (buffers[1], buffers[2], buffers[4])] == [id(first), id(second), id(third)]
    assert len(buffers) == 6


@pytest.mark.parametrize("version", VERSIONS)
def test_mutations_are_refused_or_read(version: int) -> None:
    """Flipped, cut and hostile bytes: a DecodeError or a request."""
    random = Random(version)
    for _ in range(EXAMPLES * 10):
        frame = mutate(random, twin.encode(twin.random_message(random, FETCH, version, Direction.REQUEST)[0]))
        try:
            assert isinstance(decode_fetch(version, frame), FetchRequest)
        except DecodeError as error:
            assert str(error).startswith(f"fetch v{version} request: ")


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\xff\x01"])
def test_hostile_counts_reserve_nothing(count: bytes) -> None:
    """An array that claims more than the frame can hold costs no memory."""
    frame = codec.encode_request(FETCH, 13, {"topics": []})[:-3]

    def refused() -> None:
        with pytest.raises(DecodeError, match="topics claims"):
            decode_fetch(13, frame[:-1] + count)

    refused()
    assert peak_bytes(refused) < 20_000
