"""One partition's promises to clients, followers and the flusher."""

import errno
from dataclasses import replace

import pytest
from kafka.record.memory_records import MemoryRecords

from quorumlog.metadata.image import NO_LEADER
from quorumlog.partitions.flush import sync_together
from quorumlog.partitions.partition import Diverging, OutOfRange, Partition, PartitionSettings, Position, Role
from quorumlog.partitions.rebuild import rebuild
from quorumlog.partitions.scan import DamagedBatch
from quorumlog.wire.batches import HEADER_SIZE
from quorumlog.wire.compression import Compression
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.records import Record, build_batch, sealed
from tests.partitions.stage import TINY, TOPIC_ID, Host, batch_of, changed, joined, send, state_of, stored


def refused(action, *args, **options) -> ErrorCode:
    with pytest.raises(ClusterError) as caught:
        action(*args, **options)
    return caught.value.code


def append(partition: Partition, batch: bytes, acks: int = 1):
    return partition.append(batch, acks=acks, now=0.0, wall_ms=1000)


GOOD = batch_of([b"a", b"b"])


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (GOOD[:-1], ErrorCode.invalid_record),
        (GOOD + GOOD, ErrorCode.invalid_record),
        (GOOD[:40], ErrorCode.invalid_record),
        (GOOD[:-1] + b"!", ErrorCode.corrupt_message),
        (GOOD[:16] + b"\x01" + GOOD[17:], ErrorCode.unsupported_for_message_format),
        (changed(GOOD, record_count=3), ErrorCode.invalid_record),
        (changed(GOOD, record_count=0, last_offset_delta=0), ErrorCode.invalid_record),
        (changed(GOOD, record_count=1000, last_offset_delta=999), ErrorCode.invalid_record),
        (changed(GOOD, attributes=0x20), ErrorCode.invalid_record),
        (changed(GOOD, attributes=0x10), ErrorCode.invalid_record),
        (changed(GOOD, attributes=0x10, producer_id=5, producer_epoch=0, base_sequence=0), ErrorCode.invalid_txn_state),
        (changed(GOOD, attributes=0x08), ErrorCode.invalid_timestamp),
        (changed(GOOD, attributes=5), ErrorCode.invalid_record),
        (changed(GOOD, max_timestamp=-2), ErrorCode.invalid_timestamp),
        (changed(GOOD, producer_id=5, base_sequence=-1), ErrorCode.invalid_record),
        (batch_of([b"x" * 2_000_000]), ErrorCode.message_too_large),
        (b"", ErrorCode.invalid_record),
    ],
)
def test_bad_batches_are_refused_by_name_and_leave_no_trace(batch: bytes, code: ErrorCode) -> None:
    """Each fault has the code that Kafka gives it."""
    partition = Host().leader()
    assert refused(append, partition, batch) is code
    assert partition.log_end_offset == 0


def test_lz4_that_stops_consumers_of_kafka_is_refused() -> None:
    """They read no frame whose blocks depend on each other."""
    partition = Host().leader()
    batch = build_batch([Record(offset=0, timestamp=1000, value=b"a")], compression=Compression.LZ4)
    flags = HEADER_SIZE + 4
    assert append(partition, batch).base_offset == 0
    dependent = sealed(batch[:flags] + bytes([batch[flags] & ~(1 << 5)]) + batch[flags + 1 :])
    assert refused(append, partition, dependent) is ErrorCode.invalid_record


def test_only_a_leader_of_the_right_epoch_serves() -> None:
    """Followers and replicas without a leader refuse; stale and future epochs are told apart."""
    host = Host()
    partition = host.open()
    assert refused(append, partition, GOOD) is ErrorCode.not_leader_or_follower
    host.lead(partition, leader_epoch=5)
    assert refused(partition.read, 0, max_bytes=1, current_leader_epoch=4) is ErrorCode.fenced_leader_epoch
    assert refused(partition.read, 0, max_bytes=1, current_leader_epoch=6) is ErrorCode.unknown_leader_epoch
    partition.apply_state(state_of(leader=NO_LEADER, leader_epoch=5, partition_epoch=9), 0.0)
    assert partition.role is Role.OFFLINE
    assert refused(partition.read, 0, max_bytes=1) is ErrorCode.not_leader_or_follower


