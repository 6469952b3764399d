"""The harness of the client matrix, without clients: a failure is a failed cell, and the page is written as found."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.driver import NotSupported
from tests.clients.matrix import BEGIN, END, Cell, Matrix, Outcome
from tests.clients.run import Struck, judged, through


def fails() -> None:
    raise AssertionError("two where one was due")


def is_not_supported() -> None:
    raise NotSupported("no such call")


@pytest.mark.parametrize(
    ("action", "outcome", "text"),
    [
        (lambda: None, Outcome.PASSED, ""),
        (is_not_supported, Outcome.NOT_SUPPORTED, "no such call"),
        (fails, Outcome.FAILED, "AssertionError: two where one was due"),
    ],
)
def test_what_an_action_does_is_its_outcome(action, outcome, text):
    cell = judged("section", "title", "client", action)
    assert (cell.outcome, cell.text[: len(text)]) == (outcome, text)


def test_whoever_fails_before_the_kill_holds_nobody_up():
    """All meetings are kept, and what was opened is closed."""

    def run() -> Iterator[None]:
        fails()
        yield

    barrier, cleared = threading.Barrier(2), threading.Event()
    other = threading.Thread(target=lambda: [barrier.wait(10) for _ in range(3)])
    other.start()
    with pytest.raises(AssertionError, match="two where one was due"):
        through(Struck("client", run, cleared.set), barrier)
    other.join(10)
    assert not other.is_alive()
    assert cleared.is_set()


def test_only_what_is_between_the_marks_is_written(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    cells = [Cell("produce", "acks=all", "java", Outcome.PASSED), Cell("produce", "acks=all", "kafkajs", Outcome.FAILED)]
    matrix = Matrix("quorumlog", {"java": "4.3.1", "kafkajs": "2.2.4"}, cells)
    for _ in range(2):
        matrix.write(page, [["java", "kafkajs"]])
    table = "|  | java 4.3.1 | kafkajs 2.2.4 |\n| :-- | :-: | :-: |\n| **produce** |  |  |\n| acks=all | passed | **failed** |\n"
    assert page.read_text() == f"before\n{BEGIN}\n{table}\n{END}after\n"
    assert matrix.failed == cells[1:]
