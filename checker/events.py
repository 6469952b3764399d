"""Histories of Jepsen's form: an event a line, an invocation and its completion paired by process.

    {"type": "invoke", "f": "send", "process": 3, "time": 12501000000, "value": [["send", 0, 17]]}
    {"type": "ok",     "f": "send", "process": 3, "time": 12533000000, "value": [["send", 0, [41, 17]]]}
    {"type": "ok",     "f": "poll", "process": 9, "time": 13100000000, "value": [["poll", {"0": [[41, 17], [42, 3]]}]]}
    {"type": "ok",     "f": "assign", "process": 9, "time": 14100000000, "value": [0, 1]}

Times are nanoseconds; where there are none, an event's place in the file is its time in seconds. "info" is unknown, and so is
an invocation that was never completed. Events of no client (a nemesis: its process is not a number) and of other functions
("crash", "debug-topic-partitions") say nothing about the log and are passed over. The form is that of jepsen.tests.kafka.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from quorumlog.checker.lines import HistoryError, Line, are_records, as_text, is_number, is_offset, is_whole, shown
from quorumlog.checker.operations import Operation, Outcome, Poll, Send

OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}
TYPES = ("invoke", *OUTCOMES)
NAMING = ("assign", "seek", "subscribe")
MOVING = ("poll", "send", "txn")
NANOS = 1e9


def is_event(line: Line) -> bool:
    """True if the line is an event of Jepsen's form rather than an operation of ours."""
    return "type" in line.fields and "f" in line.fields


@dataclass
class EventReader:
    """Pairs completions with the invocations that they complete. It lives while a file is read."""

    operations: list[Operation] = field(default_factory=list)
    pending: dict[int, tuple[float, Line]] = field(default_factory=dict)
    count: int = 0

    def read(self, line: Line) -> None:
        """One event. Raises HistoryError."""
        self.count += 1
        kind = line.fields.get("type")
        if kind not in TYPES:
            line.refuse("type", f"one of {', '.join(TYPES)}")
        process = line.fields.get("process")
        if not is_whole(process) or line.fields.get("f") not in NAMING + MOVING:
            return
        time = self._time(line)
        before = self.pending.pop(process, None)
        if kind == "invoke":
            if before is not None:
                raise HistoryError(f"{line.place}: process {process} invokes again before the completion of {before[1].place}")
            self.pending[process] = (time, line)
        else:
            invoked = before[0] if before is not None else time
            if invoked > time:
                raise HistoryError(f"{line.place}: completed {time} s, before it was invoked at {invoked} s")
            self.operations.append(_operation(line, OUTCOMES[kind], invoked, time))

    def finish(self) -> list[Operation]:
        for invoked, line in self.pending.values():
            self.operations.append(_operation(line, Outcome.UNKNOWN, invoked, None))
        return self.operations

    def _time(self, line: Line) -> float:
        time = line.fields.get("time")
        if time is None:
            return float(self.count)
        if not is_number(time):
            line.refuse("time", "a number of nanoseconds")
        return float(time) / NANOS


def read_events(lines: Iterable[Line]) -> list[Operation]:
    """The operations of events, in the order of their completion; those that never completed come last. Raises HistoryError."""
    reader = EventReader()
    for line in lines:
        reader.read(line)
    return reader.finish()


def _operation(line: Line, outcome: Outcome, invoked: float, completed: float | None) -> Operation:
    kind = line.fields["f"]
    value = line.fields.get("value") or []
    if not isinstance(value, list):
        line.refuse("value", "a list")
    return Operation(
        process=line.fields["process"],
        kind=kind,
        invoked=invoked,
        completed=completed,
        outcome=outcome,
        steps=_steps(line, value) if kind in MOVING else (),
        keys=tuple(map(as_text, value)) if kind in NAMING else (),
        rebalanced=_rebalanced(line),
    )


def _steps(line: Line, value: list[Any]) -> tuple[Send | Poll, ...]:
    steps: list[Send | Poll] = []
    for step in value:
        match step:
            case ["send", key, sent]:
                steps.append(_send(key, sent))
            case ["poll"]:  # as it was invoked: nothing came back
                pass
            case ["poll", dict(polled)] if all(map(are_records, polled.values())):
                steps.extend(Poll(key, tuple((offset, as_text(value)) for offset, value in polled[key])) for key in polled)
            case _:
                allowed = '["send", KEY, VALUE or [OFFSET, VALUE]] or ["poll", {KEY: [[OFFSET, VALUE], ...]}]'
                raise HistoryError(f'{line.place}: "value" holds {shown(step)}; a step must be {allowed}')
    return tuple(steps)


def _send(key: object, sent: object) -> Send:
    match sent:
        case [offset, value] if offset is None or is_offset(offset):
            return Send(as_text(key), as_text(value), offset)
        case _:
            return Send(as_text(key), as_text(sent))


def _rebalanced(line: Line) -> tuple[str, ...]:
    """The keys of the operation's log of rebalances: [{"keys": [0, 1]}, ...]."""
    log = line.fields.get("rebalance-log") or []
    if not (isinstance(log, list) and all(isinstance(entry, dict) and isinstance(entry.get("keys", []), list) for entry in log)):
        line.refuse("rebalance-log", 'a list of {"keys": [KEY, ...]}')
    return tuple(as_text(key) for entry in log for key in entry.get("keys", []))