def test_older_metadata_changes_nothing() -> None:
    """It may arrive late."""
    partition = Host().leader(leader_epoch=5)
    assert not partition.apply_state(state_of(leader=2, leader_epoch=4, partition_epoch=-1), 0.0)
    assert partition.role is Role.LEADER


def test_produce_with_all_acks_needs_enough_replicas() -> None:
    """Before anything is appended."""
    host = Host(config=replace(TINY, min_insync_replicas=2))
    partition = host.open()
    partition.apply_state(state_of(leader=1, leader_epoch=1, partition_epoch=1, isr=(1,), replicas=(1, 2, 3)), 0.0)
    assert refused(append, partition, GOOD, acks=-1) is ErrorCode.not_enough_replicas
    assert append(partition, GOOD, acks=1).base_offset == 0


def test_log_append_time_replaces_the_producers() -> None:
    """The batch gets a new CRC, and its records are those that came."""
    host = Host(config=replace(TINY, message_timestamp_type="LogAppendTime"))
    partition = host.leader()
    answer = partition.append(GOOD, acks=1, now=0.0, wall_ms=555_000)
    assert answer.log_append_time_ms == 555_000
    host.flush(partition)
    batch = MemoryRecords(joined(partition.read(0, max_bytes=1000).buffers)).next_batch()
    assert batch.validate_crc()
    assert [(record.timestamp, record.value) for record in batch] == [(555_000, b"a"), (555_000, b"b")]
    assert partition.offset_for_timestamp(555_000) == (0, 555_000, 1)


