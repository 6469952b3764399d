"""Bugs in dropping events that come again: what is remembered of them, and when an answer may go out."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

DEDUP: tuple[Mutant, ...] = (
    Mutant(
        name="remembers-what-was-cut",
        breaks="An id goes with its record: else the event is dropped when it comes again, and is nowhere.",
        needs="A leader that falls with an event that only it has.",
        edits=(
            edit(
                "quorumlog.partitions.dedup:Dedup.forget_from",
                "b7c7941c52df",
                ("    self.ids.forget_from(replayed_from)\n", ""),
            ),
        ),
        seeds=40,
        judge="dedup",
    ),
    Mutant(
        name="keeps-cut-chunks",
        breaks="What was saved of records that are cut goes in the same write.",
        needs="A replica that saved, was cut, and starts again.",
        edits=(
            edit(
                "quorumlog.partitions.dedup:Dedup.forget_from",
                "b7c7941c52df",
                ("batch.delete_range(self._keys.event_ids(offset + 1), self._keys.end_of(_KIND))", "pass"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="saves-no-ids",
        breaks="With each snapshot of the producers goes what was learned since the last one.",
        needs="A replica that starts again, and leads.",
        edits=(edit("quorumlog.partitions.dedup:Dedup.put", "da8bae376b11", ("if pairs:", "if not pairs:")),),
        seeds=10,
        judge="dedup",
    ),
    Mutant(
        name="learns-as-a-leader-only",
        breaks="Followers remember what they copy, so that any of them may lead.",
        needs="Another leader, and an event that comes to it again.",
        edits=(
            edit(
                "quorumlog.partitions.log:Log._append_run",
                "e64709efa06b",
                ("if self.dedup is not None:", "if False and self.dedup is not None:"),
            ),
        ),
        seeds=10,
        judge="dedup",
    ),
    Mutant(
        name="answers-before-the-original-is-safe",
        breaks="An event that came before is acknowledged when the record that holds it is committed.",
        needs="A duplicate right behind its original; for clients, a leader that falls then.",
        edits=(
            edit(
                "quorumlog.partitions.duplicates:sift",
                "d9d311d00c66",
                ("Originals(originals[0], max(originals))", "Originals(originals[0], -1)"),
            ),
        ),
        seeds=40,
        judge="dedup",
    ),
)
