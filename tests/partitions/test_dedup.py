"""Topics that drop events which come again: what is stored and answered; no crash, no cut loses an event or doubles it."""

from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.partition import Appended, Partition, PartitionSettings
from quorumlog.wire.batches import HEADER_SIZE, LENGTH_OVERHEAD, read_header
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.records import Record, build_batch, iterate_records, sealed
from tests.partitions.stage import Host, changed, joined, state_of, stored

HOUR_MS = 3_600_000
CONFIG = TopicConfig(segment_bytes=1024, index_interval_bytes=100, quorumlog_dedup_window_ms=HOUR_MS)
OFF = replace(CONFIG, quorumlog_dedup_window_ms=0)


def event(event_id: str | None, *, key: bytes = b"k") -> Record:
    headers = () if event_id is None else (("event-id", event_id.encode()),)
    return Record(timestamp=1000, key=key, value=b"v", headers=headers)


def batch_of(*ids: str | None, **producer: Any) -> bytes:
    return build_batch([replace(event(one), offset=place) for place, one in enumerate(ids)], **producer)


def send(partition: Partition, *ids: str | None, wall_ms: int = 1000, **producer: Any) -> Appended:
    return partition.append(batch_of(*ids, **producer), acks=1, now=0.0, wall_ms=wall_ms)


def idempotent(sequence: int) -> dict[str, int]:
    return {"producer_id": 5, "producer_epoch": 0, "base_sequence": sequence}


def log_of(partition: Partition) -> list[tuple[int, str | None]]:
    """(offset, event id) of all records."""
    found = []
    for _, _, batch in stored(partition):
        for record in iterate_records(batch, read_header(batch), decompressed_bytes_max=1 << 20):
            ids = [value.decode() for name, value in record.headers if name == "event-id" and value]
            found.append((record.offset, ids[-1] if ids else None))
    return found


def leader(config: TopicConfig = CONFIG) -> tuple[Host, Partition]:
    host = Host(config=config)
    return host, host.leader()


# --- what is stored, and what is answered


def test_an_event_that_comes_again_is_not_stored_and_answered_with_its_first_offset() -> None:
    _, partition = leader()
    for one in ("a", "b", None):
        send(partition, one)
    again = send(partition, "b")
    assert (again.answered_offset, again.last_offset, again.duplicate, again.buffers) == (1, 1, True, [])
    assert send(partition, None).base_offset == 3, "a record without an id is never dropped"
    assert log_of(partition) == [(0, "a"), (1, "b"), (2, None), (3, None)]


@pytest.mark.parametrize("compression", list(Compression))
def test_of_a_batch_only_what_is_new_is_stored(compression: Compression) -> None:
    """Offsets are those that the producer reckons with: a hole is where a record was dropped, also the second of two."""
    _, partition = leader()
    send(partition, "a", "b")
    some = send(partition, "c", "a", "d", "c", None, compression=compression)
    assert (some.answered_offset, some.last_offset, some.duplicate) == (2, 6, False)
    assert log_of(partition) == [(0, "a"), (1, "b"), (2, "c"), (4, "d"), (6, None)]
    assert partition.log_end_offset == 7
    assert read_header(stored(partition)[1][2]).compression == compression


def test_the_sequence_of_an_idempotent_producer_goes_on() -> None:
    """Of a batch of which nothing is left, the header is stored; asked again, the answer is the same."""
    _, partition = leader()
    send(partition, "a", "b", "c")
    dropped = send(partition, "b", "c", **idempotent(0))
    assert (dropped.answered_offset, dropped.last_offset) == (1, 4)
    assert partition.log_end_offset == 5
    assert send(partition, "d", **idempotent(2)).answered_offset == 5
    repeated = send(partition, "b", "c", **idempotent(0))
    assert (repeated.answered_offset, repeated.duplicate) == (1, True)
    assert send(partition, "d", **idempotent(2)).answered_offset == 5, "that one was stored"
    assert log_of(partition) == [(0, "a"), (1, "b"), (2, "c"), (5, "d")]
    with pytest.raises(ClusterError) as refused:
        send(partition, "e", **idempotent(4))
    assert refused.value.code is ErrorCode.out_of_order_sequence_number


def test_the_answer_waits_for_every_original() -> None:
    """One that is not committed may be cut off, and with it what was acknowledged."""
    host, partition = leader()
    send(partition, "a")
    host.flush(partition)
    send(partition, "b")
    both = send(partition, "a", "b")
    assert (both.answered_offset, both.last_offset) == (0, 1)
    assert partition.high_watermark <= both.last_offset
    assert send(partition, "b", "a", **idempotent(0)).last_offset == 3, "its own header comes later than both"


