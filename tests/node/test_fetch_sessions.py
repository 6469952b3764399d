"""Fetch sessions: what a step tells, what it may leave out, who gets room, and how many there may be."""

import asyncio
import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.node.dispatch import Call
from quorumlog.node.fetch_sessions import EPOCH_MAX, FetchSession, FetchSessions, asked_in
from quorumlog.node.handlers.fetch import handle_fetch
from quorumlog.node.waits import ReadWaits
from quorumlog.partitions.results import ReadResult
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.fetch import FetchedPartition, FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic
from quorumlog.wire.ids import NO_TOPIC_ID, TopicPartition
from tests.node.virtual import run

RECORD = b"0123456789"
TOPIC_ID = UUID(int=7)


@dataclass
class FakePartition:
    """Records of ten bytes, all committed."""

    topic_id: UUID = TOPIC_ID
    end: int = 0
    start: int = 0
    error: ErrorCode | None = None
    reads: int = 0

    def read(self, offset: int, *, max_bytes: int, **_: Any) -> ReadResult:
        self.reads += 1
        if self.error is not None or not self.start <= offset <= self.end:
            raise ClusterError(self.error or ErrorCode.offset_out_of_range, "as the test wants it")
        count = min(self.end - offset, max(1, max_bytes // len(RECORD))) if max_bytes > 0 else 0
        return ReadResult([RECORD] * count, count * len(RECORD), offset + count, self.end, self.end, self.start)


@dataclass
class Stage:
    """A node with partitions of one topic, and a client of it that has one session."""

    count: int = 3
    version: int = 12
    sessions_max: int = 10
    partitions: dict[int, FakePartition] = field(default_factory=dict)
    session_id: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        self.partitions = {index: FakePartition() for index in range(self.count)}
        self.reads = ReadWaits()
        self.names = {TOPIC_ID: "t"}
        replicas = SimpleNamespace(get=self._get, reads=self.reads, check_damage=lambda _: None)
        self.sessions = FetchSessions(self.reads, random.Random(1).randint, sessions_max=self.sessions_max)
        self.services: Any = SimpleNamespace(
            replicas=replicas,
            fetch_sessions=self.sessions,
            image=SimpleNamespace(topic_names=self.names, partition=lambda _topic, _index: None),
            config=SimpleNamespace(fetch_bytes_max=1000),
            clock=SimpleNamespace(now=lambda: 0.0),
            answer_room=lambda: 1000,
        )

    def _get(self, tp: TopicPartition, _image: Any) -> FakePartition:
        if tp.partition not in self.partitions:
            raise ClusterError(ErrorCode.unknown_topic_or_partition, f"no {tp}")
        return self.partitions[tp.partition]

    def change(self, index: int, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.partitions[index], name, value)
        self.reads.wake(TopicPartition("t", index))

    def send(
        self, offsets: dict[int, int], *, forget: tuple[int, ...] = (), max_bytes: int = 1000, wait_ms: int = 0, **how: Any
    ) -> Any:
        """The handler's result for the client's next request."""
        name, topic_id = (None, TOPIC_ID) if self.version >= 13 else ("t", NO_TOPIC_ID)
        wanted = tuple(FetchPartition(index, offset, how.pop("each", 1000)) for index, offset in offsets.items())
        request = FetchRequest(
            replica_id=-1,
            replica_epoch=-1,
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=max_bytes,
            isolation_level=how.get("isolation_level", 0),
            session_id=how.get("session_id", self.session_id),
            session_epoch=how.get("epoch", self.epoch),
            topics=(FetchTopic(name, topic_id, wanted),) if wanted else (),
            forgotten_topics=(ForgottenTopic(name, topic_id, forget),) if forget else (),
            rack_id="",
            cluster_id=None,
        )
        return handle_fetch(self.services, Call(how.get("version", self.version), request, None, ""))

    def ask(self, offsets: dict[int, int], **how: Any) -> dict[int, FetchedPartition]:
        """What the answer tells, by partition."""
        return self.take(self.send(offsets, **how))

    def take(self, answer: FetchResponse) -> dict[int, FetchedPartition]:
        assert answer.error_code == ErrorCode.none, answer
        self.session_id, self.epoch = answer.session_id, self.epoch + 1
        return {one.partition: one for topic in answer.topics for one in topic.partitions}


def test_a_step_tells_only_what_is_new() -> None:
    """The first answer has all; after it come new records, a new start of the log, and errors for as long as they hold."""
    stage = Stage()
    assert sorted(stage.ask({0: 0, 1: 0, 2: 0})) == [0, 1, 2]
    assert stage.session_id > 0
    assert stage.ask({}) == {}
    stage.change(1, end=2)
    assert stage.ask({})[1].records == [RECORD] * 2
    assert stage.ask({}).keys() == {1}, "it was not asked for the next offset: the client has not got it"
    assert stage.ask({1: 2}) == {}
    stage.change(2, start=0, error=ErrorCode.kafka_storage_error)
    assert [stage.ask({})[2].error_code for _ in range(2)] == [ErrorCode.kafka_storage_error] * 2
    stage.change(2, error=None)
    assert stage.ask({})[2].error_code == ErrorCode.none, "that it is over is news too"
    assert stage.ask({}) == {}


def test_a_quiet_partition_is_not_looked_at() -> None:
    """That is what makes a thousand partitions cheap: neither named, nor read, nor told."""
    stage = Stage(count=1000)
    stage.ask(dict.fromkeys(range(1000), 0))
    stage.ask({})
    before = sum(partition.reads for partition in stage.partitions.values())
    stage.change(500, end=1)
    assert stage.ask({}).keys() == {500}
    assert sum(partition.reads for partition in stage.partitions.values()) == before + 1


def test_partitions_come_and_go() -> None:
    """A step adds what it names and drops what it forgets; with the last one the session ends."""
    stage = Stage()
    stage.ask({0: 0})
    assert stage.ask({1: 0}).keys() == {1}
    stage.change(0, end=1)
    assert stage.ask({}, forget=(0,)) == {}
    assert stage.sessions.partition_count == 1
    answer = stage.send({}, forget=(1,))
    assert (answer.session_id, answer.topics, len(stage.sessions)) == (0, (), 0)
    assert stage.reads._callbacks == {}, "nobody is called for it any more"


def test_errors_of_sessions() -> None:
    """An unknown session, another epoch than the next, and names where the session has ids: each has its code."""
    stage = Stage()
    stage.ask({0: 0})
    assert stage.send({}, session_id=stage.session_id + 1).error_code == ErrorCode.fetch_session_id_not_found
    assert stage.send({}, epoch=5).error_code == ErrorCode.invalid_fetch_session_epoch
    assert stage.send({}, version=13).error_code == ErrorCode.fetch_session_topic_id_error
    assert stage.ask({}) == {}, "the session is as it was"


@pytest.mark.parametrize(("epoch", "has_session"), [(0, True), (-1, False)])
def test_a_full_fetch_ends_the_session_before(epoch: int, has_session: bool) -> None:
    """With epoch 0 another begins, with -1 none."""
    stage = Stage()
    stage.ask({0: 0})
    before = stage.session_id
    stage.epoch = epoch
    stage.ask({0: 0})
    assert (stage.session_id not in (0, before)) is has_session
    assert len(stage.sessions) == has_session


def test_a_request_by_id_waits_for_its_name() -> None:
    """A topic that is not known yet is an error until it is; another topic's partition under the name is not taken for it."""
    stage = Stage(version=13)
    del stage.names[TOPIC_ID]
    assert stage.ask({0: 0})[0].error_code == ErrorCode.unknown_topic_id
    stage.names[TOPIC_ID] = "t"
    assert stage.ask({})[0].error_code == ErrorCode.none
    stage.change(0, end=1)
    assert stage.ask({})[0].records == [RECORD]
    stage.change(0, topic_id=UUID(int=8))
    assert stage.ask({})[0].error_code == ErrorCode.inconsistent_topic_id


def test_nobody_starves() -> None:
    """Where an answer has room for one partition only, all get their turn, however busy they are."""
    stage = Stage(count=5)
    offsets = dict.fromkeys(range(5), 0)
    stage.ask(offsets, max_bytes=10)
    for index in range(5):
        stage.change(index, end=100)
    served = []
    for _ in range(10):
        got = [index for index, one in stage.ask(offsets, max_bytes=10).items() if one.records]
        served += got
        for index in got:
            offsets[index] += 1
    assert {index: served.count(index) for index in range(5)} == dict.fromkeys(range(5), 2)


def test_a_step_waits_for_records() -> None:
    """It is woken by the partition that has them, of a thousand, and looks at that one alone."""

    async def main() -> None:
        stage = Stage(count=1000)
        stage.ask(dict.fromkeys(range(1000), 0))
        stage.ask({})
        before = sum(partition.reads for partition in stage.partitions.values())
        waiting = asyncio.ensure_future(stage.send({}, wait_ms=500))
        await asyncio.sleep(0.1)
        stage.change(7, end=1)
        assert stage.take(await waiting).keys() == {7}
        assert sum(partition.reads for partition in stage.partitions.values()) == before + 1
        assert stage.take(await stage.send({7: 1}, wait_ms=50)) == {}, "the time is over"

    run(main())


@pytest.mark.parametrize(
    ("ending", "code"),
    [("another request", ErrorCode.invalid_fetch_session_epoch), ("eviction", ErrorCode.fetch_session_id_not_found)],
)
def test_a_waiting_step_ends_with_its_session(ending: str, code: ErrorCode) -> None:
    """Who waits in a session that goes, or that went on without him, is told so at once."""

    async def main() -> None:
        stage = Stage()
        stage.ask({0: 0})
        waiting = asyncio.ensure_future(stage.send({}, wait_ms=500_000))
        await asyncio.sleep(0.1)
        if ending == "eviction":
            stage.sessions.close(stage.session_id)
        else:
            stage.send({}, epoch=stage.epoch + 1)
        async with asyncio.timeout(1.0):
            answer = await waiting
        assert (answer.error_code, answer.topics) == (code, ())

    run(main())


@given(st.data())
def test_with_a_session_as_without(data: st.DataObject) -> None:
    """After any history, a client that believes what its session told it knows what a full fetch would tell."""
    stage = Stage(count=3)
    view = {index: _seen(one) for index, one in stage.ask({0: 0, 1: 0, 2: 0}).items()}
    offsets = {0: 0, 1: 0, 2: 0}
    for _ in range(data.draw(st.integers(1, 12))):
        _change_something(data, stage)
        named = {index: data.draw(st.integers(0, 6)) for index in data.draw(st.sets(st.integers(0, 2)))}
        offsets |= named
        isolation = data.draw(st.integers(0, 1))
        told = stage.ask(named, isolation_level=isolation)
        view = {index: _seen(told[index]) if index in told else (*seen[:3], 0) for index, seen in view.items()}
        session = stage.session_id, stage.epoch
        full = stage.send(offsets, session_id=0, epoch=-1)
        stage.session_id, stage.epoch = session
        assert view == {one.partition: _seen(one) for topic in full.topics for one in topic.partitions}


def _seen(one: FetchedPartition) -> tuple[Any, ...]:
    if one.error_code:
        return (one.error_code,)
    return one.high_watermark, one.last_stable_offset, one.log_start_offset, len(one.records)


def _change_something(data: st.DataObject, stage: Stage) -> None:
    index = data.draw(st.integers(0, 2))
    partition = stage.partitions[index]
    match data.draw(st.sampled_from(["append", "delete", "break", "nothing"])):
        case "append":
            stage.change(index, end=partition.end + data.draw(st.integers(1, 3)))
        case "delete":
            stage.change(index, start=min(partition.end, partition.start + 1))
        case "break":
            stage.change(index, error=None if partition.error else ErrorCode.not_leader_or_follower)


# --- how many there may be


def a_request(count: int, *, session_id: int = 0, epoch: int = 0, offset: int = 0) -> FetchRequest:
    wanted = tuple(FetchPartition(index, offset, 1000) for index in range(count))
    topics = (FetchTopic("t", NO_TOPIC_ID, wanted),)
    return FetchRequest(-1, -1, 0, 1, 1000, 0, session_id, epoch, topics, (), "", None)


def some_sessions(**bounds: Any) -> FetchSessions:
    return FetchSessions(ReadWaits(), random.Random(1).randint, **bounds)


def begin(sessions: FetchSessions, count: int, now: float) -> FetchSession | None:
    asked = asked_in(a_request(count).topics)
    return sessions.open(asked, isolation_level=0, uses_topic_ids=False, now=now)


def lives(sessions: FetchSessions, session: FetchSession, now: float) -> bool:
    request = a_request(1, session_id=session.id, epoch=session.epoch)
    try:
        return sessions.step(request, uses_topic_ids=False, now=now) is session
    except ClusterError as error:
        assert error.code is ErrorCode.fetch_session_id_not_found
        return False


def test_the_one_at_rest_makes_room() -> None:
    """Kafka's rule: within two minutes of its last use nobody is sent away; then the one that rests longest is."""
    sessions = some_sessions(sessions_max=2)
    first, second = begin(sessions, 1, now=0.0), begin(sessions, 1, now=0.0)
    assert first is not None and second is not None
    assert begin(sessions, 9, now=119.0) is None
    assert lives(sessions, first, now=120.0)
    third = begin(sessions, 1, now=121.0)
    assert third is not None
    assert lives(sessions, first, now=121.0) and not lives(sessions, second, now=121.0)


def test_the_smallest_old_one_makes_room_for_a_larger() -> None:
    """Who is in use, but began long ago, goes only for one that has at least as many partitions, for that saves more."""
    sessions = some_sessions(sessions_max=2)
    large, small = begin(sessions, 5, now=0.0), begin(sessions, 3, now=0.0)
    assert large is not None and small is not None
    assert lives(sessions, large, now=119.0) and lives(sessions, small, now=119.0)
    assert begin(sessions, 2, now=121.0) is None
    assert begin(sessions, 3, now=121.0) is not None
    assert lives(sessions, large, now=121.0) and not lives(sessions, small, now=121.0)
    assert sessions.partition_count == 8


def test_partitions_of_all_sessions_are_bounded() -> None:
    """A session that would hold too many is not begun; one that grows over the bound ends, and its client begins anew."""
    sessions = some_sessions(partitions_max=10)
    session = begin(sessions, 6, now=0.0)
    assert session is not None
    assert begin(sessions, 5, now=0.0) is None
    with pytest.raises(ClusterError) as refused:
        sessions.step(a_request(11, session_id=session.id, epoch=1), uses_topic_ids=False, now=0.0)
    assert refused.value.code is ErrorCode.fetch_session_id_not_found
    assert (len(sessions), sessions.partition_count) == (0, 0)


def test_without_places_there_are_no_sessions() -> None:
    """A full fetch is then answered with session 0, and the client names all partitions each time."""
    stage = Stage(sessions_max=0)
    assert stage.ask({0: 0}).keys() == {0}
    assert stage.session_id == 0


def test_the_epoch_begins_again_after_the_greatest() -> None:
    """As in Kafka it goes on with 1: 0 would mean a full fetch."""
    sessions = some_sessions()
    session = begin(sessions, 1, now=0.0)
    assert session is not None
    session.epoch = EPOCH_MAX
    assert lives(sessions, session, now=0.0)
    assert session.epoch == 1
