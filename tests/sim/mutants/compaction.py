"""Bugs in compaction: what it may not touch, what has to stay, and in which order a new segment replaces old ones."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

COMPACTION: tuple[Mutant, ...] = (
    Mutant(
        name="drops-the-last-of-each-key",
        breaks="The last record of each key stays.",
        needs="Any compaction.",
        edits=(
            edit(
                "quorumlog.partitions.record_filter:RecordFilter._kept",
                "652b0f7190c7",
                ("and offset >= get(", "and offset > get("),
            ),
        ),
        seeds=10,
        judge="compaction",
    ),
    Mutant(
        name="compacts-above-the-mark",
        breaks="What is not committed is not compacted: it may be cut, and what it made obsolete counts again.",
        needs="A leader that closes a segment while its followers lag.",
        edits=(
            edit("quorumlog.partitions.cleaning:dirt_of", "0bdfa66abdc0", ("if segment.next_offset > limit or _is", "if _is")),
        ),
        seeds=40,
        judge="compaction",
    ),
    Mutant(
        name="leaves-a-hole-at-the-end",
        breaks="The last batch of a segment stays, emptied if need be: the log goes on behind it.",
        needs="A batch at the end of a segment whose keys all come again.",
        edits=(
            edit(
                "quorumlog.partitions.record_filter:RecordFilter.left_of",
                "e87edcbb4612",
                ("if not is_last and not self._is_needed(", "if not self._is_needed("),
            ),
        ),
        seeds=20,
        judge="compaction",
    ),
    Mutant(
        name="swaps-before-the-store-knows",
        breaks="A file takes the place of others when the store durably says so.",
        needs="A power cut right after a swap.",
        edits=(edit("quorumlog.partitions.swap:PendingSwap.finish", "f1b7b346f111", ("        self._store.sync()\n", "")),),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="forgets-the-swap-too-early",
        breaks="The note of a swap goes when the names of the replaced files are durably gone.",
        needs="A power cut right after a swap of several segments.",
        edits=(
            edit(
                "quorumlog.partitions.swap:finish_swap",
                "8bddbe2451a1",
                ("    disk.sync_directory(directory)  # also", "    # also"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
)
