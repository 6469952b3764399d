"""What readers saw of both topics says whether each record was moved exactly once."""

import pytest

from quorumlog.checker.history import Operation, Outcome, Poll

from .movers import not_once


def read(topic: str, *names: str, outcome: Outcome = Outcome.OK, first: int = 0) -> Operation:
    records = tuple((first + index, name) for index, name in enumerate(names))
    return Operation(1, "poll", 0.0, 1.0, outcome, (Poll(f"{topic}-0", records),))


SOURCE = read("source", "a", "b")


@pytest.mark.parametrize(
    ("operations", "complaint"),
    [
        pytest.param([SOURCE, read("moved", "a>m0.1", "b>m1.7")], None, id="each once"),
        pytest.param([SOURCE, read("moved", "a>m0.1", "b>m1.7"), read("moved", "a>m0.1")], None, id="read twice, moved once"),
        pytest.param([SOURCE, read("moved", "a>m0.1", "the end", "b>m1.7")], None, id="what was not moved there"),
        pytest.param([SOURCE, read("moved", "a>m0.1")], "were never moved: ['b']", id="one is missing"),
        pytest.param(
            [SOURCE, read("moved", "a>m0.1"), read("moved", "b>m0.2", outcome=Outcome.UNKNOWN, first=1)],
            "were never moved: ['b']",
            id="one that nobody has read for certain",
        ),
        pytest.param(
            [SOURCE, read("moved", "a>m0.1", "b>m1.7", "b>m1.8")], "were moved more than once: ['b']", id="in two transactions"
        ),
        pytest.param(
            [SOURCE, read("moved", "a>m0.1", "b>m1.7", "b>m1.7")], "were moved more than once: ['b']", id="twice in one"
        ),
        pytest.param([SOURCE, read("moved", "a>m0.1", "b>m0.1", "c>m0.1")], "came from nowhere: ['c']", id="of nothing"),
    ],
)
def test_each_record_is_moved_exactly_once(operations: list[Operation], complaint: str | None) -> None:
    found = not_once(operations, "source", "moved")
    assert [one.partition("source ")[2] for one in found] == ([] if complaint is None else [complaint])
