"""What `quorumlog groups reset --to` can say, and the offsets that come of it."""

from collections.abc import Mapping
from typing import Any

import pytest
from click import BadParameter, ClickException

from quorumlog.cli.group_resets import Ago, At, Earliest, Exactly, Goal, Latest, Shift, goal, new_offsets

A, B = ("orders", 0), ("orders", 1)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("earliest", Earliest()),
        ("latest", Latest()),
        ("1234", Exactly(1234)),
        ("+5", Shift(5)),
        ("-100", Shift(-100)),
        ("90s", Ago(90)),
        ("15m", Ago(900)),
        ("2h", Ago(7200)),
        ("1d", Ago(86_400)),
        ("2025-01-31T12:00:00Z", At(1_738_324_800_000)),
        ("2025-01-31T13:00+01:00", At(1_738_324_800_000)),
    ],
)
def test_what_can_be_said(text: str, meant: Goal) -> None:
    """Each form has one meaning."""
    assert goal(text) == meant


@pytest.mark.parametrize("text", ["", "first", "5x", "1.5", "--5", "99999999999999999999", "2025-13-01", "h"])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    """The message shows an example of each form."""
    with pytest.raises(BadParameter, match=r"'earliest', 'latest', an offset, a shift like -100, an age like 2h"):
        goal(text)


def moved(wanted: Goal, *, committed: Mapping[tuple[str, int], int] | None = None) -> dict[Any, int]:
    """Logs from 10 to 20 and from 0 to 5; the second has no record after the time 1000."""
    return new_offsets(
        wanted,
        [A, B],
        committed={A: 15, B: 2} if committed is None else committed,
        starts={A: 10, B: 0},
        ends={A: 20, B: 5},
        at_time=lambda timestamp_ms: {A: 12, B: 1} if timestamp_ms < 1000 else {A: 17},
        now_ms=3000,
    )


@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        (Earliest(), 10, 0),
        (Latest(), 20, 5),
        (Exactly(13), 13, 5),
        (Exactly(3), 10, 3),
        (Shift(2), 17, 4),
        (Shift(-10), 10, 0),
        (At(1), 12, 1),
        (At(2000), 17, 5),
        (Ago(1), 17, 5),
        (Ago(3), 12, 1),
    ],
)
def test_offsets_stay_within_the_log(wanted: Goal, first: int, second: int) -> None:
    """What would be outside is moved to the nearer end; where nothing is so new, the end is meant. So does Kafka's tool."""
    assert moved(wanted) == {A: first, B: second}


def test_a_shift_needs_something_to_shift_from() -> None:
    """The partition without a commit is named."""
    with pytest.raises(ClickException, match="orders:1"):
        moved(Shift(1), committed={A: 15})
