"""Events that come again are dropped and acknowledged, whatever happens in between; against a twin that reads the whole log."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from quorumlog.partitions.event_ids import hashed
from quorumlog.partitions.keys import Keys
from quorumlog.partitions.partition import Partition, Role
from quorumlog.partitions.rebuild import rebuild
from quorumlog.partitions.results import Appended
from quorumlog.wire.batches import HEADER_SIZE, BatchHeader, iterate_headers
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.records import Record, build_batch, iterate_records
from tests.partitions.stage import TINY, TOPIC_ID, Host, changed, stored
from tests.partitions.test_compaction_crashes import Crash, crash_before
from tests.partitions.trio import Trio, run

HOUR_MS = 3_600_000
DEDUP = replace(TINY, quorumlog_dedup_window_ms=HOUR_MS)
KEYS = Keys(TOPIC_ID, 0)


def events(ids: Sequence[str | None], *, compression: Compression = Compression.NONE, **producer: int) -> bytes:
    """What a producer sends: records with these ids."""
    records = [Record(n, 1000 + n, b"k", b"v", () if one is None else (("event-id", one.encode()),)) for n, one in enumerate(ids)]
    return build_batch(records, compression=compression, **producer)  # type: ignore[arg-type]


def idempotent(ids: Sequence[str | None], sequence: int, *, producer_id: int = 7) -> bytes:
    return events(ids, producer_id=producer_id, producer_epoch=0, base_sequence=sequence)


def put(partition: Partition, batch: bytes, *, wall_ms: int = 1000) -> Appended:
    return partition.append(batch, acks=1, now=0.0, wall_ms=wall_ms)


def in_log(partition: Partition) -> list[tuple[int, str | None]]:
    """(offset, event id) of each record that is there, whatever the role."""
    found = []
    for _, _, data in stored(partition):
        for _, header in iterate_headers(data):
            if not header.is_control:
                for record in iterate_records(data, header, decompressed_bytes_max=1 << 20):
                    value = dict(record.headers).get("event-id")
                    found.append((record.offset, None if value is None else value.decode()))
    return found


def headers(partition: Partition) -> list[BatchHeader]:
    return [header for _, _, data in stored(partition) for _, header in iterate_headers(data)]


def remembered(partition: Partition) -> dict[bytes, int]:
    assert partition.dedup is not None
    return dict(partition.dedup.ids.since(0)[1])


def chunks(host: Host) -> list[int]:
    return [KEYS.number_of(key) for key, _ in host.store.scan(KEYS.event_ids(0), KEYS.end_of(b"d"))]


# --- what is left of a batch, and what its producer is told


def test_a_batch_of_new_events_is_stored_as_it_came() -> None:
    partition = Host(config=DEDUP).leader()
    batch = events(["a", None, "b"])
    put(partition, batch)
    assert stored(partition)[0][2][HEADER_SIZE:] == batch[HEADER_SIZE:]
    assert in_log(partition) == [(0, "a"), (1, None), (2, "b")]


def test_what_came_before_leaves_a_hole() -> None:
    """Offsets, sequences and the end of the batch are as if it were there."""
    partition = Host(config=DEDUP).leader()
    put(partition, events(["a", "b"]))
    appended = put(partition, idempotent(["c", "a", "d", None, "b"], 0))
    assert (appended.answered_offset, appended.last_offset, appended.duplicate) == (2, 6, False)
    assert in_log(partition) == [(0, "a"), (1, "b"), (2, "c"), (4, "d"), (5, None)]
    last = headers(partition)[-1]
    assert (last.record_count, last.last_offset, last.last_sequence, last.max_timestamp) == (3, 6, 4, 1003)
    assert put(partition, idempotent(["e"], 5)).base_offset == 7
    assert partition.dedup is not None
    assert partition.dedup.dropped == 2


def test_an_event_may_come_twice_in_one_batch() -> None:
    partition = Host(config=DEDUP).leader()
    put(partition, events(["a", "a", "b", "a"]))
    assert in_log(partition) == [(0, "a"), (2, "b")]


def test_of_a_batch_of_which_nothing_is_left_nothing_is_stored() -> None:
    """It is safe when all originals are."""
    partition = Host(config=DEDUP).leader()
    put(partition, events(["a", "b", "c"]))
    again = put(partition, events(["b", "c", "a"]))
    assert (again.answered_offset, again.last_offset, again.duplicate, again.buffers) == (1, 2, True, [])
    assert partition.log_end_offset == 3


def test_an_idempotent_producer_leaves_an_empty_batch() -> None:
    """Its sequence goes on, here and after a restart; the answer is the first record's original."""
    host = Host(config=DEDUP)
    partition = host.leader()
    put(partition, events(["a", "b"]))
    again = put(partition, idempotent(["b", "a"], 0))
    assert (again.answered_offset, again.base_offset, again.last_offset, again.duplicate) == (1, 2, 3, False)
    assert headers(partition)[-1].record_count == 0
    host.flush(partition, sync_store=True)
    host.crash(power=True)
    partition = host.leader(leader_epoch=2)
    assert put(partition, idempotent(["c"], 2)).answered_offset == 4
    assert in_log(partition) == [(0, "a"), (1, "b"), (4, "c")]


