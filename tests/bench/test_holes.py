"""Old segments lose their bytes and keep their length; the newest, and other files, are left alone."""

from pathlib import Path

from tests.bench.holes import KEPT_SEGMENTS, punch

SIZE = 1 << 20


def blocks(path: Path) -> int:
    return path.stat().st_blocks


def test_only_old_segments_of_the_topic_become_holes(tmp_path: Path) -> None:
    replica, other, store = tmp_path / "logs" / "bench-1-0-Qx", tmp_path / "logs" / "bench-10-0-Qx", tmp_path / "store"
    for directory in (replica, other, store):
        directory.mkdir(parents=True)
        for number in range(KEPT_SEGMENTS + 2):
            (directory / f"{number:020}.log").write_bytes(b"x" * SIZE)
    assert punch([tmp_path], "bench-1") == 2
    oldest, *_ = segments = sorted(replica.iterdir())
    assert oldest.stat().st_size == SIZE and oldest.read_bytes() == bytes(SIZE)
    assert [path for path in segments if blocks(path) == 0] == segments[:2]
    assert all(blocks(path) > 0 for directory in (other, store) for path in directory.iterdir())
