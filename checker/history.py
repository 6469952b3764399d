"""A history file: what clients asked of a cluster and what they were answered, one operation a line of JSON.

    {"process": 3, "invoked": 12.501, "completed": 12.533, "kind": "send", "outcome": "ok",
     "steps": [{"send": "orders-0", "value": "p3-17", "offset": 41}]}
    {"process": 9, "invoked": 13.0, "completed": 13.1, "kind": "poll", "outcome": "ok",
     "steps": [{"poll": "orders-0", "records": [[41, "p3-17"], [42, "p4-2"]]}]}
    {"process": 9, "invoked": 14.0, "completed": 14.1, "kind": "assign", "outcome": "ok", "keys": ["orders-0", "orders-1"]}

A *key* is a partition, "topic-number". Times are seconds from any one start. Each value is sent once in a history.
`docs/checker.md` explains every field. Files of Jepsen's events are recognized and read as well: `events.py`.
"""

import itertools
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quorumlog.checker.collector import collector_paused
from quorumlog.checker.events import is_event, read_events
from quorumlog.checker.lines import HistoryError, Line, are_records, as_text, is_number, is_offset, is_whole, json_lines
from quorumlog.checker.operations import Operation, Outcome, Poll, Send

__all__ = ["KINDS", "HistoryError", "HistoryWriter", "Operation", "Outcome", "Poll", "Send", "read_history", "to_json"]

KINDS = ("assign", "poll", "seek", "send", "subscribe", "txn")
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
NAMES = "a list of strings"


class HistoryWriter:
    """Writes operations to a file as they complete, from any thread. Line-buffered: a run that is killed keeps its history."""

    def __init__(self, path: Path | str) -> None:
        self._file = open(path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115  close() closes it
        self._lock = threading.Lock()

    def write(self, operation: Operation) -> None:
        line = to_json(operation) + "\n"
        with self._lock:
            self._file.write(line)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def to_json(operation: Operation) -> str:
    """The operation as its line of a history, without the newline."""
    fields: dict[str, Any] = {
        "process": operation.process,
        "invoked": operation.invoked,
        "completed": operation.completed,
        "kind": operation.kind,
        "outcome": operation.outcome.value,
    }
    if operation.steps:
        fields["steps"] = [_step_fields(step) for step in operation.steps]
    if operation.keys:
        fields["keys"] = operation.keys
    if operation.rebalanced:
        fields["rebalanced"] = operation.rebalanced
    if operation.ending is not None:
        fields["ending"] = operation.ending
    return json.dumps(fields, ensure_ascii=False)


def _step_fields(step: Send | Poll) -> dict[str, Any]:
    match step:
        case Send(key, value, offset):
            return {"send": key, "value": value, "offset": offset}
        case Poll(key, records):
            return {"poll": key, "records": records}


def read_history(path: Path | str) -> list[Operation]:
    """The operations of a file, in its order. Raises HistoryError, which names the line, and OSError."""
    with collector_paused(), open(path, encoding="utf-8") as file:
        try:
            return _operations(json_lines(file, str(path)))
        except UnicodeDecodeError as error:
            raise HistoryError(f"{path}: not text in UTF-8: {error}") from error


def _operations(lines: Iterable[Line]) -> list[Operation]:
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return []
    lines = itertools.chain([first], lines)
    return read_events(lines) if is_event(first) else [_operation(line) for line in lines]


def _operation(line: Line) -> Operation:
    fields = line.fields
    kind = fields.get("kind")
    if kind not in KINDS:
        line.refuse("kind", f"one of {', '.join(KINDS)}")
    outcome = OUTCOMES.get(fields["outcome"]) if isinstance(fields.get("outcome"), str) else None
    if outcome is None:
        line.refuse("outcome", f"one of {', '.join(OUTCOMES)}")
    if not is_whole(fields.get("process")):
        line.refuse("process", "a whole number")
    _require_times(line)
    return Operation(
        process=fields["process"],
        kind=kind,
        invoked=fields["invoked"],
        completed=fields.get("completed"),
        outcome=outcome,
        steps=_steps(line, kind),
        keys=_names(line, "keys"),
        rebalanced=_names(line, "rebalanced"),
        ending=_ending(line, kind),
    )


def _require_times(line: Line) -> None:
    invoked, completed = line.fields.get("invoked"), line.fields.get("completed")
    if not is_number(invoked):
        line.refuse("invoked", "a number of seconds")
    if completed is not None and not (is_number(completed) and completed >= invoked):
        line.refuse("completed", f'null or a number of seconds not before "invoked" ({invoked})')


def _ending(line: Line, kind: str) -> float | None:
    ending = line.fields.get("ending")
    if ending is None:
        return None
    invoked, completed = line.fields["invoked"], line.fields.get("completed")
    if kind != "txn" or not is_number(ending) or not invoked <= ending <= (ending if completed is None else completed):
        line.refuse("ending", 'null, or, of a txn, a number of seconds between "invoked" and "completed"')
    return ending


def _names(line: Line, field: str) -> tuple[str, ...]:
    names = line.fields.get(field)
    if names is None:
        return ()
    if not isinstance(names, list):
        line.refuse(field, NAMES)
    return tuple(map(as_text, names))


def _steps(line: Line, kind: str) -> tuple[Send | Poll, ...]:
    steps = line.fields.get("steps")
    if steps is None:
        return ()
    if not isinstance(steps, list):
        line.refuse("steps", "a list of sends and polls")
    return tuple(_step(line, kind, step) for step in steps)


def _step(line: Line, kind: str, step: Any) -> Send | Poll:
    match step:
        case {"send": key, "value": value} if kind in ("send", "txn"):
            offset = step.get("offset")
            if offset is None or is_offset(offset):
                return Send(as_text(key), as_text(value), offset)
        case {"poll": key, "records": list(records)} if kind in ("poll", "txn"):
            if are_records(records):
                return Poll(as_text(key), tuple([(offset, as_text(value)) for offset, value in records]))
    raise HistoryError(f"{line.place}: {_describe(step)}; {_allowed_steps(kind)}")


def _describe(step: object) -> str:
    return f'"steps" holds {json.dumps(step, ensure_ascii=False)[:200]}'


def _allowed_steps(kind: str) -> str:
    forms = []
    if kind in ("send", "txn"):
        forms.append('{"send": KEY, "value": VALUE, "offset": a whole number from 0 or null}')
    if kind in ("poll", "txn"):
        forms.append('{"poll": KEY, "records": [[OFFSET, VALUE], ...]}')
    return f"a step of {kind} must be " + " or ".join(forms) if forms else f"{kind} has no steps"