def test_a_repeated_batch_is_answered_as_the_first_time() -> None:
    """Whether it was stored whole, in part, or nothing of it was."""
    partition = Host(config=DEDUP).leader()
    for sequence, ids in enumerate((["a"], ["b"], ["a"], ["c"])):
        put(partition, idempotent(ids, sequence))
    put(partition, idempotent(["d", "a", "e"], 4))
    for sequence, ids, answer in ((0, ["a"], 0), (2, ["a"], 0), (3, ["c"], 3), (4, ["d", "a", "e"], 4)):
        if sequence:  # five are remembered
            again = put(partition, idempotent(ids, sequence))
            assert (again.answered_offset, again.duplicate) == (answer, True)
            assert again.last_offset >= sequence, "its own header must be safe, too"
    assert partition.log_end_offset == 7


def test_records_without_an_id_and_those_of_transactions_are_never_dropped() -> None:
    """An aborted one must not swallow the one that replaces it."""
    partition = Host(config=DEDUP).leader()
    put(partition, events([None, "", None]))
    put(partition, events([None, "", None]))
    assert len(in_log(partition)) == 6
    batch = events(["x"], producer_id=5, producer_epoch=0, base_sequence=0, is_transactional=True)
    asked = partition.transaction_to_verify(batch)
    assert asked is not None
    partition.append(batch, acks=1, now=0.0, wall_ms=1000, guard=asked[1])
    put(partition, events(["x"]))
    assert [one for _, one in in_log(partition)].count("x") == 2


def test_it_ends_with_the_window() -> None:
    partition = Host(config=DEDUP).leader()
    put(partition, events(["a"]))
    assert put(partition, events(["a"]), wall_ms=1000 + HOUR_MS).duplicate
    assert not put(partition, events(["a"]), wall_ms=1001 + HOUR_MS).duplicate
    assert in_log(partition) == [(0, "a"), (1, "a")]


@pytest.mark.parametrize("wanted", ["producer", "uncompressed", "gzip", "zstd"])
@pytest.mark.parametrize("sent", list(Compression))
def test_every_compression_can_be_looked_into(sent: Compression, wanted: str) -> None:
    """And what is left is compressed as the topic wants it."""
    partition = Host(config=replace(DEDUP, compression_type=wanted)).leader()
    put(partition, events(["a"] + ["b"] * 3, compression=sent))
    put(partition, events(["c"], compression=sent))
    assert in_log(partition) == [(0, "a"), (1, "b"), (4, "c")]
    assert len({header.compression for header in headers(partition)}) == 1
    expected = (
        {"producer": sent, "uncompressed": Compression.NONE}.get(wanted) if wanted in ("producer", "uncompressed") else None
    )
    assert headers(partition)[0].compression == (Compression[wanted.upper()] if expected is None else expected)


def test_the_time_of_the_append_is_that_of_what_is_left() -> None:
    partition = Host(config=replace(DEDUP, message_timestamp_type="LogAppendTime")).leader()
    put(partition, events(["a"]))
    put(partition, idempotent(["b", "a"], 0), wall_ms=5000)
    put(partition, idempotent(["a"], 2), wall_ms=6000)
    assert [(header.max_timestamp, header.record_count) for header in headers(partition)] == [(1000, 1), (5000, 1), (6000, 0)]
    assert partition._log.active.max_timestamp == 5000, "nobody can find the time of an empty batch"


def test_what_cannot_be_read_is_refused() -> None:
    """Only where it may have ids, and only on such a topic."""
    batch = events(["a"])
    broken = changed(batch[:-1] + b"\x7f", base_offset=0)
    damaged = changed(batch[:-2] + b"\x04a", base_offset=0)
    partition = Host(config=DEDUP).leader()
    with pytest.raises(ClusterError) as refused:
        put(partition, damaged)
    assert refused.value.code is ErrorCode.invalid_record
    assert partition.log_end_offset == 0
    assert put(partition, broken).base_offset == 0, "another id, that is all"
    put(Host().leader(), damaged)


