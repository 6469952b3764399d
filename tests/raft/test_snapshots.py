"""Snapshots: nothing damaged is believed, and a transfer is bounded and ends."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.raft.errors import Fatal
from quorumlog.raft.messages import Envelope, SnapshotChunk, encode
from quorumlog.raft.snapshots import (
    Snapshot,
    SnapshotReceiver,
    SnapshotSender,
    SnapshotStore,
    encode_snapshot,
    parse_snapshot,
)
from tests.raft.cluster import Cluster
from tests.sim.disk import SimDisk

BODY = bytes(range(256)) * 3


def store_with(body: bytes = BODY, index: int = 7) -> tuple[SimDisk, SnapshotStore]:
    disk = SimDisk(random.Random(1))
    store = SnapshotStore(disk)
    store.save(Snapshot(index, 2, body))
    return disk, store


@given(place=st.integers(0), bit=st.integers(0, 7), body=st.binary(max_size=60))
def test_a_flipped_bit_is_found(place: int, bit: int, body: bytes) -> None:
    """Index and term are under the checksum as the body is."""
    blob = bytearray(encode_snapshot(Snapshot(7, 2, body)))
    assert parse_snapshot(bytes(blob)) == Snapshot(7, 2, body)
    blob[place % len(blob)] ^= 1 << bit
    with pytest.raises(ValueError):
        parse_snapshot(bytes(blob))


@given(size=st.integers(0, 40))
def test_a_cut_file_is_found(size: int) -> None:
    """No prefix of a snapshot passes for one."""
    with pytest.raises(ValueError):
        parse_snapshot(encode_snapshot(Snapshot(7, 2, b"0123456789"))[:size])


def test_what_is_saved_survives_a_power_cut_and_damage_is_fatal() -> None:
    """Saved means durable; a damaged file stops the node, for the log before it is gone."""
    disk, store = store_with()
    assert store.durable_index == 7
    disk.crash(power=True)
    assert SnapshotStore(disk).load() == Snapshot(7, 2, BODY)
    disk.corrupt("raft/snapshot", 50)
    with pytest.raises(Fatal, match="raft/snapshot"):
        SnapshotStore(disk).load()


def test_a_failing_disk_is_fatal() -> None:
    """A snapshot that could not be written does not count."""
    disk, store = store_with()
    disk.fail_next("sync")
    with pytest.raises(Fatal):
        store.save(Snapshot(9, 2, BODY))
    assert store.durable_index == 7


def test_a_transfer_keeps_its_window_and_arrives_whole() -> None:
    """Never more chunks under way than allowed, and what arrives is what was sent."""
    _, store = store_with()
    sender, receiver = SnapshotSender(store, chunk_bytes=100, chunks_in_flight=2, stall_s=0.5), SnapshotReceiver()
    blob = None
    for _ in range(20):
        chunks = []
        while (chunk := sender.next_chunk(2, now=1.0)) is not None:
            chunks.append(chunk)
        assert len(chunks) <= 2
        for chunk in chunks:
            blob = receiver.on_chunk(1, 5, chunk)
            sender.on_acknowledged(2, *receiver.progress, now=1.0)
        if blob is not None:
            break
    assert blob is not None and parse_snapshot(blob) == Snapshot(7, 2, BODY)


def test_a_stalled_transfer_begins_again() -> None:
    """A chunk that got lost does not hang the follower for ever."""
    _, store = store_with()
    sender = SnapshotSender(store, chunk_bytes=100, chunks_in_flight=1, stall_s=0.5)
    first = sender.next_chunk(2, now=1.0)
    assert sender.next_chunk(2, now=1.4) is None
    assert sender.next_chunk(2, now=1.6) == first


def test_chunks_out_of_order_or_of_another_leader_are_ignored() -> None:
    """A snapshot is put together from one leader's chunks in one term, in order."""
    _, store = store_with()
    sender, receiver = SnapshotSender(store, chunk_bytes=100, chunks_in_flight=9, stall_s=0.5), SnapshotReceiver()
    chunks = []
    while (chunk := sender.next_chunk(2, now=1.0)) is not None:
        chunks.append(chunk)
    receiver.on_chunk(1, 5, chunks[0])
    receiver.on_chunk(1, 5, chunks[2])
    receiver.on_chunk(3, 6, chunks[1])
    assert receiver.progress == (7, 100)
    assert receiver.on_chunk(1, 5, chunks[1]) is None
    assert receiver.progress == (7, 200)


