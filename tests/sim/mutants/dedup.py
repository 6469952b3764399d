"""Bugs where events that come again are dropped: one that is swallowed though its first record is gone, or stored twice."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

STATE = "quorumlog.partitions.dedup:Dedup"

DEDUP: tuple[Mutant, ...] = (
    Mutant(
        name="keeps-ids-of-what-was-cut",
        breaks="An event whose record was cut off is taken when it comes again.",
        needs="A truncation, and the same event again.",
        edits=(edit(f"{STATE}.forget_from", "b7c7941c52df", ("self.ids.forget_from(replayed_from)", "pass")),),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="saves-ids-of-what-was-cut",
        breaks="The same, of ids that had been saved.",
        needs="A truncation behind a snapshot, a log that grows as long again, a new start, and the same event again.",
        edits=(
            edit(
                f"{STATE}.forget_from",
                "b7c7941c52df",
                ("batch.delete_range(self._keys.event_ids(offset + 1), self._keys.end_of(_KIND))", "pass"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="answers-before-the-originals",
        breaks="An event that came again is acknowledged when its first record is committed.",
        needs="A batch of two repeated events, of which the second one's record is not committed.",
        edits=(
            edit(
                "quorumlog.partitions.duplicates:sift",
                "d9d311d00c66",
                ("Originals(originals[0], max(originals))", "Originals(originals[0], originals[0])"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
)
