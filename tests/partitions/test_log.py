"""A log on one node: append, read, flush, crash, recover, against a list of batches."""

import random
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from quorumlog.host.ports import StorageError
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.flush import sync_together
from quorumlog.partitions.partition import Partition
from quorumlog.partitions.renewal import renew_unpromised
from quorumlog.partitions.segment import Segment
from quorumlog.wire.batches import HEADER_SIZE, read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.partitions.stage import SETTINGS, Host, batch_of, joined, send, stored
from tests.sim.disk import SimDisk


def test_appended_batches_are_read_back_as_they_were_stored() -> None:
    """Across many segments, from every offset, each read begins with the batch that holds the offset."""
    host = Host()
    partition = host.leader()
    bases = [send(partition, [b"x" * (i % 90), b"y"]) for i in range(60)]
    host.flush(partition)
    assert len(host.segment_names()) > 5
    assert partition.high_watermark == partition.log_end_offset == 120
    for offset in range(120):
        result = partition.read(offset, max_bytes=300)
        header = read_header(result.buffers[0])
        assert header.base_offset == bases[offset // 2]
        assert result.next_offset > offset
        assert result.size == sum(len(buffer) for buffer in result.buffers)


def test_first_batch_is_whole_even_if_it_exceeds_the_limit() -> None:
    """A reader always progresses."""
    host = Host()
    partition = host.leader()
    send(partition, [b"z" * 5000])
    send(partition, [b"z" * 5000])
    host.flush(partition)
    result = partition.read(0, max_bytes=1)
    assert result.next_offset == 1
    assert result.size > 5000
    assert partition.read(0, max_bytes=0).buffers == []


def test_consumers_see_nothing_above_the_high_watermark() -> None:
    """Unflushed records are there for followers only."""
    host = Host()
    partition = host.leader()
    send(partition, [b"a"])
    assert partition.read(0, max_bytes=1000).buffers == []
    assert partition.read(0, max_bytes=1000, up_to_end=True).size > 0
    host.flush(partition)
    assert partition.read(0, max_bytes=1000).size > 0
    with pytest.raises(ClusterError) as caught:
        partition.read(2, max_bytes=1000)
    assert caught.value.code is ErrorCode.offset_out_of_range


def test_clean_close_leaves_nothing_to_scan() -> None:
    """The next open believes the catalogue and reads no batch."""
    host = Host()
    partition = host.leader()
    for i in range(50):
        send(partition, [b"v%d" % i])
    before = stored(partition)
    partition.close()
    again = host.open()
    assert again.recovery.clean
    assert again.recovery.scanned_bytes == 0
    assert stored(again) == before
    assert again.high_watermark == 50


def test_lost_store_is_rebuilt_from_the_segments() -> None:
    """A node with an empty store opens its logs all the same."""
    host = Host()
    partition = host.leader()
    for i in range(80):
        send(partition, [b"v%d" % i], producer_id=5, base_sequence=i)
    before = stored(partition)
    partition.close()
    empty = Host(2)
    empty.disk = host.disk
    again = empty.lead(empty.open(), leader_epoch=2)
    assert again.damage is None
    assert again.recovery.batches == 80
    assert stored(again) == before
    assert again.append(batch_of([b"v79"], producer_id=5, base_sequence=79), acks=1, now=0, wall_ms=1000).duplicate
    assert empty.leader().recovery.log_end_offset == 80


def test_damage_below_the_checkpoint_is_reported_and_nothing_is_cut() -> None:
    """A rotten byte in synced data is no torn tail."""
    host = Host()
    partition = host.leader()
    for i in range(8):
        send(partition, [b"value %d" % i])
    host.flush(partition, sync_store=True)
    path = f"{host.directory}/{host.segment_names()[0]}"
    size = host.disk.open(path).size()
    host.crash(power=False)
    host.disk.corrupt(path, HEADER_SIZE + 3)
    again = host.leader(leader_epoch=2)
    assert again.damage is not None
    assert again.damage.offset == 0
    assert host.disk.open(path).size() == size
    with pytest.raises(ClusterError) as caught:
        send(again, [b"no"])
    assert caught.value.code is ErrorCode.kafka_storage_error


def test_damage_found_by_a_reader_is_never_served() -> None:
    """Sound batches before it are; then the reader is told, and the partition is marked."""
    host = Host()
    partition = host.leader()
    for i in range(4):
        send(partition, [b"value %d" % i])
    host.flush(partition)
    batch_bytes = partition.read(0, max_bytes=1).size
    host.disk.corrupt(f"{host.directory}/{host.segment_names()[0]}", 2 * batch_bytes + HEADER_SIZE + 2)
    result = partition.read(0, max_bytes=10_000)
    assert result.next_offset == 2
    with pytest.raises(ClusterError) as caught:
        partition.read(2, max_bytes=10_000)
    assert caught.value.code is ErrorCode.kafka_storage_error
    assert partition.damage is not None
    assert partition.damage.offset == 2


def test_missing_tail_below_the_checkpoint_is_damage() -> None:
    """A file that lost synced bytes is reported, also when what is left is sound."""
    host = Host()
    partition = host.leader()
    for i in range(4):
        send(partition, [b"value %d" % i])
    host.flush(partition, sync_store=True)
    host.crash(power=False)
    host.disk.open(f"{host.directory}/{host.segment_names()[0]}").truncate(10)
    again = host.open()
    assert again.damage is not None
    assert again.damage.offset == 0


@pytest.mark.parametrize("producers", [0, 1])
def test_what_was_saved_is_not_read_again_after_a_crash(producers: int) -> None:
    """Only the batches behind it are, and what they say of producers is known with the rest."""
    host = Host(config=TopicConfig(index_interval_bytes=100), settings=replace(SETTINGS, checkpoint_interval_bytes=1 << 20))
    partition = host.leader()

    def write(first: int, last: int) -> None:
        for number in range(first, last):
            send(partition, [b"x" * 300], **({"producer_id": 5, "base_sequence": number} if producers else {}))
        host.flush(partition)

    write(0, 50)
    partition.save_derived()
    write(50, 53)
    host.crash(power=False)
    again = host.open()
    assert again.log_end_offset == 53
    assert 3 <= again.recovery.batches <= 4  # from the last batch that the index knows
    known = [(producer_id, state.last_sequence) for producer_id, state in again.known_producers()]
    assert known == [(5, 52)] * producers


def test_name_of_a_segment_that_a_dead_process_made_is_synced() -> None:
    """Found by seed 22475: it rolled and died, the next one appended and synced, and the power went."""
    run(
        Host(22475),
        [("append", 3, 400), ("flush", False), ("roll",), ("crash", False), ("append", 2, 10), ("flush", True), ("crash", True)],
    )


class Twin:
    """A list of (base offset, bytes), and how much of it must survive."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        self.start = 0

    def cut(self, end: int) -> None:
        self.batches = [(base, data) for base, data in self.batches if base + read_header(data).record_count <= end]

    @property
    def end(self) -> int:
        return self.batches[-1][0] + read_header(self.batches[-1][1]).record_count if self.batches else self.start


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 400)),
        st.tuples(st.just("flush"), st.booleans()),
        st.tuples(st.just("begin flush")),
        st.tuples(st.just("end flush")),
        st.tuples(st.just("truncate"), st.integers(0, 30)),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("roll")),
        st.tuples(st.just("save")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("failing sync"), st.sampled_from(["flush", "truncate", "open"]), st.integers(0, 30), st.booleans()),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10_000), steps=STEPS)
def test_log_is_a_list_that_forgets_only_what_was_not_synced(seed: int, steps: list[tuple]) -> None:
    """Whatever is done, the log equals its twin; after a power cut it is a beginning of it that holds all that was flushed."""
    run(Host(seed), steps)


def run(host: Host, steps: list[tuple]) -> None:
    twin, epoch = Twin(), 1
    partition = host.leader(leader_epoch=epoch)
    flush = None
    for step in steps:
        match step:
            case ("append", count, size):
                base = send(partition, [b"e%d" % epoch + b"x" * size] * count)
                twin.batches.append((base, stored(partition, start=base)[0][2]))
            case ("flush", sync_store) if flush is None:
                host.flush(partition, sync_store=sync_store)
                assert partition.flushed_offset == partition.log_end_offset
            case ("begin flush",) if flush is None:
                flush = partition.begin_flush()
                if flush is not None:
                    sync_together([flush])
            case ("end flush",) if flush is not None:
                flush = end_flush(host, partition, flush)
            case ("truncate", back):
                target = max(partition.log_start_offset, partition.log_end_offset - back)
                partition._truncate(target)
                assert partition.log_end_offset <= target
                assert partition.flushed_offset <= partition.log_end_offset
                twin.cut(partition.log_end_offset)
            case ("delete", count):
                offset = min(partition.log_start_offset + count, partition.high_watermark)
                partition.delete_records(offset)
                twin.start = partition.log_start_offset
            case ("roll",) if partition._log.active.size:
                partition._log.roll(2000)
            case ("save",):
                partition.save_derived()
            case ("reopen",) if flush is None:
                partition.close()
                partition = host.open()
                assert partition.recovery.clean, partition.recovery
                epoch += 1
                host.lead(partition, leader_epoch=epoch)
            case ("failing sync", where, back, power):
                flush = None
                flushed = min(partition.flushed_offset, fail_sync(host, partition, where, back))
                host.crash(power=power)
                renew_unpromised(host.disk, host.store)
                partition = host.open()
                assert partition.damage is None, partition.damage
                assert partition.log_end_offset >= flushed
                twin.cut(partition.log_end_offset)
                twin.start = partition.log_start_offset
                epoch += 1
                host.lead(partition, leader_epoch=epoch)
            case ("crash", power):
                flush = None
                flushed = partition.flushed_offset
                host.crash(power=power)
                partition = host.open()
                assert partition.damage is None, partition.damage
                assert partition.log_end_offset >= flushed
                if not power:
                    assert partition.log_end_offset == max(twin.end, twin.start)
                twin.cut(partition.log_end_offset)
                twin.start = partition.log_start_offset
                epoch += 1
                host.lead(partition, leader_epoch=epoch)
        check(partition, twin)


def fail_sync(host: Host, partition: Partition, where: str, back: int) -> int:
    """Let the process meet a failing sync, if it has anything to sync; what the log's end may not fall below then."""
    if where == "open":
        host.crash(power=False)
    kept = max(partition.log_start_offset, partition.log_end_offset - back) if where == "truncate" else partition.log_end_offset
    host.disk.fail_next("sync", path=host.directory + "/" * (back % 2))  # of a segment, or of their directory
    try:
        match where:
            case "flush":
                host.flush(partition)
            case "truncate":
                partition._truncate(kept)
            case _:
                renew_unpromised(host.disk, host.store)
                host.open()
    except StorageError:
        pass
    return kept - 2 if where == "truncate" else kept  # a cut goes before the batch of up to three records that holds it


def end_flush(host: Host, partition: Partition, flush) -> None:
    from quorumlog.host.ports import WriteBatch

    batch = WriteBatch()
    flush.checkpoint(batch)
    host.store.write(batch)
    partition.end_flush(flush)


def check(partition: Partition, twin: Twin) -> None:
    visible = [(base, data) for base, data in twin.batches if base + read_header(data).record_count > twin.start]
    assert [(base, data) for base, _, data in stored(partition)] == visible
    for base, data in visible[-3:]:
        result = partition.read(max(base, partition.log_start_offset), max_bytes=1, up_to_end=True)
        assert joined(result.buffers) == data


def test_nothing_is_appended_behind_an_append_that_failed() -> None:
    """A part of it may be there: what came behind would not be found where it is looked for (simulator, seed 409)."""
    disk = SimDisk(random.Random(1))
    disk.make_directory("d")
    segment = Segment(disk, "d", 0, created_ms=0)
    disk.fail_next("append")
    for _ in range(2):
        with pytest.raises(StorageError, match="append"):
            segment.append([b"x" * 100], size=100, next_offset=1, max_timestamp=0)
    assert segment.size == 0