def test_it_costs_nothing_where_it_is_off() -> None:
    """No state, no key in the store, no look into a batch."""
    host = Host()
    partition = host.leader()
    put(partition, events(["a"]))
    put(partition, events(["a"]))
    assert partition.dedup is None
    assert partition.log_end_offset == 2
    partition.close()
    assert chunks(host) == []


# --- settings that change


def test_it_is_switched_on_and_off_while_the_log_is_open() -> None:
    """On: learns from then on. Off: forgets all, in the store, too."""
    host = Host()
    partition = host.leader()
    put(partition, events(["a"]))
    partition.apply_config(DEDUP)
    put(partition, events(["a"]))
    put(partition, events(["a"]))
    assert in_log(partition) == [(0, "a"), (1, "a")]
    partition._log.roll(1000)
    assert chunks(host) == [2]
    partition.apply_config(TINY)
    assert chunks(host) == []
    put(partition, events(["a"]))
    partition.apply_config(DEDUP)
    put(partition, events(["a"]))
    assert len(in_log(partition)) == 4
    partition.close()
    host.config = TINY
    assert host.open().dedup is None
    assert chunks(host) == [], "switched off while the node was down"


def test_the_room_is_bounded_and_what_goes_early_is_counted() -> None:
    host = Host(config=replace(DEDUP, quorumlog_dedup_ids_max=16))
    partition = host.leader()
    for number in range(100):
        put(partition, events([f"e{number}"]))
    assert partition.dedup is not None
    assert len(partition.dedup.ids) <= 16
    assert partition.dedup.ids.forgotten_early >= 84
    assert partition.dedup.forgotten_since_told() >= 84
    assert partition.dedup.forgotten_since_told() == 0
    assert put(partition, events(["e99"])).duplicate
    assert not put(partition, events(["e0"])).duplicate
    partition._log.roll(1000)
    assert len(chunks(host)) <= 16, "chunks that hold nothing any more go"


# --- restarts


