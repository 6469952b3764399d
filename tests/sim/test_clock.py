from tests.sim.clock import SimClock


def test_time_passes_only_when_told() -> None:
    """Both faces of the clock move together, by `advance` alone."""
    clock = SimClock(start_s=5.0, wall_start_ms=1_000)
    assert (clock.now(), clock.wall_ms()) == (5.0, 1_000)
    clock.advance(1.5)
    assert (clock.now(), clock.wall_ms()) == (6.5, 2_500)


def test_a_wrong_wall_clock_leaves_monotonic_time_alone() -> None:
    """An offset shifts timestamps and no timeout."""
    clock = SimClock(wall_start_ms=1_000)
    clock.offset_ms = -400
    assert (clock.now(), clock.wall_ms()) == (0.0, 600)
