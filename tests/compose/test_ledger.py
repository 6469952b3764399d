"""The judge of the compose test sees every kind of broken promise."""

import pytest

from tests.compose.ledger import BrokenPromiseError, Place, Record, compare

ACKNOWLEDGED: dict[int, Place] = {0: (0, 0), 1: (1, 0), 2: (0, 1)}
STORED = [Record(b"a", 0, (0, 0)), Record(b"a", 2, (0, 1)), Record(b"b", 1, (1, 0))]


def test_everything_in_its_place_is_accepted() -> None:
    """A cluster that kept its promises passes, whatever order the partitions are read in."""
    compare(ACKNOWLEDGED, STORED)
    compare(ACKNOWLEDGED, [STORED[2], *STORED[:2]])


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        pytest.param(STORED[:2], "not where they were acknowledged", id="lost"),
        pytest.param([*STORED, Record(b"b", 1, (1, 1))], "there twice", id="twice"),
        pytest.param([STORED[1], STORED[0], STORED[2]], "follows record", id="out of order"),
        pytest.param([*STORED[:2], Record(b"b", 1, (1, 7))], "not where they were acknowledged", id="moved"),
        pytest.param([*STORED, Record(b"c", 9, (2, 0))], "not where they were acknowledged", id="never sent"),
    ],
)
def test_a_broken_promise_is_named(stored: list[Record], complaint: str) -> None:
    """Loss, repetition, disorder, another offset and a record from nowhere are told apart from a kept promise."""
    with pytest.raises(BrokenPromiseError, match=complaint):
        compare(ACKNOWLEDGED, stored)
