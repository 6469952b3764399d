"""Each complaint of a group's watch has a course of events that brings it about, and one beside it that does not."""

import pytest

from quorumlog.checker.history import Operation, Outcome, Send

from .group_watch import GroupWatch, Key

KEY: Key = ("t", 0)
OTHER: Key = ("t", 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        """Later at each look."""
        self.now += 1.0
        return self.now


@pytest.fixture
def watch() -> GroupWatch:
    return GroupWatch("g", "t", 2, Clock())


def read(watch: GroupWatch, member: str, *offsets: int) -> None:
    watch.processed(member, KEY, [(offset, f"v{offset}") for offset in offsets])


def commit(watch: GroupWatch, member: str, token: str, offset: int) -> None:
    asked_at = watch.committing(token, {KEY: offset})
    watch.committed(member, token, {KEY: offset}, asked_at)


def test_one_after_the_other_is_well(watch: GroupWatch) -> None:
    """A partition changes hands, the next one begins where the first has committed, and reads some of it again."""
    watch.told("a", [KEY])
    read(watch, "a", 0, 1, 2)
    commit(watch, "a", "a.1", 2)
    watch.given_up("a", [KEY])
    watch.told("b", [KEY])
    read(watch, "b", 2, 3)
    commit(watch, "b", "b.1", 4)
    watch.told_committed(KEY, "b.1", 4, watch.now())
    assert watch.missing({KEY: 4}) is None
    assert watch.finish() == []


def test_two_owners_at_once(watch: GroupWatch) -> None:
    """Both have commits accepted after the second was told. One that was silent since may have been thrown out."""
    for member in ("a", "b"):
        watch.told(member, [KEY])
    read(watch, "a", 0)
    read(watch, "b", 0)
    commit(watch, "b", "b.1", 1)
    assert watch.complaints == []
    commit(watch, "a", "a.1", 1)
    assert "one-owner-at-a-time" in watch.finish()[0]


def test_a_beginning_before_what_was_committed(watch: GroupWatch) -> None:
    watch.told("a", [KEY])
    read(watch, "a", 0, 1)
    commit(watch, "a", "a.1", 2)
    watch.given_up("a")
    watch.told("b", [KEY])
    read(watch, "b", 0)
    assert watch.finish() == ["group g: b begins at offset 0 of t-0, of which 2 was committed before"]


def test_a_beginning_beyond_what_was_processed(watch: GroupWatch) -> None:
    watch.told("a", [KEY])
    read(watch, "a", 3)
    assert watch.finish() == ["group g: a begins at offset 3 of t-0, of which all was processed below 0 only"]


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_record_that_does_not_come_next(watch: GroupWatch, offset: int) -> None:
    """Skipped, or read again with nothing between."""
    watch.told("a", [KEY])
    read(watch, "a", 0, 1, offset)
    assert watch.finish() == [f"group g: a reads offset {offset} of t-0 where 2 comes next"]


def test_a_commit_beyond_what_was_processed(watch: GroupWatch) -> None:
    watch.told("a", [KEY])
    read(watch, "a", 0)
    commit(watch, "a", "a.1", 2)
    assert "nothing-is-skipped" in watch.finish()[0]


def test_a_forgotten_commit(watch: GroupWatch) -> None:
    """Who asks after the answer is told of an older one, or of none."""
    watch.told("a", [KEY])
    read(watch, "a", 0, 1)
    commit(watch, "a", "a.1", 1)
    commit(watch, "a", "a.2", 2)
    watch.told_committed(KEY, "a.1", 1, watch.now())
    assert "commits-stay" in watch.complaints[0]
    watch.told_committed(KEY, "", -1, watch.now())
    assert "commits-stay" in watch.complaints[1]


def test_a_commit_that_was_sent_twice_may_come_again(watch: GroupWatch) -> None:
    """Its first copy lay in a connection that was cut. (Chaos, seed 685196452: commit 19 was in the log once more behind 23.)"""
    watch.told("a", [KEY])
    read(watch, "a", 0, 1, 2)
    asked_at = watch.committing("a.1", {KEY: 1})
    watch.now()
    watch.now()
    watch.committed("a", "a.1", {KEY: 1}, asked_at)
    commit(watch, "a", "a.2", 3)
    watch.told_committed(KEY, "a.1", 1, watch.now())
    watch.given_up("a")
    watch.told("b", [KEY])
    read(watch, "b", 1)
    assert watch.finish() == []


def test_what_is_missing_at_the_end(watch: GroupWatch) -> None:
    """First what is not processed, then what is not committed."""
    watch.told("a", [KEY, OTHER])
    read(watch, "a", 0, 1)
    assert watch.missing({KEY: 3, OTHER: 0}) == "t-0 is processed to offset 2 of 3"
    assert watch.missing({KEY: 2, OTHER: 0}) == "t-0 is committed to offset 0 of 2"


def test_an_acknowledged_record_that_nobody_processed(watch: GroupWatch) -> None:
    """What was not acknowledged, or is another group's, need not be."""
    watch.told("a", [KEY])
    read(watch, "a", 0)
    sends = [("t-0", "v0", Outcome.OK), ("t-0", "v1", Outcome.OK), ("t-0", "v2", Outcome.UNKNOWN), ("u-0", "v3", Outcome.OK)]
    operations = [Operation(0, "send", 0.0, 1.0, outcome, (Send(key, value),)) for key, value, outcome in sends]
    assert watch.unprocessed(operations) == ["group g: 1 acknowledged records were never processed: ['v1 of t-0']"]