def test_outside_the_window_it_is_an_event_like_any_other() -> None:
    _, partition = leader()
    send(partition, "a", wall_ms=1000)
    assert send(partition, "a", wall_ms=1000 + HOUR_MS).duplicate
    assert send(partition, "a", wall_ms=1001 + HOUR_MS + HOUR_MS // 64).base_offset == 1
    assert log_of(partition) == [(0, "a"), (1, "a")]


def test_transactions_are_left_alone() -> None:
    """An aborted record must not swallow the one that replaces it."""
    _, partition = leader()
    send(partition, "a")
    for number in range(2):
        batch = batch_of("a", "b", **idempotent(2 * number), is_transactional=True)
        verified = partition.transaction_to_verify(batch)
        partition.append(batch, acks=1, now=0.0, wall_ms=1000, guard=None if verified is None else verified[1])
    assert send(partition, "b").base_offset == 5
    assert [one for _, one in log_of(partition)] == ["a", "a", "b", "a", "b", "b"]


def test_what_cannot_be_looked_into_is_refused() -> None:
    """By name, and where the setting is off it is taken as it came."""
    batch = changed(batch_of("a", "b"), record_count=3, last_offset_delta=2)
    _, partition = leader()
    with pytest.raises(ClusterError, match="orders-0") as refused:
        partition.append(batch, acks=1, now=0.0, wall_ms=1000)
    assert refused.value.code is ErrorCode.invalid_record
    _, unconcerned = leader(OFF)
    assert unconcerned.append(batch, acks=1, now=0.0, wall_ms=1000).base_offset == 0


def test_a_batch_too_short_for_its_record_count_is_refused_before() -> None:
    batch = batch_of("a")
    header = read_header(batch)
    cut = sealed(batch[:8] + (HEADER_SIZE - LENGTH_OVERHEAD).to_bytes(4, "big") + batch[12:HEADER_SIZE])
    assert header.record_count == 1
    _, partition = leader()
    with pytest.raises(ClusterError):
        partition.append(cut, acks=1, now=0.0, wall_ms=1000)


# --- what is remembered


def test_switched_off_it_forgets_and_switched_on_it_begins_anew() -> None:
    host, partition = leader()
    send(partition, "a")
    partition.save_derived()
    partition.apply_config(OFF)
    assert send(partition, "a").base_offset == 1
    partition.apply_config(CONFIG)
    assert send(partition, "a").base_offset == 2, "it was not learned when it came"
    assert send(partition, "a").duplicate
    partition.close()
    assert host.leader(leader_epoch=2).dedup is not None


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("is_saved", [False, True])
def test_a_crash_forgets_no_event_that_was_acknowledged(power: bool, is_saved: bool) -> None:
    host, partition = leader()
    for number in range(30):
        send(partition, f"e{number}")
    host.flush(partition, sync_store=is_saved)
    if is_saved:
        partition.save_derived()
        host.store.sync()
    host.crash(power=power)
    again = host.leader(leader_epoch=2)
    assert [send(again, f"e{number}").answered_offset for number in range(30)] == list(range(30))
    assert again.log_end_offset == 30


@pytest.mark.parametrize("ends", ["close", "crash"])
def test_an_event_that_was_cut_off_is_taken_again(ends: str) -> None:
    """Also where it had been saved, and the log is as long again as it was then."""
    host, partition = leader()
    send(partition, "kept")
    host.flush(partition)
    for one in ("cut", "cut too", "cut as well"):
        send(partition, one)
    partition.save_derived()
    partition._truncate(1)
    for one in ("other", "another", "a third", "a fourth"):
        send(partition, one)
    partition.save_derived()
    if ends == "close":
        partition.close()
    else:
        host.crash(power=False)
    again = host.leader(leader_epoch=2)
    assert send(again, "cut").base_offset == 5
    assert send(again, "kept").duplicate
    assert send(again, "a third").answered_offset == 3


def test_a_follower_knows_what_its_leader_knew() -> None:
    """Also of batches with holes and without records."""
    host, first = leader()
    send(first, "a", "b", "c")
    send(first, "b", "d", **idempotent(0))
    send(first, "a", "d", **idempotent(2))
    host.flush(first)
    other = Host(node_id=2, config=CONFIG)
    follower = other.open()
    follower.apply_state(state_of(leader=1, leader_epoch=1, partition_epoch=1, isr=(1, 2), replicas=(1, 2)), 0.0)
    data = joined(first.read(0, max_bytes=1 << 20, up_to_end=True).buffers)
    follower.apply_fetched(1, data, high_watermark=7, log_start_offset=0, wall_ms=2000)
    second = other.lead(follower, leader_epoch=2)
    assert [send(second, one).answered_offset for one in "abcd"] == [0, 1, 2, 4]
    assert second.log_end_offset == 7


def test_more_ids_than_there_is_room_are_counted() -> None:
    _, partition = leader(replace(CONFIG, quorumlog_dedup_ids_max=16))
    for number in range(40):
        send(partition, f"e{number}")
    assert partition.dedup is not None
    assert len(partition.dedup.ids) <= 16
    assert partition.dedup.ids.forgotten_early >= 24
    assert send(partition, "e39").duplicate


# --- whatever happens


@dataclass
class Sent:
    ids: tuple[str | None, ...]
    appended: Appended


@dataclass
class Stage:
    """One replica, alone in sync: what it has flushed is committed. Whoever sent something has its answer then."""

    host: Host
    partition: Partition = field(init=False)
    epoch: int = 1
    waiting: list[Sent] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)  # where the answer said

    def __post_init__(self) -> None:
        self.partition = self.host.leader()

    def send(self, ids: list[str | None], is_idempotent: bool, compression: Compression) -> None:
        producer: dict[str, Any] = {}
        if is_idempotent:
            states = dict(self.partition.known_producers())
            producer = idempotent(states[5].last_sequence + 1 if 5 in states else 0)
        batch = batch_of(*ids, compression=compression, **producer)
        appended = self.partition.append(batch, acks=1, now=0.0, wall_ms=1000)
        self.waiting.append(Sent(tuple(ids), appended))
        if is_idempotent:
            repeated = self.partition.append(batch, acks=1, now=0.0, wall_ms=1000)
            assert (repeated.answered_offset, repeated.duplicate) == (appended.answered_offset, True)

    def flush(self, sync_store: bool) -> None:
        self.host.flush(self.partition, sync_store=sync_store)
        where = self.where()
        for sent in self.waiting:
            if sent.appended.last_offset < self.partition.high_watermark:
                if len(sent.ids) == 1 and sent.ids[0] is not None:
                    assert (
                        self.acknowledged.setdefault(sent.ids[0], sent.appended.answered_offset) == sent.appended.answered_offset
                    )
                self.acknowledged |= {one: where[one] for one in sent.ids if one is not None}
        self.waiting = [sent for sent in self.waiting if sent.appended.last_offset >= self.partition.high_watermark]

    def where(self) -> dict[str, int]:
        return {one: offset for offset, one in log_of(self.partition) if one is not None}

    def save(self) -> None:
        self.partition.save_derived()

    def truncate(self, back: int) -> None:
        floor = max(self.partition.high_watermark, self.partition.flushed_offset, self.partition.log_start_offset)
        self.partition._truncate(max(floor, self.partition.log_end_offset - back))
        self.waiting.clear()

    def roll(self) -> None:
        if self.partition._log.active.size:
            self.partition._log.roll(2000)

    def reopen(self) -> None:
        self.partition.close()
        self._lead_again()

    def crash(self, power: bool) -> None:
        self.host.crash(power=power)
        self._lead_again()

    def _lead_again(self) -> None:
        self.waiting.clear()
        self.epoch += 1
        self.partition = self.host.leader(leader_epoch=self.epoch)
        assert self.partition.damage is None

    def check(self) -> None:
        ids = [one for _, one in log_of(self.partition) if one is not None]
        assert len(ids) == len(set(ids)), "none twice"
        where = self.where()
        assert {one: where.get(one) for one in self.acknowledged} == self.acknowledged, "none lost"


POOL = st.sampled_from(["a", "b", "c", "d", "e", "f"])
IDS = st.lists(st.one_of(POOL, POOL, POOL, st.none()), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), IDS, st.booleans(), st.sampled_from([Compression.NONE, Compression.ZSTD])),
        st.tuples(st.just("flush"), st.booleans()),
        st.tuples(st.sampled_from(["save", "roll", "reopen"])),
        st.tuples(st.just("truncate"), st.integers(0, 6)),
        st.tuples(st.just("crash"), st.booleans()),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10_000), steps=STEPS)
def test_every_acknowledged_event_is_there_once_whatever_happens(seed: int, steps: list[tuple[Any, ...]]) -> None:
    """Batches are sent twice over by several producers, the log is cut, processes die, the power goes."""
    stage = Stage(Host(seed, config=CONFIG, settings=PartitionSettings(checkpoint_interval_bytes=700)))
    for action, *details in steps:
        getattr(stage, action)(*details)
        stage.check()