def test_a_clean_restart_reads_no_segment_and_knows_all() -> None:
    """With the times at which it was learned."""
    host = Host(config=DEDUP)
    partition = host.leader()
    for number in range(60):
        put(partition, events([f"e{number}"]), wall_ms=1000 + number * 1000)
    before = remembered(partition)
    host.flush(partition)
    partition.close()
    partition = host.lead(host.open(wall_ms=70_000), leader_epoch=2)
    assert partition.recovery.clean
    assert remembered(partition) == before
    assert put(partition, events(["e30"]), wall_ms=31_000 + HOUR_MS).duplicate
    assert not put(partition, events(["e5"]), wall_ms=8_000 + HOUR_MS + HOUR_MS // 64).duplicate


def test_what_has_left_the_window_leaves_the_store() -> None:
    host = Host(config=DEDUP)
    partition = host.leader()
    put(partition, events(["a"]))
    partition._log.roll(1000)
    put(partition, events(["b"]), wall_ms=1000 + HOUR_MS)
    assert chunks(host) == [1]
    partition.apply_retention(2000 + HOUR_MS)
    partition._log.roll(2000 + HOUR_MS)
    assert chunks(host) == [2]


def test_an_id_goes_with_its_record_and_none_below_the_cut_does() -> None:
    """Cut in the middle of what a chunk holds, and crashed right behind the cut."""
    for seed in range(20):
        host = Host(seed, config=DEDUP)
        partition = host.leader()
        for number in range(30):
            put(partition, events([f"e{number}"]))
            if number % 10 == 9:
                host.flush(partition, sync_store=seed % 2 == 0)
        partition._log.roll(1000)
        partition._log.truncate(14, 1000)
        assert remembered(partition) == {hashed(b"e%d" % n): n for n in range(14)}
        host.crash(power=True)
        again = host.leader(leader_epoch=2)
        assert again.log_end_offset == 14
        assert remembered(again) == {hashed(b"e%d" % n): n for n in range(14)}
        assert not put(again, events(["e20"])).duplicate
        again.close()
        last = host.leader(leader_epoch=3)
        expected = {hashed(b"e%d" % n): n for n in range(14)} | {hashed(b"e20"): 14}
        assert remembered(last) == expected
        put(last, events([f"f{number}" for number in range(20)]))  # as far as the log had gone
        last.close()
        expected |= {hashed(b"f%d" % number): 15 + number for number in range(20)}
        assert remembered(host.leader(leader_epoch=4)) == expected


@pytest.mark.parametrize("power", [False, True])
def test_a_crash_before_any_step_leaves_the_ids_of_the_log_and_no_others(power: bool) -> None:
    """Of saving, syncing, cutting, expiring and closing; and once more on the way back."""
    step, is_over = 0, False
    while not is_over:
        host = Host(step, config=DEDUP)
        partition = host.leader()
        for number in range(20):
            put(partition, events([f"e{number}"]))
        host.flush(partition, sync_store=True)
        with crash_before(host, step) as done:
            try:
                saved_cut_and_closed(host, partition)
                is_over = len(done) < step
            except Crash:
                pass
        host.crash(power=power)
        with crash_before(host, step % 5), suppress(Crash):
            host.open()
        host.crash(power=power)
        again = host.leader(leader_epoch=3)
        assert again.damage is None
        assert remembered(again) == {hashed(str(one).encode()): offset for offset, one in in_log(again)}, step
        step += 1
    assert step > 25


def saved_cut_and_closed(host: Host, partition: Partition) -> None:
    partition._log.roll(1000)
    for number in range(20, 40):
        put(partition, events([f"e{number}", "e0"]))
    host.flush(partition)
    partition._log.roll(1000)
    partition._truncate(33)
    put(partition, events(["e39", "e1", "new"]))
    host.flush(partition)
    partition._log.roll(1000)
    partition.close()


def test_a_rebuilt_store_knows_the_ids_of_a_known_topic() -> None:
    """Without its settings nothing is learned: the command says so."""
    host = Host(config=DEDUP)
    partition = host.leader()
    put(partition, events(["a", "b"]))
    partition.close()
    rebuild(host.disk, host.store, wall_ms=1000, config=DEDUP)
    assert put(host.leader(leader_epoch=2), events(["b"])).answered_offset == 1


# --- everything at once


class Everything:
    """One replica that leads, and the list of what is in its log: of each record when it was learned at the earliest and the
    latest (who reads it again after a crash takes it for new).
    """

    def __init__(self, seed: int) -> None:
        self.host = Host(seed, config=replace(DEDUP, quorumlog_dedup_window_ms=1000))
        self.wall_ms = 10_000
        self.latest_ms = 0  # a clock that goes back over a restart does not bring back what has left the window
        self.epoch = self.era = 0
        self.sequences: dict[int, int] = {}
        self.learned: dict[int, tuple[int, int]] = {}
        self.known: list[tuple[int, str | None]] = []
        self.lead()

    def lead(self) -> None:
        self.epoch += 1
        self.partition = self.host.lead(self.host.open(wall_ms=self.wall_ms), leader_epoch=self.epoch)
        assert self.partition.dedup is not None
        self.now_ms = self.partition.dedup.ids.now_ms
        self.latest_ms = max(self.latest_ms, self.now_ms)

    def step(self, action: str, detail: int) -> None:
        match action:
            case "send" | "send idempotent":
                self.send(detail, is_idempotent=action != "send")
            case "tick":
                self.wall_ms += (1, 30, 200, 600, 1100, -300)[detail % 6]
            case "flush":
                self.host.flush(self.partition, sync_store=detail % 2 == 0)
            case "roll":
                self.partition._log.roll(self.wall_ms)
            case "crash":
                self.host.crash(power=detail % 2 == 0)
                self.lead()
                self.learned = {at: (min(first, self.now_ms), self.now_ms) for at, (first, _) in self.learned.items()}
            case "close":
                self.partition.close()
                self.host.store.sync()
                self.lead()
            case "cut":
                starts = [base for base, _, _ in stored(self.partition)] or [0]
                self.partition._truncate(starts[-1 - detail % min(4, len(starts))])
        if action in ("crash", "cut"):  # what came next may be gone: other producers go on
            self.known = in_log(self.partition)
            self.era += 1
            self.sequences.clear()

    def send(self, detail: int, *, is_idempotent: bool) -> None:
        ids = [f"e{(detail + n * (detail % 5)) % 9}" for n in range(1 + detail % 3)]
        producer = self.producer(detail % 2, len(ids)) if is_idempotent else {}
        self.now_ms = max(self.now_ms, self.wall_ms)
        self.latest_ms = max(self.latest_ms, self.now_ms)
        newest = {one: offset for offset, one in self.known}
        dropped = {one: at for one, at in newest.items() if self.latest_ms - self.learned[at][0] <= 1000}
        gone = {one for one, at in newest.items() if self.now_ms - self.learned[at][1] > 1016}
        base, count = self.partition.log_end_offset, len(self.known)
        batch = events(ids, compression=list(Compression)[detail % len(Compression)], **producer)
        answer = put(self.partition, batch, wall_ms=self.wall_ms)
        self.known = in_log(self.partition)
        fresh = self.known[count:]
        stored_now = [one for _, one in fresh]
        assert not set(stored_now) & dropped.keys(), "it was seen within the window"
        assert {one for one in ids if one in gone or one not in newest} <= set(stored_now), "swallowed"
        assert len(set(stored_now)) == len(stored_now)
        expected = base if fresh else newest[ids[0]]
        assert answer.answered_offset == expected
        assert answer.last_offset >= max(newest.get(one, -1) for one in ids)
        self.learned |= {offset: (self.now_ms, self.now_ms) for offset, _ in fresh}

    def producer(self, number: int, count: int) -> dict[str, int]:
        producer_id = number + self.era * 10
        sequence = self.sequences.get(producer_id, 0)
        self.sequences[producer_id] = sequence + count
        return {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence}

    def check(self) -> None:
        held = remembered(self.partition)
        assert max(held.values(), default=-1) < self.partition.log_end_offset, "an id without its record"
        there = {hashed(str(one).encode()): offset for offset, one in self.known}
        assert held.items() <= there.items()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send"] * 5 + ["send idempotent"] * 4 + ["tick"] * 3 + ["flush"] * 3 + ["roll", "crash", "close", "cut"]
        ),
        st.integers(0, 1000),
    ),
    min_size=15,
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(0, 100))
def test_no_event_is_there_twice_and_none_is_swallowed(steps: list[tuple[str, int]], seed: int) -> None:
    everything = Everything(seed)
    for action, detail in steps:
        everything.step(action, detail)
        everything.check()