def test_segment_files_parse_with_another_reader() -> None:
    """kafka-python reads every batch of every segment file."""
    host = Host()
    partition = host.leader()
    for i in range(60):
        records = [Record(offset=j, timestamp=i, key=b"k", value=b"value %d" % i) for j in range(3)]
        append(partition, build_batch(records, compression=Compression(i % 2)))
    values = []
    for name in host.segment_names():
        batches = MemoryRecords(host.disk.read_file(f"{host.directory}/{name}"))
        while batches.has_next():
            batch = batches.next_batch()
            assert batch.validate_crc()
            values += [(record.offset, record.value) for record in batch]
    assert values == [(i, b"value %d" % (i // 3)) for i in range(180)]


def test_timestamps_are_found_exactly() -> None:
    """Against a list of all records, with times out of order, across segments, in compressed batches."""
    host = Host()
    partition = host.leader()
    times = [(i * 37) % 101 + i for i in range(90)]
    for i in range(0, 90, 3):
        records = [Record(offset=j, timestamp=times[i + j], value=b"v" * (i % 50)) for j in range(3)]
        append(partition, build_batch(records, compression=Compression(i % 5)))
    host.flush(partition)
    for wanted in range(-1, 200):
        first = next(((i, t) for i, t in enumerate(times) if t >= wanted), None)
        found = partition.offset_for_timestamp(wanted)
        assert found == (None if first is None else (*first, 1))
    assert partition.max_timestamp() == (max(times), times.index(max(times)))


def test_timestamps_of_uncommitted_records_are_not_shown() -> None:
    """They could still go."""
    partition = Host().leader()
    append(partition, GOOD)
    assert partition.offset_for_timestamp(0) is None
    assert partition.max_timestamp() == (-1, -1)


def test_truncation_during_a_flush_limits_what_it_proves() -> None:
    """The flush synced bytes that were cut and written anew meanwhile: the new ones are not durable yet."""
    host = Host()
    partition = host.leader()
    for i in range(6):
        send(partition, [b"old %d" % i])
    flush = partition.begin_flush()
    assert flush is not None
    sync_together([flush])
    partition._truncate(2)
    for i in range(6):
        send(partition, [b"new %d" % i])
    partition.end_flush(flush)
    assert partition.flushed_offset == 2
    assert partition.dirty


def test_retention_by_size_and_by_time_stays_below_the_high_watermark() -> None:
    """Whole segments go, oldest first; what is not committed stays."""
    host = Host(config=replace(TINY, retention_bytes=3000, retention_ms=50_000))
    partition = host.leader()
    for i in range(40):
        send(partition, [b"x" * 200], timestamp=i * 1000)
    assert partition.apply_retention(0) == 0
    host.flush(partition)
    assert partition.apply_retention(40_000) > 0
    assert 3000 <= partition.size < 3000 + TINY.segment_bytes + 300
    first = partition.log_start_offset
    assert partition.apply_retention(40_000) == 0
    assert stored(partition)[0][0] == first > 0
    assert partition.apply_retention(200_000) > 0
    assert partition.log_start_offset == partition.log_end_offset == 40
    assert send(partition, [b"next"]) == 40
    assert refused(partition.read, first, max_bytes=100) is ErrorCode.offset_out_of_range


def test_segment_whose_records_were_all_deleted_goes_once_it_is_rolled() -> None:
    """The start had reached the end of the active segment already (a follower hears of it from its leader): no rise will come
    that takes the file along."""
    host = Host(config=replace(TINY, retention_ms=50_000))
    partition = host.leader()
    send(partition, [b"x" * 200])
    host.flush(partition)
    assert partition.delete_records(-1) == partition.log_end_offset == 1
    assert partition.apply_retention(200_000) == 1
    assert host.segment_names() == ["00000000000000000001.log"]
    assert partition.apply_retention(200_000) == 0


def test_old_active_segment_is_rolled() -> None:
    """So that retention can reach it."""
    host = Host(config=replace(TINY, segment_ms=5000))
    partition = host.leader()
    send(partition, [b"a"], wall_ms=1000)
    partition.roll_if_old(5000)
    assert partition.segment_count == 1
    partition.roll_if_old(6000)
    assert partition.segment_count == 2
    partition.roll_if_old(60_000)
    assert partition.segment_count == 2


def test_deleted_records_stay_deleted() -> None:
    """Also after a restart; -1 means all that is committed, and no more can go."""
    host = Host()
    partition = host.leader()
    for i in range(30):
        send(partition, [b"x%d" % i, b"y"])
    host.flush(partition)
    assert partition.delete_records(31) == 31
    assert refused(partition.delete_records, 61) is ErrorCode.offset_out_of_range
    partition.close()
    again = host.leader(leader_epoch=2)
    assert again.log_start_offset == 31
    assert refused(again.read, 30, max_bytes=10) is ErrorCode.offset_out_of_range
    assert again.read(31, max_bytes=10).next_offset == 32
    assert again.delete_records(-1) == 60


def test_delete_leaves_neither_file_nor_key() -> None:
    """A topic made again under the same name has another id, and would find nothing anyway."""
    host = Host()
    partition = host.leader()
    for i in range(30):
        send(partition, [b"x%d" % i])
    host.flush(partition)
    partition.delete()
    assert not host.disk.exists(host.directory)
    assert list(host.store.scan(b"", b"\xff")) == []
    assert host.leader().log_end_offset == 0


def test_flush_policy_of_the_operating_system_acknowledges_at_once() -> None:
    """Written is flushed; the disk is synced now and then, for the checkpoint."""
    host = Host(settings=PartitionSettings(fsync=False, checkpoint_interval_bytes=1000))
    partition = host.leader()
    host.flush(partition)
    send(partition, [b"a"])
    assert partition.high_watermark == 1
    assert not partition.dirty
    send(partition, [b"a" * 2000])
    assert partition.dirty
    host.flush(partition)
    assert not partition.dirty


def followed(host: Host, *, leader_epoch: int = 1, partition_epoch: int = 1) -> Partition:
    partition = host.open()
    follow(partition, leader_epoch=leader_epoch, partition_epoch=partition_epoch)
    return partition


def follow(partition: Partition, *, leader_epoch: int, partition_epoch: int) -> None:
    state = state_of(leader=1, leader_epoch=leader_epoch, partition_epoch=partition_epoch, isr=(1,), replicas=(1, 2))
    partition.apply_state(state, 0.0)


def leading(host: Host) -> Partition:
    partition = host.open()
    partition.apply_state(state_of(leader=1, leader_epoch=1, partition_epoch=1, isr=(1,), replicas=(1, 2)), 0.0)
    return partition


def fetch(follower: Partition, leader: Partition, *, max_bytes: int = 1 << 20) -> None:
    result = leader.read(follower.position().fetch_offset, max_bytes=max_bytes, up_to_end=True)
    follower.apply_fetched(
        leader.leader_epoch,
        joined(result.buffers),
        high_watermark=result.high_watermark,
        log_start_offset=result.log_start_offset,
        wall_ms=1000,
    )


def test_follower_stores_the_leaders_bytes() -> None:
    """In segments of its own, with the watermark and the log start it was told."""
    host, other = Host(), Host(node_id=2)
    leader, follower = leading(host), followed(other)
    for i in range(50):
        send(leader, [b"x%d" % i])
    host.flush(leader)
    leader.delete_records(7)
    assert leader.on_follower_position(2, Position(1, 0, 0, -1), 0.0) == OutOfRange(7)
    follower.reset_to(1, 7)
    assert leader.on_follower_position(2, follower.position(), 0.0) is None
    while follower.log_end_offset < 50:
        fetch(follower, leader, max_bytes=500)
    assert stored(follower) == stored(leader)
    assert (follower.high_watermark, follower.log_start_offset) == (50, 7)
    assert follower.segment_count > 3


def test_follower_takes_a_batch_that_holds_the_log_start() -> None:
    """Records were deleted up to the middle of a batch, and the follower starts there."""
    host, other = Host(), Host(node_id=2)
    leader, follower = leading(host), followed(other)
    send(leader, [b"a", b"b", b"c"])
    host.flush(leader)
    leader.delete_records(2)
    follower.reset_to(1, 2)
    fetch(follower, leader)
    assert (follower.log_start_offset, follower.log_end_offset) == (2, 3)
    other.flush(follower)
    follower.close()
    again = other.open()
    assert again.damage is None
    assert (again.log_start_offset, again.log_end_offset) == (2, 3)


@pytest.mark.parametrize("fault", ["gap", "crc", "epoch falls", "epoch of the future", "cut"])
def test_follower_refuses_what_does_not_follow_on(fault: str) -> None:
    """And appends nothing of it."""
    follower = followed(Host(node_id=2), leader_epoch=3)
    good = changed(GOOD, base_offset=0, leader_epoch=3)
    follower.apply_fetched(3, good, high_watermark=0, log_start_offset=0, wall_ms=1000)
    following = changed(GOOD, base_offset=2, leader_epoch=3)
    bad = {
        "gap": changed(GOOD, base_offset=3, leader_epoch=3),
        "crc": following[:-1] + b"!",
        "epoch falls": changed(GOOD, base_offset=2, leader_epoch=2),
        "epoch of the future": changed(GOOD, base_offset=2, leader_epoch=4),
        "cut": following + following[:30],
    }[fault]
    code = refused(follower.apply_fetched, 3, bad, high_watermark=0, log_start_offset=0, wall_ms=1000)
    assert code is ErrorCode.corrupt_message
    assert follower.log_end_offset == 2


def test_follower_of_another_epoch_is_fenced() -> None:
    """Data, cuts and positions of other epochs are refused on both sides."""
    follower = followed(Host(node_id=2), leader_epoch=3)
    for epoch, code in ((2, ErrorCode.fenced_leader_epoch), (4, ErrorCode.unknown_leader_epoch)):
        assert refused(follower.apply_fetched, epoch, b"", high_watermark=0, log_start_offset=0, wall_ms=0) is code
        assert refused(follower.on_diverging, epoch, Diverging(1, 0)) is code
        assert refused(follower.reset_to, epoch, 0) is code
    leader = leading(Host())
    assert refused(leader.on_follower_position, 2, Position(0, 0, 0, -1), 0.0) is ErrorCode.fenced_leader_epoch
    assert refused(leader.on_follower_position, 2, Position(2, 0, 0, -1), 0.0) is ErrorCode.unknown_leader_epoch
    assert refused(leader.on_follower_position, 9, Position(1, 0, 0, -1), 0.0) is ErrorCode.replica_not_available


def test_diverging_follower_cuts_to_match_and_not_twice() -> None:
    """A late answer to an older position must not cut what this leader has sent since."""
    other = Host(node_id=2)
    follower = followed(other, leader_epoch=1)
    for offset in (0, 2, 4):
        follower.apply_fetched(
            1, changed(GOOD, base_offset=offset, leader_epoch=1), high_watermark=2, log_start_offset=0, wall_ms=1000
        )
    follow(follower, leader_epoch=2, partition_epoch=2)
    follower.on_diverging(2, Diverging(1, 2))
    assert follower.log_end_offset == 2
    follower.apply_fetched(2, changed(GOOD, base_offset=2, leader_epoch=2), high_watermark=2, log_start_offset=0, wall_ms=1000)
    follower.on_diverging(2, Diverging(1, 2))
    assert follower.log_end_offset == 4
    assert follower.position() == Position(2, 4, 0, 2)


def test_cut_below_the_high_watermark_is_damage() -> None:
    """A leader that lacks committed records must not take them from us."""
    follower = followed(Host(node_id=2), leader_epoch=1)
    follower.apply_fetched(1, changed(GOOD, leader_epoch=1), high_watermark=2, log_start_offset=0, wall_ms=1000)
    follow(follower, leader_epoch=2, partition_epoch=2)
    assert refused(follower.on_diverging, 2, Diverging(-1, 0)) is ErrorCode.kafka_storage_error
    assert follower.log_end_offset == 2
    assert follower.damage is not None


def test_reader_learns_where_the_log_parted() -> None:
    """Truncation detection as in KIP-595, and the ends of epochs as in KIP-101."""
    host = Host()
    partition = host.leader(leader_epoch=1)
    send(partition, [b"a", b"b"])
    host.lead(partition, leader_epoch=4)
    send(partition, [b"c"])
    host.flush(partition)
    assert partition.read(3, max_bytes=100, last_fetched_epoch=1).diverging == Diverging(1, 2)
    assert partition.read(3, max_bytes=100, last_fetched_epoch=3).diverging == Diverging(1, 2)
    assert partition.read(2, max_bytes=100, last_fetched_epoch=1).diverging is None
    assert partition.offset_for_leader_epoch(1) == (1, 2)
    assert partition.offset_for_leader_epoch(3) == (1, 2)
    assert partition.offset_for_leader_epoch(4) == (4, 3)
    assert partition.offset_for_leader_epoch(5) == (-1, -1)


def test_damaged_follower_is_cut_and_fetched_again() -> None:
    """After it left the in-sync set; until then it serves and counts for nothing."""
    host, other = Host(), Host(node_id=2)
    leader, follower = leading(host), followed(other)
    for i in range(40):
        send(leader, [b"x%d" % i])
    host.flush(leader)
    fetch(follower, leader)
    other.flush(follower)
    follower.close()
    path = f"{other.directory}/{other.segment_names()[1]}"
    other.disk.corrupt(path, 70)
    last = f"{other.directory}/{other.segment_names()[-1]}"
    other.disk.open(last).append([b"rubbish"])
    other.store.write(forget_catalogue(other))
    again = followed(other, leader_epoch=1)
    assert again.damage is not None
    assert refused(again.apply_fetched, 1, b"", high_watermark=0, log_start_offset=0, wall_ms=0) is ErrorCode.kafka_storage_error
    again.repair_damage()
    assert again.damage is None
    assert leader.on_follower_position(2, again.position(), 0.0) is None
    fetch(again, leader)
    other.flush(again)
    assert stored(again) == stored(leader)
    again.close()
    assert other.open().recovery.clean


@pytest.mark.parametrize("rotten", [7, 10, 11, 16, 20, 62])
def test_a_batch_that_rots_under_a_follower_is_cut_whichever_byte_it_is(rotten: int) -> None:
    """A rotten length makes the next batch look damaged, not this one (simulator, seed 9): the cut goes before this one."""
    host, other = Host(), Host(node_id=2)
    leader, follower = leading(host), followed(other)
    for i in range(12):
        send(leader, [b"x%d" % i])
    host.flush(leader)
    fetch(follower, leader)
    other.flush(follower)
    segment, found = next(follower._log.walk_from(1))
    other.disk.corrupt(segment.path, found.position + rotten)
    with pytest.raises(DamagedBatch) as bad:
        list(follower._log.walk_from(0, verify=rotten > 11))
    follower._damaged(bad.value)
    follower.repair_damage()
    assert follower.log_end_offset == found.header.base_offset


def test_bytes_that_cannot_be_read_are_damage_and_stop_nothing_else() -> None:
    """A bad sector makes this replica incomplete, to be fetched again from another; it is no reason to stop the node."""
    host = Host()
    leader = leading(host)
    append(leader, GOOD)
    host.flush(leader)
    host.disk.fail_next("read", errno.EIO)
    assert refused(leader.read, 0, max_bytes=1000, up_to_end=True) is ErrorCode.kafka_storage_error
    assert leader.damage is not None
    assert leader.damage.offset == 0


def forget_catalogue(host: Host):
    """As if the checkpointed snapshot were older: recovery has to read from the first segment."""
    from quorumlog.host.ports import WriteBatch
    from quorumlog.partitions.keys import Keys

    keys, batch = Keys(TOPIC_ID, 0), WriteBatch()
    batch.delete_range(keys.segment(0), keys.end_of(b"s"))
    batch.delete_range(keys.producers(0), keys.end_of(b"p"))
    return batch


def test_rebuild_makes_the_same_store_from_the_files() -> None:
    """Index, epochs, producers and catalogue answer as before, and the next start is a clean one."""
    host = Host()
    partition = host.leader()
    for i in range(100):
        send(partition, [b"x%d" % i], timestamp=1000 + i, producer_id=3, base_sequence=i)
    before = stored(partition)
    partition.close()
    told: list[object] = []
    done = rebuild(host.disk, host.store, wall_ms=1000, config=TINY, progress=told.append)
    assert told == done
    assert [(r.topic_id, r.partition, r.report.log_end_offset) for r in done] == [(TOPIC_ID, 0, 100)]
    again = host.leader(leader_epoch=2)
    assert again.recovery.clean
    assert stored(again) == before
    assert again.offset_for_timestamp(1050) == (50, 1050, 1)
    assert append(again, batch_of([b"x99"], producer_id=3, base_sequence=99)).duplicate


def test_long_topic_names_fit_into_a_file_name() -> None:
    """Kafka allows 249 characters, a file system 255 bytes."""
    from quorumlog.partitions.log import directory_name, parse_directory_name
    from quorumlog.wire.ids import TopicPartition

    name = directory_name(TopicPartition("t" * 249, 123456), TOPIC_ID).removeprefix("logs/")
    assert len(name) <= 255
    parsed = parse_directory_name(name)
    assert parsed is not None
    assert (parsed[0].partition, parsed[1]) == (123456, TOPIC_ID)
    assert parse_directory_name("lost+found") is None


@pytest.mark.parametrize("fault", ["no segments", "first segment gone", "middle segment gone", "tail cut"])
def test_missing_files_are_damage_that_can_be_repaired(fault: str) -> None:
    """What was synced and is gone is reported, cut off, fetched again, and then forgotten."""
    host, other = Host(), Host(node_id=2)
    leader, follower = leading(host), followed(other)
    for i in range(40):
        send(leader, [b"x%d" % i])
    host.flush(leader)
    fetch(follower, leader)
    other.flush(follower)
    follower.close()
    names = other.segment_names()
    gone = {"no segments": names, "first segment gone": names[:1], "middle segment gone": names[1:2], "tail cut": []}[fault]
    for name in gone:
        other.disk.delete(f"{other.directory}/{name}")
    if fault == "tail cut":
        other.disk.open(f"{other.directory}/{names[-1]}").truncate(50)
    again = followed(other)
    assert again.damage is not None
    assert again.log_end_offset < 40
    again.repair_damage()
    while again.log_end_offset < 40:
        fetch(again, leader)
    other.flush(again)
    assert stored(again) == stored(leader)
    other.crash(power=True)
    once_more = other.open()
    assert once_more.damage is None
    assert stored(once_more) == stored(leader)


def test_lost_store_and_rotten_middle_is_damage_not_a_torn_tail() -> None:
    """Without a checkpoint, sound batches behind a bad one tell the two apart."""
    host = Host()
    partition = host.leader()
    for i in range(8):
        send(partition, [b"value %d" % i])
    host.flush(partition)
    size = partition.read(0, max_bytes=1).size
    path = f"{host.directory}/{host.segment_names()[0]}"
    empty = Host(2)
    empty.disk = host.disk
    host.disk.corrupt(path, 3 * size + 65)
    again = empty.open()
    assert again.damage is not None
    assert again.damage.offset == 3


def test_a_repeat_is_known_of_the_batch_in_which_the_log_starts() -> None:
    """Read again after a crash, or a cut, without a snapshot of the producers."""
    host = Host()
    partition = host.leader()
    for sequence in (0, 3):
        send(partition, [b"a", b"b", b"c"], producer_id=5, base_sequence=sequence)
    host.flush(partition)
    partition.delete_records(2)
    repeated = batch_of([b"a", b"b", b"c"], producer_id=5, base_sequence=0)
    partition._truncate(3)
    assert partition.append(repeated, acks=1, now=0.0, wall_ms=1000).duplicate
    host.flush(partition, sync_store=True)
    host.crash(power=False)
    partition = host.leader(leader_epoch=2)
    assert partition.log_start_offset == 2
    assert partition.append(repeated, acks=1, now=0.0, wall_ms=1000).duplicate
