"""The format: what is written is read again, Jepsen's events are understood, and a bad line is named with what is allowed."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from quorumlog.checker.history import HistoryError, HistoryWriter, Operation, Outcome, Poll, Send, read_history, to_json
from tests.checker.given import given

SEND = {"process": 1, "invoked": 0.5, "completed": 0.75, "kind": "send", "outcome": "ok"}


def read(tmp_path: Path, *lines: object) -> list[Operation]:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return read_history(path)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """All kinds, outcomes and fields survive the way through a file."""
    history = given(
        """1 send ok x-0:a@0 x-0:ä
           2 poll unknown x-0:[0a] x-1:[] ~x-0 @3..
           3 txn fail x-0:b x-0:[0a]
           2 assign ok x-0 x-1
           2 seek ok x-1
           2 subscribe unknown x"""
    )
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        for operation in history:
            writer.write(operation)
    assert read_history(tmp_path / "history.jsonl") == history


def test_a_line_is_as_the_documentation_shows_it() -> None:
    """The form is fixed: other programs write it."""
    operation = Operation(3, "send", 12.5, 12.75, Outcome.OK, (Send("orders-0", "p3-17", 41), Poll("orders-1", ((4, "b"),))))
    assert to_json(operation) == (
        '{"process": 3, "invoked": 12.5, "completed": 12.75, "kind": "send", "outcome": "ok", "steps": '
        '[{"send": "orders-0", "value": "p3-17", "offset": 41}, {"poll": "orders-1", "records": [[4, "b"]]}]}'
    )


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    """Each thread's operations are all there, none torn."""
    (operation,) = given("1 send ok x:a@0")
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        threads = [threading.Thread(target=lambda: [writer.write(operation) for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert read_history(tmp_path / "history.jsonl") == [operation] * 800


def test_what_is_not_text_is_compared_by_its_json(tmp_path: Path) -> None:
    """Keys and values may be anything in JSON; fields without content may be absent; blank lines are passed over."""
    (operation,) = read(tmp_path, "", SEND | {"steps": [{"send": 7, "value": [1, {"b": 2}]}, {"send": 7, "value": 17}]}, "")
    assert operation.steps == (Send("7", '[1, {"b": 2}]'), Send("7", "17"))
    assert read(tmp_path, "") == []


BAD_LINES: dict[str, tuple[object, str]] = {
    "not JSON": ('{"process": 1', "line 2: Expecting"),
    "not an object": ("[1, 2]", "each line must be one JSON object"),
    "no kind": ({"process": 1}, '"kind" is missing; it must be one of assign, poll, seek, send, subscribe, txn'),
    "another kind": (SEND | {"kind": "write"}, '"kind" is "write"; it must be one of assign'),
    "another outcome": (SEND | {"outcome": "maybe"}, '"outcome" is "maybe"; it must be one of ok, fail, unknown'),
    "an outcome that is no text": (SEND | {"outcome": ["ok"]}, '"outcome" is ["ok"]; it must be'),
    "a process that is no number": (SEND | {"process": "p1"}, '"process" is "p1"; it must be a whole number'),
    "a process that is true": (SEND | {"process": True}, '"process" is true; it must be a whole number'),
    "no time": (SEND | {"invoked": None}, '"invoked" is null; it must be a number of seconds'),
    "completed before it began": (SEND | {"completed": 0.25}, '"completed" is 0.25; it must be null or a number of seconds not'),
    "keys that are no list": (SEND | {"keys": "x"}, '"keys" is "x"; it must be a list of strings'),
    "steps that are no list": (SEND | {"steps": {}}, '"steps" is {}; it must be a list of sends and polls'),
    "a negative offset": (
        SEND | {"steps": [{"send": "x", "value": "a", "offset": -1}]},
        '"offset": a whole number from 0 or null',
    ),
    "a send without a value": (SEND | {"steps": [{"send": "x"}]}, '"steps" holds {"send": "x"}; a step of send must be {"send"'),
    "a poll in a send": (SEND | {"steps": [{"poll": "x", "records": []}]}, "a step of send must be"),
    "a record without an offset": (
        SEND | {"kind": "poll", "steps": [{"poll": "x", "records": [["a"]]}]},
        'a step of poll must be {"poll": KEY, "records": [[OFFSET, VALUE], ...]}',
    ),
    "steps of assign": (SEND | {"kind": "assign", "steps": [{"send": "x", "value": "a"}]}, "assign has no steps"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_with_what_is_allowed(tmp_path: Path, name: str) -> None:
    """The error has the file, the line's number, what was seen and what is allowed."""
    line, message = BAD_LINES[name]
    with pytest.raises(HistoryError) as caught:
        read(tmp_path, SEND, line)
    assert f"{tmp_path / 'history.jsonl'}, line 2: " in str(caught.value)
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A compressed file, say."""
    path = tmp_path / "history.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(HistoryError, match="not text in UTF-8"):
        read_history(path)


def event(kind: str, f: str, process: object, time_s: float, value: object = None, **more: object) -> dict[str, Any]:
    return {"type": kind, "f": f, "process": process, "time": int(time_s * 1e9), "value": value, **more}


def test_jepsens_events_are_recognized(tmp_path: Path) -> None:
    """Completions find their invocations, nanoseconds become seconds, info and what never completed is unknown."""
    history = read(
        tmp_path,
        event("invoke", "assign", 1, 0.5, [0, 1], **{"seek-to-beginning?": True}),
        event("invoke", "send", 2, 1, [["send", 0, 17], ["send", 0, 18]]),
        event("ok", "assign", 1, 1.5, [0, 1], **{"seek-to-beginning?": True}),
        event("info", "start-partition", "nemesis", 1.75, "majority"),
        event("ok", "send", 2, 2, [["send", 0, [41, 17]], ["send", 0, [None, 18]]]),
        event("invoke", "txn", 1, 2.5, [["poll"], ["send", 1, 19]]),
        event("fail", "txn", 1, 3, [["poll", {"0": [[41, 17]], "1": []}], ["send", 1, 19]], **{"rebalance-log": [{"keys": [1]}]}),
        event("invoke", "poll", 1, 3.5, [["poll"]]),
        event("invoke", "send", 2, 4, [["send", 1, 20]]),
        event("info", "send", 2, 5, [["send", 1, 20]], error="timeout"),
        event("invoke", "crash", 3, 6),
    )
    assert history == [
        Operation(1, "assign", 0.5, 1.5, Outcome.OK, keys=("0", "1")),
        Operation(2, "send", 1, 2, Outcome.OK, (Send("0", "17", 41), Send("0", "18"))),
        Operation(1, "txn", 2.5, 3, Outcome.FAIL, (Poll("0", ((41, "17"),)), Poll("1"), Send("1", "19")), rebalanced=("1",)),
        Operation(2, "send", 4, 5, Outcome.UNKNOWN, (Send("1", "20"),)),
        Operation(1, "poll", 3.5, None, Outcome.UNKNOWN),
    ]


def test_events_without_times_go_by_their_places(tmp_path: Path) -> None:
    """Hand-made files often have none, nor invocations."""
    (operation,) = read(tmp_path, {"type": "ok", "f": "send", "process": 0, "value": [["send", "x", [0, "a"]]]})
    assert operation == Operation(0, "send", 1.0, 1.0, Outcome.OK, (Send("x", "a", 0),))


BAD_EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "another type": (event("done", "send", 1, 2), '"type" is "done"; it must be one of invoke, ok, fail, info'),
    "a time that is no number": (
        event("ok", "send", 1, 2) | {"time": "now"},
        '"time" is "now"; it must be a number of nanoseconds',
    ),
    "two invocations": (event("invoke", "send", 1, 2), "process 1 invokes again before the completion of"),
    "a completion before its invocation": (event("ok", "send", 1, 0.25), "completed 0.25 s, before it was invoked"),
    "a value that is no list": (event("ok", "send", 1, 2, {"a": 1}), '"value" is {"a": 1}; it must be a list'),
    "another step": (event("ok", "send", 1, 2, [["read", 0]]), '"value" holds ["read", 0]; a step must be ["send", KEY'),
    "a poll that is no table": (event("ok", "poll", 1, 2, [["poll", [[0, "a"]]]]), 'or ["poll", {KEY: [[OFFSET, VALUE], ...]}]'),
    "a log of rebalances that is no list": (event("ok", "poll", 1, 2, [], **{"rebalance-log": 1}), '"rebalance-log" is 1'),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_a_bad_event_is_named_with_what_is_allowed(tmp_path: Path, name: str) -> None:
    """As for a bad line of our own format."""
    line, message = BAD_EVENTS[name]
    with pytest.raises(HistoryError) as caught:
        read(tmp_path, event("invoke", "send", 1, 1), line)
    assert "line 2: " in str(caught.value)
    assert message in str(caught.value)
