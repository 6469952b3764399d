"""Producing, and reading by assignment."""

import os
import time
from collections.abc import Sequence
from functools import partial

from tests.clients.scenarios import Scenario
from tests.clients.stage import Stage, eventually, refused
from tests.cluster.libraries import BEGINNING, END, Message

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
OLD_MS = 1_600_000_000_000
SENT = [
    Message(b"value", b"key", (("name", b"value"), ("empty", b""), ("\u00e4", b"\x00\xff")), OLD_MS + 123),
    Message(None, b"tombstone", (), OLD_MS + 124),
    Message(b"no key", None, (), OLD_MS + 122),
    Message(b"", b"", (), OLD_MS + 125),
    *(Message(b"x" * 1000, b"%d" % index, (), OLD_MS + 1000 + index) for index in range(50)),
]


def numbered(count: int, partition: int = 0, start: int = 0) -> list[Message]:
    return [Message(b"%d" % index, b"k", (), OLD_MS + index, partition) for index in range(start, start + count)]


def comes_back(codec: str, at: Stage) -> None:
    topic = at.topic(retention_ms="-1")
    compression = None if codec == "none" else codec
    assert at.client.produce(topic, SENT, acks="all", compression=compression) == [(0, index) for index in range(len(SENT))]
    ((*own,),) = at.client.read(topic, 0, (BEGINNING, len(SENT)))
    _same(own, "it read")
    _same(at.reference().consume(topic, 0, len(SENT)), "librdkafka read what it wrote as")


def _same(found: Sequence[tuple[int, Message]], who: str) -> None:
    """AssertionError with the first difference."""
    for (offset, message), sent in zip(found, SENT, strict=True):
        assert message == sent, f"{who} {message} at offset {offset}, sent was {sent}"


def every_acks(acks: str | int, at: Stage) -> None:
    topic = at.topic(retention_ms="-1")
    sent = numbered(10)
    places = at.client.produce(topic, sent, acks=acks)
    assert [offset for _, offset in places] in ([list(range(10))] if acks != 0 else [[-1] * 10, list(range(10))]), places
    ((*found,),) = at.client.read(topic, 0, (BEGINNING, 10))
    assert [message.value for _, message in found] == [message.value for message in sent]


def large(at: Stage) -> None:
    """Up to max.message.bytes; beyond it the client is told MESSAGE_TOO_LARGE."""
    topic = at.topic()
    fitting = Message(os.urandom(1_000_000))
    assert at.client.produce(topic, [fitting], acks="all", record_bytes_max=20_000_000) == [(0, 0)]
    refused(10, lambda: at.client.produce(topic, [Message(os.urandom(2_000_000))], acks="all", record_bytes_max=20_000_000))
    ((place,),) = at.client.read(topic, 0, (0, 1))
    assert place[1].value == fitting.value


def raised_limit(at: Stage) -> None:
    topic = at.topic(max_message_bytes="9000000")
    big = Message(os.urandom(8_000_000))
    assert at.client.produce(topic, [big], acks="all", record_bytes_max=20_000_000) == [(0, 0)]
    ((place,),) = at.client.read(topic, 0, (0, 1))
    assert place[1].value == big.value


def born(at: Stage) -> None:
    topic = at.name("born")
    assert at.client.produce(topic, [Message(b"first")], acks="all") == [(0, 0)]
    ((place,),) = at.client.read(topic, 0, (BEGINNING, 1))
    assert place[1].value == b"first"


def places(at: Stage) -> None:
    """From the beginning, from an offset, and what comes after the end."""
    topic = at.topic(retention_ms="-1")
    at.client.produce(topic, numbered(20), acks="all")
    first, middle = at.client.read(topic, 0, (BEGINNING, 3), (13, 7))
    assert [offset for offset, _ in first] == [0, 1, 2]
    assert [offset for offset, _ in middle] == list(range(13, 20))


def from_the_end(at: Stage) -> None:
    topic = at.topic(retention_ms="-1")
    at.client.produce(topic, numbered(20), acks="all")
    future = at.client.start("read", topic=topic, partition=0, steps=[[END, 1]])
    deadline = time.monotonic() + 30
    while not future.done() and time.monotonic() < deadline:
        at.client.produce(topic, [Message(b"new")], acks="all")
        time.sleep(0.1)
    ((found,),) = future.result(1)
    assert found["offset"] >= 20, found


def offsets(at: Stage) -> None:
    topic = at.topic(2, retention_ms="-1")
    for start in (1000, 2000):
        sent = [Message(b"%d" % index, b"k", (), start + 10 * index) for index in range(10)]
        at.client.produce(topic, sent, acks="all")
    asked = {"earliest": 0, "latest": 20, 0: 0, 1031: 4, 1500: 10, 2090: 19}
    found = {place: at.client.call("offset", topic=topic, partition=0, at=place) for place in asked}
    assert found == asked
    assert at.client.call("offset", topic=topic, partition=0, at=2091) in (None, 20)
    assert at.client.call("offset", topic=topic, partition=1, at="latest") == 0


def replay(at: Stage) -> None:
    """One consumer reads, rewinds, and reads the same; compressed batches are entered in their middle."""
    topic = at.topic(retention_ms="-1")
    at.client.produce(topic, numbered(100), acks="all", compression="gzip")
    all_of_it, again, tail, once_more = at.client.read(topic, 0, (BEGINNING, 100), (0, 100), (57, 43), (3, 10))
    assert all_of_it == again
    assert tail == all_of_it[57:]
    assert once_more == all_of_it[3:13]


def deleted_records(at: Stage) -> None:
    topic = at.topic(retention_ms="-1")
    at.client.produce(topic, numbered(10), acks="all")
    assert at.client.call("delete_records", topic=topic, partition=0, before=6) == 6
    eventually(lambda: at.client.call("offset", topic=topic, partition=0, at="earliest") == 6, "the log starts at 6")
    ((*found,),) = at.client.read(topic, 0, (BEGINNING, 4))
    assert [offset for offset, _ in found] == [6, 7, 8, 9]


SCENARIOS = [
    *(Scenario("produce", f"keys, nulls, headers, times; {codec}", partial(comes_back, codec)) for codec in CODECS),
    *(Scenario("produce", f"acks={acks}", partial(every_acks, acks)) for acks in ("all", 1, 0)),
    Scenario("produce", "1 MB taken, 2 MB refused", large),
    Scenario("produce", "8 MB where the topic allows it", raised_limit),
    Scenario("produce", "a topic is born at its first use", born),
    Scenario("read by assignment", "from the beginning, from an offset", places),
    Scenario("read by assignment", "from the end", from_the_end),
    Scenario("read by assignment", "offsets: first, last, by time", offsets),
    Scenario("read by assignment", "seek and replay", replay),
    Scenario("read by assignment", "after records were deleted", deleted_records),
]
