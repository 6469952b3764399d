"""`quorumlog check`: what it prints, what it returns, and what it says of files that are no histories."""

import json
from pathlib import Path

import pytest

from quorumlog.checker.history import HistoryWriter
from tests.checker.given import given
from tests.cli.conftest import Run

LOST = "1 send ok orders-0:a@0 orders-0:b@1 orders-0:c@2 orders-0:d@3 \n 2 poll ok orders-0:[1b,2c,3d] \n 1 send ok orders-1:e"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def write(path: Path, text: str) -> None:
    with HistoryWriter(path) as writer:
        for operation in given(text):
            writer.write(operation)


def test_a_clean_history_is_status_0(run: Run, path: Path) -> None:
    """One line says what was judged."""
    write(path, "1 send ok x:a@0 \n 2 poll ok x:[0a]")
    result = run("check", path)
    assert (result.exit_code, result.output) == (0, "2 operations of 2 processes: no anomalies\n")


def test_an_anomaly_is_status_1_and_shown_with_the_least_of_the_history(run: Run, path: Path) -> None:
    """What, where, the operations involved, and of them only the records that matter."""
    write(path, LOST)
    result = run("check", path)
    assert result.exit_code == 1
    assert result.output == (
        "lost-write: 1 (a committed value lies before the last one that was read, and nobody read it)\n"
        "  orders-0: 'a' at offset 0 of operation 0 was read by nobody, though 'd' at offset 3 was read by operation 1\n"
        "    operation 0: process 1, 0.000 s to 0.500 s, send ok: sent 'a' to orders-0 at 0; sent 'd' to orders-0 at 3\n"
        "    operation 1: process 2, 1.000 s to 1.500 s, poll ok: polled of orders-0 'd' at 3\n"
        "\n"
        "note: keys with acknowledged values that nobody polled: 2 (orders-0, orders-1). They are not called unseen, since no"
        " reader started over after the acknowledgment and read to the known end.\n"
        "3 operations of 2 processes: 1 anomaly\n"
    )


def test_json_has_the_same(run: Run, path: Path) -> None:
    """For programs: kinds, keys, messages, places in the history, and the excerpt in the history's own format."""
    write(path, LOST)
    result = run("check", path, "--output", "json")
    assert result.exit_code == 1
    verdict = json.loads(result.output)
    assert (verdict["clean"], verdict["operations"], verdict["allowed"], len(verdict["notes"])) == (False, 3, [], 1)
    (anomaly,) = verdict["anomalies"]
    assert (anomaly["kind"], anomaly["key"], anomaly["operations"]) == ("lost-write", "orders-0", [0, 1])
    assert [line["steps"] for line in anomaly["excerpt"]] == [
        [{"send": "orders-0", "value": "a", "offset": 0}, {"send": "orders-0", "value": "d", "offset": 3}],
        [{"poll": "orders-0", "records": [[3, "d"]]}],
    ]


def test_what_is_allowed_is_told_and_status_0(run: Run, path: Path) -> None:
    """G0 and int-send-skip are how Kafka's writes are."""
    write(path, "1 send ok x:a@0 y:b@1 \n 2 send ok x:c@1 y:d@0")
    result = run("check", path)
    assert result.exit_code == 0
    assert "allowed: 1 G0 (operations whose sends lie before each other's, in a circle)\n" in result.output


def test_many_of_a_kind_are_counted(run: Run, path: Path) -> None:
    """--limit bounds what is printed, and the rest is counted."""
    write(path, "1 send ok x:a@0 x:b@1 x:c@2 x:d@3 \n 2 poll ok x:[3d]")
    result = run("check", path, "--limit", 2)
    assert result.output.count("was read by nobody") == 2
    assert "lost-write: 3 (" in result.output
    assert "  and 1 more; --limit shows them\n" in result.output


def test_a_file_that_is_no_history_is_status_2(run: Run, path: Path) -> None:
    """One line: the file, the line, what was seen and what is allowed."""
    path.write_text('{"kind": "write"}\n', encoding="utf-8")
    result = run("check", path)
    assert result.exit_code == 2
    assert result.output == (
        f'Error: {path}, line 1: "kind" is "write"; it must be one of assign, poll, seek, send, subscribe, txn\n'
    )
    assert run("check", path.with_name("absent.jsonl")).exit_code == 2


def test_a_report_is_drawn_beside(run: Run, path: Path) -> None:
    """--report writes the page of the run; a suffix that is neither page nor picture is wrong usage."""
    write(path, LOST)
    assert run("check", path, "--report", path.with_suffix(".html")).exit_code == 1
    assert "lost-write" in path.with_suffix(".html").read_text(encoding="utf-8")
    result = run("check", path, "--report", path.with_suffix(".txt"))
    assert result.exit_code == 2
    assert "a report is an .html or a .png file" in result.output