class DedupTrio(Trio):
    """Producers send the same few events to whoever leads; who is acknowledged finds his event, once."""

    TOPIC = {"quorumlog_dedup_window_ms": HOUR_MS}  # noqa: RUF012

    def __init__(self, seed: int, **options) -> None:
        self.pending: list[tuple[Partition, int, str, Appended]] = []
        self.acknowledged: dict[str, int] = {}
        super().__init__(seed, **options)

    def produce(self, n: int) -> None:
        partition = self.nodes[n].partition
        if partition is None:
            return
        self.counter += 1
        ids = [f"e{self.rng.randrange(max(4, self.counter // 3))}" for _ in range(self.rng.choice([1, 1, 1, 3]))]
        producer = {}
        if self.rng.random() < 0.5:
            producer = {"producer_id": 100 + self.counter, "producer_epoch": 0, "base_sequence": 0}

        def send() -> None:
            appended = partition.append(events(ids, **producer), acks=-1, now=self.now, wall_ms=1000)
            if len(ids) == 1:
                self.pending.append((partition, partition.leader_epoch, ids[0], appended))

        self.allow(send)

    def check_node(self, n, node) -> None:
        super().check_node(n, node)
        partition = node.partition
        if partition.role is Role.LEADER:
            waiting = [one for one in self.pending if one[0] is partition]
            for one in waiting:
                _, epoch, event, appended = one
                if epoch != partition.leader_epoch:
                    self.pending.remove(one)
                elif partition.high_watermark > appended.last_offset:
                    self.pending.remove(one)
                    before = self.acknowledged.get(event, -1)
                    if before >= partition.log_start_offset:
                        assert before == appended.answered_offset
                    # A replica that began anew never saw what was deleted before: of that an event may come again.
                    self.acknowledged[event] = appended.answered_offset
        held = remembered(partition)
        there = {hashed(str(one).encode()): offset for offset, one in in_log(partition)}
        assert {one: offset for one, offset in held.items() if offset >= partition.log_start_offset} == {
            one: offset for one, offset in there.items() if offset >= partition.log_start_offset
        }
        assert max(held.values(), default=-1) < partition.log_end_offset

    def heal(self) -> None:
        super().heal()
        partition = self.nodes[1].partition
        assert partition is not None
        found = [(offset, one) for offset, one in in_log(partition) if offset >= partition.log_start_offset]
        assert len({one for _, one in found}) == len(found), "an event is there twice"
        for event, offset in self.acknowledged.items():
            assert offset < partition.log_start_offset or (offset, event) in found, (event, offset)


@pytest.mark.parametrize("seed", range(25))
def test_replicas_agree_on_which_events_were_seen(seed: int) -> None:
    """Through crashes, elections and truncations, with late answers and old leaders."""
    trio = run(seed, steps=200, kind=DedupTrio, min_insync_replicas=1 + seed % 2)
    assert isinstance(trio, DedupTrio)
