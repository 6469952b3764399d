import asyncio
import platform

import pytest
import uvloop

from quorumlog.host import malloc
from quorumlog.host.clock import SystemClock
from quorumlog.host.loop import run


def test_the_clock_is_monotonic_and_knows_the_year() -> None:
    """Seconds for deadlines, Unix milliseconds for timestamps."""
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert 0 <= second - first < 10
    assert clock.wall_ms() > 1_700_000_000_000


def test_run_uses_uvloop_and_returns_the_result() -> None:
    """A node's main coroutine runs on uvloop."""

    async def main() -> type:
        return type(asyncio.get_running_loop())

    assert run(main()) is uvloop.Loop


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_accepts_our_settings() -> None:
    """Every value is within glibc's limits (it refuses a larger mmap threshold)."""
    assert malloc.tune_malloc()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On musl nothing happens, and the log says so."""
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with caplog.at_level("INFO"):
        assert not malloc.tune_malloc()
    assert "not glibc" in caplog.text
