"""A history as curves over time: rates and latencies by window, the longest silence, the moments of single operations.

Windows, so that a plot costs the same for a thousand operations and for a million.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quorumlog.checker.history import Operation, Outcome, Poll, Send

WINDOWS_MAX = 300


@dataclass(frozen=True, slots=True)
class Band:
    """A fault: its name and the seconds, on the history's clock, in which it lasted."""

    name: str
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.begin) and math.isfinite(self.end) and self.begin <= self.end):
            raise ValueError(f"the band {self.name!r} lasts from {self.begin} to {self.end}")


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without an acknowledgment, in seconds on the history's clock."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Windows:
    """The curves: one number a window. NaN for the latency of a window without an acknowledged send."""

    width_s: float
    begins: Sequence[float]
    """Where each window begins, in seconds; they follow one another without gaps, and the last one ends with the run."""
    acknowledged: Sequence[float]
    """Records a second whose send was answered well, by the time of the answer."""
    read: Sequence[float]
    """Records a second that polls returned."""
    unsure: Sequence[float]
    """Records a second whose send was refused or has an unknown end."""
    p50_ms: Sequence[float]
    p99_ms: Sequence[float]
    """Latencies of acknowledged sends, from the call to the answer."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of a run that a report shows but the verdict."""

    begin: float
    end: float
    windows: Windows
    outcomes: Mapping[tuple[str, Outcome], int]
    """Operations by kind and outcome."""
    records: Mapping[str, int]
    """Records by what became of them: acknowledged, refused, unknown, read."""
    p50_ms: float
    p99_ms: float
    """Over the whole run; NaN without an acknowledged send."""
    moments: Mapping[int, float]
    """When the operations that were asked for ended, by their index."""
    _pulse: Sequence[float]
    """Acknowledgments, ascending, between the first call of a send and the last."""

    @property
    def longest_silence(self) -> Silence | None:
        """Between the first call of a send and the last one, or the last acknowledgment; None if nothing was sent."""
        return self.silence_during(self.begin, self.end)

    def silence_during(self, begin: float, end: float) -> Silence | None:
        """The longest silence that was under way at some time from `begin` to `end`, whole; None if there was none."""
        pulse = self._pulse
        first = max(0, bisect_right(pulse, begin) - 1)
        last = min(len(pulse) - 1, bisect_left(pulse, end))
        if first >= last:
            return None
        longest = max(range(first, last), key=lambda index: pulse[index + 1] - pulse[index])
        return Silence(pulse[longest], pulse[longest + 1])


def timeline(operations: Sequence[Operation], bands: Sequence[Band], wanted: Collection[int]) -> Timeline:
    """`wanted` are indexes of operations whose moments are to be kept. Costs a few microseconds an operation."""
    begin, end = _span(operations, bands)
    width_s = window_width(end - begin)
    tally = _Tally(begin, end, width_s)
    for operation in operations:
        tally.add(operation)
    everything = sorted(latency for window in tally.latencies for latency in window)
    return Timeline(
        begin=begin,
        end=end,
        windows=tally.windows(),
        outcomes=tally.outcomes,
        records=tally.records,
        p50_ms=_percentile(everything, 0.50) * 1e3,
        p99_ms=_percentile(everything, 0.99) * 1e3,
        moments={index: _ended(operations[index]) for index in wanted},
        _pulse=tally.pulse(),
    )


def window_width(span_s: float) -> float:
    """The smallest of 0.1, 0.2, 0.5, 1, 2, 5, ... seconds that needs at most 300 windows."""
    needed = max(0.1, span_s / WINDOWS_MAX)
    decade = 10.0 ** math.floor(math.log10(needed) + 1e-9)
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= needed * (1 - 1e-9))


class _Tally:
    """Sums up operations, one after the other."""

    def __init__(self, begin: float, end: float, width_s: float) -> None:
        self._begin, self._end, self._width_s = begin, end, width_s
        # The last window takes what is left: half a width to one and a half, so that no sliver shows a rate of its own.
        count = max(1, round((end - begin) / width_s))
        self._acknowledged = [0] * count
        self._read = [0] * count
        self._unsure = [0] * count
        self.latencies = [array("d") for _ in range(count)]
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.records: Counter[str] = Counter()
        self._acknowledgments = array("d")
        self._first_call, self._last_call = math.inf, -math.inf

    def add(self, operation: Operation) -> None:
        self.outcomes[operation.kind, operation.outcome] += 1
        sent = sum(isinstance(step, Send) for step in operation.steps)
        if sent:
            self._add_send(operation, sent)
        if operation.outcome is Outcome.OK and sent < len(operation.steps):
            read = sum(len(step.records) for step in operation.steps if isinstance(step, Poll))
            self._read[self._window(_ended(operation))] += read
            self.records["read"] += read

    def _add_send(self, operation: Operation, sent: int) -> None:
        self._first_call = min(self._first_call, operation.invoked)
        self._last_call = max(self._last_call, operation.invoked)
        window = self._window(_ended(operation))
        if operation.outcome is not Outcome.OK:
            self._unsure[window] += sent
            self.records["refused" if operation.outcome is Outcome.FAIL else "unknown"] += sent
            return
        self._acknowledged[window] += sent
        self.records["acknowledged"] += sent
        self.latencies[window].append(_ended(operation) - operation.invoked)
        self._acknowledgments.append(_ended(operation))

    def _window(self, moment: float) -> int:
        return min(int((moment - self._begin) / self._width_s), len(self._read) - 1)

    def windows(self) -> Windows:
        begins = [self._begin + index * self._width_s for index in range(len(self._read))]
        lengths = [self._width_s] * (len(begins) - 1) + [max(self._end - begins[-1], self._width_s / 2)]
        sorted_latencies = [sorted(window) for window in self.latencies]
        return Windows(
            width_s=self._width_s,
            begins=begins,
            acknowledged=_rates(self._acknowledged, lengths),
            read=_rates(self._read, lengths),
            unsure=_rates(self._unsure, lengths),
            p50_ms=[_percentile(window, 0.50) * 1e3 for window in sorted_latencies],
            p99_ms=[_percentile(window, 0.99) * 1e3 for window in sorted_latencies],
        )

    def pulse(self) -> Sequence[float]:
        if self._first_call > self._last_call:
            return ()
        acknowledgments = sorted(self._acknowledgments)
        last = max(self._last_call, *acknowledgments[-1:])
        return array("d", [self._first_call, *acknowledgments, last])


def _span(operations: Sequence[Operation], bands: Sequence[Band]) -> tuple[float, float]:
    begins = [min((operation.invoked for operation in operations), default=math.inf), *(band.begin for band in bands)]
    ends = [max((_ended(operation) for operation in operations), default=-math.inf), *(band.end for band in bands)]
    begin, end = min(begins), max(ends)
    return (begin, end) if begin <= end else (0.0, 0.0)


def _rates(records: Sequence[int], seconds: Sequence[float]) -> list[float]:
    return [count / length for count, length in zip(records, seconds, strict=True)]


def _ended(operation: Operation) -> float:
    return operation.invoked if operation.completed is None else operation.completed


def _percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest number that at least this share of all is not above (nearest rank); NaN of nothing."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else math.nan
