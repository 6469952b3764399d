"""What the book of a group makes of what members were told."""

import pytest

from .groups import EVERYBODY, GroupBook
from .sight import Violation

KEY = ("t", 0)
OTHER = ("t", 1)


def told(book: GroupBook, member: str, at: float, *, node_id: int = 1, asked_at: float | None = None) -> None:
    book.on_told(member, [KEY], node_id=node_id, asked_at=at - 0.1 if asked_at is None else asked_at, now=at)


def test_who_was_shown_to_own_after_another_was_told_is_a_second_owner() -> None:
    """Seen when the answer comes."""
    book = GroupBook("g")
    told(book, "a", 1.0)
    told(book, "b", 2.0)
    book.on_shown("a", node_id=1, asked_at=1.5)
    assert book.owners(KEY) == ["a", "b"]
    with pytest.raises(Violation, match=r"one-owner-at-a-time: group g: b was told at 2.000 s that it has t-0; a has it since"):
        book.on_shown("a", node_id=1, asked_at=2.5)


def test_who_was_silent_may_have_been_thrown_out() -> None:
    """Nothing was shown since the other was told."""
    book = GroupBook("g")
    told(book, "a", 1.0)
    book.on_shown("a", node_id=1, asked_at=1.9)
    told(book, "b", 2.0)
    book.on_shown("b", node_id=1, asked_at=3.0)


def test_who_has_given_up_owns_no_more() -> None:
    book = GroupBook("g")
    told(book, "a", 1.0)
    book.on_given_up("a", [KEY])
    told(book, "b", 2.0)
    book.on_shown("a", node_id=1, asked_at=2.5)
    assert book.owners(KEY) == ["b"]


def test_a_coordinator_of_the_past_proves_nothing_by_heartbeats() -> None:
    """But by a commit, which is in the log."""
    book = GroupBook("g")
    told(book, "a", 1.0, node_id=1)
    told(book, "b", 2.0, node_id=2)
    book.on_shown("a", node_id=1, asked_at=2.5)
    with pytest.raises(Violation, match="one-owner-at-a-time"):
        book.on_shown("a", node_id=EVERYBODY, asked_at=2.5)


def test_answers_that_cross_prove_nothing_until_both_are_shown() -> None:
    """Either may have been given the partition first, and have lost it since."""
    book = GroupBook("g")
    told(book, "a", 1.0, asked_at=0.5)
    told(book, "b", 1.1, asked_at=0.6)
    book.on_shown("a", node_id=EVERYBODY, asked_at=1.5)
    with pytest.raises(Violation, match="one-owner-at-a-time"):
        book.on_shown("b", node_id=EVERYBODY, asked_at=1.5)


def test_assignments_of_a_generation_are_disjoint() -> None:
    """Of another generation they need not be; a static member's next process is told the same."""
    book = GroupBook("g")
    book.on_assigned("a", 1, [KEY], node_id=1, asked_at=1.0, now=1.1)
    book.on_assigned("a", 1, [KEY], node_id=1, asked_at=2.0, now=2.1)
    book.on_assigned("b", 2, [KEY], node_id=1, asked_at=3.0, now=3.1)
    with pytest.raises(Violation, match="one-owner-a-generation: group g: in generation 2 both b and a were assigned t-0"):
        book.on_assigned("a", 2, [OTHER, KEY], node_id=1, asked_at=4.0, now=4.1)


def test_a_generation_never_comes_back() -> None:
    """Where the same node said more before; another may not know."""
    book = GroupBook("g")
    book.on_assigned("a", 5, [], node_id=1, asked_at=1.0, now=1.1)
    book.on_assigned("b", 4, [], node_id=1, asked_at=1.0, now=1.2)
    book.on_assigned("b", 4, [], node_id=2, asked_at=2.0, now=2.2)
    with pytest.raises(Violation, match=r"generation 4 was told to one that asked at 2\.000 s, after 5"):
        book.on_assigned("b", 4, [], node_id=1, asked_at=2.0, now=2.2)


def test_an_epoch_never_comes_back() -> None:
    """Neither a member's, nor that of one who joins, which is logged: no coordinator of the past can tell it."""
    book = GroupBook("g")
    book.on_joined("a", 3, node_id=1, asked_at=1.0, now=1.1)
    book.on_epoch("a", 4, node_id=1, now=2.0)
    book.on_joined("b", 3, node_id=1, asked_at=1.0, now=3.0)
    with pytest.raises(Violation, match="generations-rise: group g: epoch 3"):
        book.on_joined("c", 3, node_id=2, asked_at=2.5, now=3.0)
    with pytest.raises(Violation, match="a was in epoch 4 and is told 3"):
        book.on_epoch("a", 3, node_id=2, now=3.0)


def test_a_commit_of_an_old_generation_is_refused() -> None:
    book = GroupBook("g")
    book.on_assigned("a", 5, [], node_id=1, asked_at=1.0, now=1.1)
    book.on_processed(KEY, [0])
    book.on_commit(KEY, "x", 1, is_of_member=True, now=1.05)
    book.on_committed(KEY, "x", generation=4, asked_at=1.05, now=2.0)
    book.on_commit(KEY, "y", 1, is_of_member=True, now=1.5)
    with pytest.raises(Violation, match="old-generations-are-refused"):
        book.on_committed(KEY, "y", generation=4, asked_at=1.5, now=2.0)


def test_what_was_skipped_is_told_before_it_is_committed() -> None:
    """By whomever in the group the rest was processed."""
    book = GroupBook("g")
    book.on_processed(KEY, [2, 3])
    book.on_processed(KEY, [0])
    with pytest.raises(Violation, match=r"nothing-is-skipped: .* of which all was processed below 1 only"):
        book.on_commit(KEY, "x", 4, is_of_member=True, now=1.0)
    book.on_processed(KEY, [1])
    book.on_commit(KEY, "x", 4, is_of_member=True, now=1.0)


def test_a_forgotten_commit_is_told() -> None:
    """At once, or when all is over."""
    book = GroupBook("g")
    book.on_commit(KEY, "x", 4, is_of_member=False, now=1.0)
    book.on_committed(KEY, "x", generation=-1, asked_at=1.0, now=1.1)
    book.on_fetched(KEY, "x", 4, asked_at=2.0, now=2.1)
    book.finish()
    with pytest.raises(Violation, match="commits-stay: group g, t-0: asked at 2"):
        book.on_fetched(KEY, "", -1, asked_at=2.0, now=2.1)
    with pytest.raises(Violation, match="commits-stay: group g, t-0"):
        book.finish()
