"""What chaos damages is damaged: one bit or a cut, at a place that a reader must notice."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.wire.batches import BatchError, check_crc, iterate_headers
from tests.chaos.faults.damage import DamagedSnapshot, DamagedStore, fresh_lines, harm, pick, places_of_batches, position_in
from tests.chaos.stage import Disorder
from tests.partitions.stage import batch_of, changed

BATCHES = [changed(batch_of([b"value"] * 3), base_offset=3 * number, leader_epoch=0) for number in range(4)]
SHARES = [number / 149 for number in range(149)]


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "segment.log"
    path.write_bytes(b"".join(BATCHES))
    return path


def is_sound(path: Path) -> bool:
    """As whoever reads it judges: whole batches, one after the other without a gap, whose CRC matches, up to the known end."""
    log, offset = path.read_bytes(), 0
    try:
        for position, header in iterate_headers(log):
            check_crc(memoryview(log)[position : position + header.size], header)
            if header.base_offset != offset:
                return False
            offset = header.next_offset
    except BatchError:
        return False
    return offset == 12


def test_every_flip_is_one_that_must_be_noticed(segment: Path) -> None:
    """Wherever the share falls, and it falls into every batch, into headers and records; one bit differs then."""
    sound, struck = segment.read_bytes(), set()
    assert is_sound(segment)
    for share in SHARES:
        position = position_in(segment, share)
        harm(segment, position, cut=False)
        damaged = segment.read_bytes()
        assert [place for place in range(len(sound)) if sound[place] != damaged[place]] == [position]
        assert (sound[position] ^ damaged[position]).bit_count() == 1
        assert not is_sound(segment), position
        struck.add(position // len(BATCHES[0]))
        segment.write_bytes(sound)
    assert struck == {0, 1, 2, 3}


def test_a_cut_loses_records(segment: Path) -> None:
    """What is left is the beginning, and not all."""
    sound = segment.read_bytes()
    for share in SHARES[::10]:
        harm(segment, position_in(segment, share), cut=True)
        assert sound.startswith(segment.read_bytes())
        assert not is_sound(segment)
        segment.write_bytes(sound)


def test_a_torn_segment_is_damaged_where_it_is_whole(segment: Path) -> None:
    """A crash may have torn the end; of a file without one whole batch the first byte is struck."""
    with segment.open("r+b") as file:
        file.truncate(len(BATCHES[0]) * 3 + 20)
    assert places_of_batches(segment) == [
        range(start, start + len(BATCHES[0])) for start in (0, len(BATCHES[0]), 2 * len(BATCHES[0]))
    ]
    segment.write_bytes(BATCHES[0][:20])
    assert position_in(segment, 0.9) == 0


def test_picking() -> None:
    """First to last, and nothing from nothing."""
    assert [pick("abc", share) for share in (0.0, 0.5, 0.999)] == ["a", "b", "c"]
    assert pick("", 0.5) is None


class FakeStage:
    """One node, down, with a store and a snapshot; whether it starts on damaged files is the test's choice."""

    living = (1,)

    def __init__(self, data_dir: Path, *, does_start: bool) -> None:
        self.data_dir, self.does_start = data_dir, does_start
        self.log = '1 up\n2 cannot go on\n  File "old.py"\n'  # of an earlier fault; real lines begin with the time
        self.dies_at_work = False
        self.target: Any = SimpleNamespace(
            stop_node=lambda node: None,
            kill=lambda node: None,
            data_dirs=lambda: {1: data_dir},
            log_tails=lambda: {1: self.log},
        )
        for name in ("store/000009.log", "store/000011.sst", "store/CURRENT", "store/MANIFEST-000005", "raft/snapshot"):
            (data_dir / name).parent.mkdir(exist_ok=True)
            (data_dir / name).write_bytes(b"0123456789")
        self.sound = self.files()

    def starts(self, _node: int) -> bool:
        assert self.files() != self.sound, "nothing was damaged"
        if self.does_start or self.dies_at_work:
            (self.data_dir / "store" / "000012.log").write_bytes(b"new")
        self.log += '3 up\n4 cannot go on\n  File "new.py"\n' if self.dies_at_work else "refused\n"
        return self.does_start

    def files(self) -> dict[str, bytes]:
        paths = (path for part in ("store", "raft") for path in (self.data_dir / part).glob("*"))
        return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("fault", [DamagedStore, DamagedSnapshot])
@pytest.mark.parametrize("cut", [True, False])
def test_refused_the_old_files_are_laid_back(tmp_path: Path, fault: type[DamagedStore], cut: bool) -> None:
    """All of them as they were before, and no copy stays."""
    stage: Any = FakeStage(tmp_path, does_start=False)
    for share in (0.1, 0.4, 0.6, 0.9):
        struck = fault(0.0, 0, clean=True, cut=cut, place=share).begin(stage)
        assert "start refused" in struck.detail
        assert stage.files() == stage.sound
    assert not (tmp_path / "lost+found" / "kept").exists()


def test_a_node_without_a_snapshot(tmp_path: Path) -> None:
    """It has none before its quorum has decided much: the store alone is laid back, and there is no snapshot to damage."""
    stage: Any = FakeStage(tmp_path, does_start=False)
    shutil.rmtree(tmp_path / "raft")
    assert "nothing damaged" in DamagedSnapshot(0.0, 0, clean=True, cut=True, place=0.5).begin(stage).detail
    del stage.sound["snapshot"]
    assert "refused" in DamagedStore(0.0, 0, clean=True, cut=True, place=0.5).begin(stage).detail
    assert stage.files() == stage.sound


def test_started_the_node_goes_on_with_what_it_has(tmp_path: Path) -> None:
    """What it has promised since must not be forgotten."""
    stage: Any = FakeStage(tmp_path, does_start=True)
    struck = DamagedStore(0.0, 0, clean=False, cut=False, place=0.5).begin(stage)
    assert struck.detail.endswith("started")
    assert stage.files()["000012.log"] == b"new"
    assert stage.files() != stage.sound


def test_a_node_that_died_at_work_keeps_what_it_has_written(tmp_path: Path) -> None:
    """It may have voted and acknowledged before it read the damage: only the bit is mended."""
    stage: Any = FakeStage(tmp_path, does_start=False)
    stage.dies_at_work = True
    struck = DamagedStore(0.0, 0, clean=False, cut=False, place=0.5).begin(stage)
    assert "flipped back" in struck.detail
    assert stage.files() == stage.sound | {"000012.log": b"new"}


def test_a_damaged_snapshot_must_be_refused(tmp_path: Path) -> None:
    """The store may have rotted where nothing lies; a snapshot has a CRC over all of it."""
    stage: Any = FakeStage(tmp_path, does_start=True)
    with pytest.raises(Disorder, match="snapshot"):
        DamagedSnapshot(0.0, 0, clean=False, cut=False, place=0.5).begin(stage)


@pytest.mark.parametrize(
    ("before", "after", "fresh"),
    [
        ("", "cannot go on", "cannot go on"),
        ("up\ncannot go on\n", "up\ncannot go on\nrefused\n", "\nrefused\n"),
        ("long ago\n", "all\nof it\nis new\n", "all\nof it\nis new\n"),
    ],
)
def test_only_what_was_logged_since_counts(before: str, after: str, fresh: str) -> None:
    """A node that died of an earlier fault has not died of this one."""
    assert fresh_lines(before, after) == fresh
