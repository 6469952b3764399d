"""Meters read processes as the kernel shows them, children included; the page cache is emptied of what was written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import caches
from tests.bench.meters import Meter, resident_mib

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
CHILD = """
block = b"x" * (64 << 20)
del block
print("took and gave back", flush=True)
input()
sum(range(20_000_000))
print("worked", flush=True)
input()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process whose child does the work."""
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdin=-1, stdout=-1, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def test_work_and_memory_of_children_count_and_only_those_of_the_block(parent: subprocess.Popen[str]) -> None:
    assert parent.stdin is not None and parent.stdout is not None
    assert parent.stdout.readline() == "took and gave back\n"
    with Meter([parent.pid]) as meter:
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "worked\n"
    assert meter.cpu_s > 0.05
    assert 0 < resident_mib([parent.pid]) < meter.peak_mib < 64  # what was given back before the block is not in its peak
    parent.stdin.write("\n")


def test_processes_that_are_gone_cost_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    with Meter([gone.pid]) as meter:
        pass
    assert (meter.cpu_s, meter.peak_mib) == (0.0, 0.0)


def test_dropping_the_cache_keeps_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "00.log"
    path.write_bytes(b"x" * 100_000)
    caches.drop([tmp_path])
    assert path.read_bytes() == b"x" * 100_000