def test_a_follower_far_behind_gets_a_snapshot_and_the_log_is_trimmed() -> None:
    """Snapshots are taken by themselves, keep trailing entries, and bring back a voter that missed everything."""
    cluster = Cluster(3, snapshot_every_entries=20, trailing_entries=5, snapshot_chunk_bytes=64).start_all()
    assert cluster.elect(1, among=[2, 3])
    cluster.settle()
    cluster.kill(3)
    for i in range(60):
        cluster.propose(1, f"item {i}")
        cluster.settle(1)
    status = cluster.nodes[1].status()
    assert 0 < status.snapshot_index - status.first_log_index <= 5
    cluster.start(3)
    cluster.settle(20)
    assert cluster.items(3) == cluster.items(1) == [f"item {i}" for i in range(60)]


def test_a_restart_goes_on_from_the_snapshot() -> None:
    """After a power cut the state is the snapshot's plus the log behind it."""
    cluster = Cluster(3, snapshot_every_entries=7, trailing_entries=0).start_all()
    assert cluster.elect(1, among=[2, 3])
    for i in range(30):
        cluster.propose(1, f"item {i}")
        cluster.settle(2)
    for voter in cluster.voters:
        cluster.kill(voter, power=True)
    cluster.start_all()
    cluster.run(3.0)
    assert all(cluster.items(voter) == [f"item {i}" for i in range(30)] for voter in cluster.voters)


def test_a_lost_snapshot_is_noticed() -> None:
    """A log that begins late needs the snapshot it began after."""
    cluster = Cluster(1, snapshot_every_entries=5, trailing_entries=0).start_all()
    cluster.run(0.1)
    for i in range(10):
        cluster.propose(1, f"item {i}")
        cluster.run(0.1)
    cluster.kill(1)
    cluster.disks[1].delete("raft/snapshot")
    with pytest.raises(Fatal, match="gap"):
        cluster.start(1)


def test_a_transfer_takes_as_many_frames_as_it_has_chunks() -> None:
    """While a snapshot is on its way, the two do not keep each other busy with signs of life."""
    cluster = Cluster(3, trailing_entries=0, snapshot_chunk_bytes=64, snapshot_chunks_in_flight=2).start_all()
    assert cluster.elect(1, among=[2, 3])
    cluster.settle()
    cluster.kill(3)
    for i in range(40):
        cluster.propose(1, f"item {i}")
    cluster.settle(3)
    cluster.nodes[1].snapshot_soon()
    cluster.settle(1)
    cluster.start(3)
    frames = 0
    for _ in range(50):
        cluster.tick(seconds=0.01)
        frames += len(cluster.links.queues[1, 3])
        cluster.deliver_all()
    assert cluster.items(3) == cluster.items(1)
    chunks = len(cluster.disks[1].read_file("raft/snapshot")) // 64 + 1
    assert chunks <= frames < chunks * 2 + 8


def test_a_snapshot_that_is_not_what_its_chunks_said_is_dropped() -> None:
    """The acknowledgment names the chunks' index, so the file must end there."""
    cluster = Cluster(3).start_all()
    blob = encode_snapshot(Snapshot(7, 1, b"[]"))
    for index in (8, 7):
        chunk = SnapshotChunk(index, 1, 0, len(blob), blob)
        cluster.nodes[1].on_message(2, encode(Envelope(2, 1, 1, 0, chunk)))
        assert cluster.nodes[1].status().commit_index == (7 if index == 7 else 1)
