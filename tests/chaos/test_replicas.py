"""Replicas of stopped nodes are the same below the high watermark, or it is said which differ, where and how."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from quorumlog.host.disk import LOCK_NAME, RealDisk
from quorumlog.host.ports import StorageError, WriteBatch
from quorumlog.host.store import RocksStore
from quorumlog.partitions.keys import Checkpoint, Keys, put_checkpoint
from quorumlog.partitions.log import directory_name
from quorumlog.partitions.segment import file_name
from quorumlog.wire.ids import TopicPartition
from tests.chaos.replicas import compare
from tests.partitions.stage import batch_of, changed

TP = TopicPartition("orders", 0)
TOPIC_ID = UUID(int=7)
LOG = [[b"a", b"b"], [b"c"], [b"d", b"e", b"f"], [b"g"]]  # batches that end at the offsets 2, 3, 6 and 7

Nodes = dict[int, Path]


def batches(values: Sequence[list[bytes]] = LOG) -> list[bytes]:
    """As a leader of epoch 0 would have stored them."""
    stored, offset = [], 0
    for some in values:
        stored.append(changed(batch_of(some), base_offset=offset, leader_epoch=0))
        offset += len(some)
    return stored


def segment_path(data_dir: Path, base_offset: int = 0) -> Path:
    return data_dir / directory_name(TP, TOPIC_ID) / file_name(base_offset)


def put_replica(data_dir: Path, segments: dict[int, list[bytes]], *, high_watermark: int) -> None:
    """What a node leaves that held one replica: base offset of each segment -> its batches."""
    data_dir.mkdir()
    for base_offset, stored in segments.items():
        segment_path(data_dir, base_offset).parent.mkdir(parents=True, exist_ok=True)
        segment_path(data_dir, base_offset).write_bytes(b"".join(stored))
    store = RocksStore(str(data_dir / "store"))
    batch = WriteBatch()
    put_checkpoint(batch, Keys(TOPIC_ID, 0), Checkpoint(high_watermark, high_watermark, 0))
    store.write(batch)
    store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    put_replica(directory / "1", {0: batches()}, high_watermark=7)
    put_replica(directory / "2", {0: batches()[:2], 3: batches()[2:]}, high_watermark=6)
    return directory


@pytest.fixture
def nodes(sound: Path, tmp_path: Path) -> Nodes:
    """Two nodes with the same four batches. Node 1 knows that all of them are committed, node 2 that the first three are."""
    return {node_id: Path(shutil.copytree(sound / str(node_id), tmp_path / str(node_id))) for node_id in (1, 2)}


def files_of(nodes: Nodes) -> dict[Path, bytes]:
    """All but the lock, which each who opens a directory writes its process id to."""
    paths = (path for data_dir in nodes.values() for path in data_dir.rglob("*"))
    return {path: path.read_bytes() for path in paths if path.is_file() and path.name != LOCK_NAME}


def test_equal_replicas_pass_and_stay_as_they_are(nodes: Nodes) -> None:
    """Their segments end at different places, which is no difference; nothing on the disks is changed."""
    before = files_of(nodes)
    assert compare(nodes) == compare(nodes, in_sync=True) == []
    assert files_of(nodes) == before


@pytest.mark.parametrize("in_sync", [False, True])
def test_what_is_not_committed_may_differ(nodes: Nodes, in_sync: bool) -> None:
    """Node 2 has another last batch: wrong only if it was in sync, for node 1 knows the batch there as committed."""
    segment_path(nodes[2], 3).write_bytes(b"".join(batches([*LOG[:3], [b"x"]])[2:]))
    found = compare(nodes, in_sync=in_sync)
    assert len(found) == in_sync
    assert all("orders-0: node 1 has the batch 6 to 6" in complaint for complaint in found)


@pytest.mark.parametrize("in_sync", [False, True])
def test_a_replica_that_is_behind_is_told_if_it_was_in_sync(nodes: Nodes, in_sync: bool) -> None:
    segment_path(nodes[2], 3).write_bytes(batches()[2])
    found = compare(nodes, in_sync=in_sync)
    assert [complaint.partition(",")[0] for complaint in found] == ["orders-0 on node 2: the log ends at offset 6"] * in_sync


def test_retention_may_have_come_further_on_one_node(nodes: Nodes) -> None:
    """What both have is compared; a damaged batch of it is found all the same."""
    segment_path(nodes[2], 0).unlink()
    assert compare(nodes, in_sync=True) == []
    flip_last_byte(segment_path(nodes[2], 3))
    assert len(compare(nodes, in_sync=True)) == 1


def test_a_log_that_begins_behind_the_end_of_the_comparison(tmp_path: Path) -> None:
    """Then there is nothing to compare."""
    put_replica(tmp_path / "1", {0: batches()[:2]}, high_watermark=3)
    put_replica(tmp_path / "2", {3: batches()[2:]}, high_watermark=7)
    assert compare({1: tmp_path / "1", 2: tmp_path / "2"}) == []


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_to_one_batch(path: Path) -> None:
    path.write_bytes(batches()[0])


def put_other_epoch(path: Path) -> None:
    """The epoch is outside the CRC: the batch is sound, and still another one."""
    first, *others = batches()
    path.write_bytes(b"".join([changed(first, leader_epoch=1), *(changed(one, leader_epoch=1) for one in others)]))


def put_other_record(path: Path) -> None:
    path.write_bytes(b"".join(batches([[b"a", b"B"], *LOG[1:]])))


def put_other_boundaries(path: Path) -> None:
    """The same records in other batches."""
    path.write_bytes(b"".join(batches([[b"a"], [b"b"], *LOG[1:]])))


def leave_a_gap(path: Path) -> None:
    first, _, *others = batches()
    path.write_bytes(b"".join([first, *others]))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip_last_byte, "orders-0 on node 1: damaged at"),
        (cut_to_one_batch, "orders-0 on node 1: the log ends at offset 2"),
        (put_other_epoch, "orders-0: node 1 has the batch 0 to 1"),
        (put_other_record, "orders-0: node 1 has the batch 0 to 1"),
        (put_other_boundaries, "orders-0: node 1 has the batch 0 to 0"),
        (leave_a_gap, "orders-0 on node 1: damaged at"),
    ],
)
def test_what_is_wrong_is_told(nodes: Nodes, damage: Callable[[Path], None], told: str) -> None:
    """Each damage to one replica, once, with the node that has it."""
    damage(segment_path(nodes[1]))
    (complaint,) = compare(nodes, in_sync=True)
    assert complaint.startswith(told)


def test_a_missing_segment_is_damage(nodes: Nodes) -> None:
    """A hole between segments, and the last one gone."""
    segment_path(nodes[2], 3).rename(segment_path(nodes[2], 4))
    assert "the segment before it ends at offset 3" in compare(nodes)[0]
    segment_path(nodes[2], 4).unlink()
    assert "the log ends at offset 3" in compare(nodes)[0]


def test_a_missing_replica_is_told_to_who_asks(nodes: Nodes) -> None:
    assert compare(nodes, replicas_of={"orders": 2, "others": 3}) == []
    assert compare(nodes, replicas_of={"orders": 3}) == ["orders-0: 3 replicas wanted, there is one on each of the nodes [1, 2]"]


def test_a_running_node_is_refused(nodes: Nodes) -> None:
    """Its log would change while it is read."""
    disk = RealDisk(nodes[1])
    try:
        with pytest.raises(StorageError):
            compare(nodes)
    finally:
        disk.close()
