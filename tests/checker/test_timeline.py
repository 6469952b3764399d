"""Curves, silences and moments are those of the operations."""

import math

import pytest

from quorumlog.checker.history import Operation, Outcome, Poll, Send
from quorumlog.checker.timeline import WINDOWS_MAX, Band, Silence, timeline, window_width


def send(invoked: float, completed: float | None, outcome: Outcome = Outcome.OK, values: int = 1) -> Operation:
    steps = tuple(Send("orders-0", f"{invoked}-{number}", None) for number in range(values))
    return Operation(1, "send", invoked, completed, outcome, steps)


def poll(invoked: float, completed: float, values: int, outcome: Outcome = Outcome.OK) -> Operation:
    records = tuple((number, f"{invoked}-{number}") for number in range(values))
    return Operation(2, "poll", invoked, completed, outcome, (Poll("orders-0", records),))


def test_records_count_in_the_window_where_their_operation_ended() -> None:
    """Acknowledged, read and unsure records a second, in windows of 0.1 s."""
    run = timeline(
        [
            send(0.0, 0.05, values=3),
            send(0.01, 0.15),
            poll(0.1, 0.25, values=7),
            poll(0.1, 0.25, values=100, outcome=Outcome.UNKNOWN),
            send(0.2, None, Outcome.UNKNOWN, values=2),
            send(0.21, 0.31, Outcome.FAIL),
            send(0.1, 0.4),
        ],
        [],
        wanted=(),
    )
    assert run.windows.width_s == pytest.approx(0.1)
    assert run.windows.acknowledged == pytest.approx([30, 10, 0, 10])
    assert run.windows.read == pytest.approx([0, 0, 70, 0])
    assert run.windows.unsure == pytest.approx([0, 0, 20, 10])
    assert run.records == {"acknowledged": 5, "read": 7, "unknown": 2, "refused": 1}
    assert run.outcomes["send", Outcome.OK] == 3
    assert run.outcomes["poll", Outcome.UNKNOWN] == 1


def test_latencies_are_of_acknowledged_sends_alone() -> None:
    """A hundred sends of 1 to 100 ms, and others that must not count."""
    run = timeline(
        [
            *(send(0.0, number / 1000) for number in range(1, 101)),
            send(0.0, 0.1, Outcome.FAIL),
            send(0.0, 9.0, Outcome.UNKNOWN),
            poll(0.0, 8.0, 1),
        ],
        [],
        wanted=(),
    )
    assert run.p50_ms == pytest.approx(50)
    assert run.p99_ms == pytest.approx(99)
    assert run.windows.p99_ms[0] == pytest.approx(99)
    assert math.isnan(run.windows.p50_ms[-1])


def test_the_longest_silence_lies_between_two_acknowledgments() -> None:
    """Polls and refusals do not end it."""
    run = timeline(
        [send(0, 0.1), send(1, 1.1), poll(2, 2.1, 1), send(2, 2.5, Outcome.FAIL), send(3, 3.6), send(4, 4.1)], [], wanted=()
    )
    assert run.longest_silence == Silence(1.1, 3.6)
    assert run.longest_silence.seconds == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("operations", "silence"),
    [
        pytest.param([send(1, 5), send(5, 5.5)], Silence(1, 5), id="before the first acknowledgment"),
        pytest.param([send(1, 1.5), send(7, None, Outcome.UNKNOWN)], Silence(1.5, 7), id="to the last call, never answered"),
        pytest.param([poll(0, 9, 1)], None, id="nothing was sent"),
        pytest.param([], None, id="nothing was done"),
    ],
)
def test_silence_at_the_edges(operations: list[Operation], silence: Silence | None) -> None:
    """A silence counts from the first call of a send to the last one."""
    assert timeline(operations, [], wanted=()).longest_silence == silence


@pytest.mark.parametrize(
    ("begin", "end", "silence"),
    [(0.5, 0.8, Silence(0.1, 1.1)), (1.2, 2.0, Silence(1.1, 4.1)), (4.0, 4.05, Silence(1.1, 4.1)), (4.2, 9.0, Silence(4.1, 5.1))],
)
def test_a_silence_during_a_fault_is_told_whole(begin: float, end: float, silence: Silence) -> None:
    """It may have begun before the fault and end after it."""
    run = timeline([send(0, 0.1), send(1, 1.1), send(4, 4.1), send(5, 5.1)], [], wanted=())
    assert run.silence_during(begin, end) == silence


def test_wanted_operations_are_placed_in_time() -> None:
    """By their end, or their call where they have none."""
    run = timeline([send(0, 0.5), send(1, None, Outcome.UNKNOWN), send(2, 2.5)], [], wanted={1, 2})
    assert run.moments == {1: 1, 2: 2.5}


def test_faults_widen_the_run() -> None:
    """A fault before the first operation and one after the last are on the picture."""
    run = timeline([send(5, 6)], [Band("kill", 1, 2), Band("pause", 8, 9)], wanted=())
    assert (run.begin, run.end) == (1, 9)


@pytest.mark.parametrize(("begin", "end"), [(2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_band_that_cannot_be_is_refused(begin: float, end: float) -> None:
    """An end before the beginning, and times that are none."""
    with pytest.raises(ValueError, match="'kill' lasts from"):
        Band("kill", begin, end)


@pytest.mark.parametrize(
    ("span_s", "width_s"), [(0, 0.1), (30, 0.1), (30.1, 0.2), (60, 0.2), (300, 1), (301, 2), (3600, 20), (86_400, 500)]
)
def test_windows_are_few_and_round(span_s: float, width_s: float) -> None:
    """1, 2 or 5 times a power of ten, at most 300 of them, at least a tenth of a second."""
    assert window_width(span_s) == pytest.approx(width_s)
    assert span_s / window_width(span_s) <= WINDOWS_MAX + 1e-6


def test_the_last_window_takes_what_is_left() -> None:
    """A sliver of a window would show a rate that never was."""
    run = timeline([*(send(second / 10, second / 10 + 0.05) for second in range(40)), send(39.0, 40.01)], [], wanted=())
    assert len(run.windows.begins) == 200
    assert run.windows.acknowledged[-1] == pytest.approx(1 / (0.2 + 0.01))
