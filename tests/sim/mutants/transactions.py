"""Bugs in transactions: readers who see too much, ends that come too early or are forgotten, producers that are not shut out."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

PARTITION = "quorumlog.partitions.partition:Partition"
DECISIONS = "quorumlog.coordinators.transactions:Transactions"
STATE = "quorumlog.coordinators.transaction_state:Transaction"

TRANSACTIONS: tuple[Mutant, ...] = (
    Mutant(
        name="reads-open-transactions",
        breaks="Whoever reads what is committed reads below the last stable offset.",
        needs="A reader at a transaction that is open, and aborts.",
        edits=(
            edit(
                f"{PARTITION}.last_stable_offset",
                "734535b4c07b",
                ("return high_watermark if first is None else min(", "return high_watermark if True else min("),
            ),
        ),
        seeds=20,
        judge="transactions",
    ),
    Mutant(
        name="tells-no-aborted-transactions",
        breaks="Readers of committed records are told which transactions were aborted.",
        needs="A transaction that is aborted.",
        edits=(edit(f"{PARTITION}.aborted_between", "f708b9972fa1", ("self._log.aborted.between(start, end)", "()")),),
        seeds=10,
        judge="transactions",
    ),
    Mutant(
        name="sends-markers-before-the-decision-is-committed",
        breaks="Partitions hear of an end when it cannot change any more.",
        needs="A coordinator that falls with a decision that only it has, and its successor decides otherwise.",
        edits=(
            edit(
                "quorumlog.node.coordinator_shard:LedShard._perform_committed",
                "771ae95cd62e",
                ("self._effects[0][0] <= self.partition.high_watermark", "True"),
            ),
        ),
        seeds=400,
        judge="transactions",
    ),
    Mutant(
        name="forgets-what-was-decided",
        breaks="The next coordinator carries out what was decided.",
        needs="A coordinator that falls between the decision and the last marker.",
        edits=(edit(f"{DECISIONS}.on_loaded", "c276fa016f42", ("if transaction.state.is_ending:", "if False:")),),
        seeds=40,
        judge="transactions",
    ),
    Mutant(
        name="fences-nobody",
        breaks="A producer whose transaction the coordinator aborts is shut out by the next epoch.",
        needs="A second instance of a transactional id, or a transaction that takes too long, and a first that goes on.",
        edits=(edit(f"{STATE}.fenced", "04630c8f24c9", ("epoch=self.epoch + 1,", "")),),
        seeds=40,
        judge="transactions",
    ),
    Mutant(
        name="counts-offsets-before-the-end",
        breaks="Offsets of a transaction count when it commits.",
        needs="A mover that aborts, or falls, when it has committed its offsets.",
        edits=(
            edit(
                "quorumlog.coordinators.offsets:Offsets.replay_pending",
                "39d1aa799f82",
                ("self._note_group(record.group_id)", "self.replay(record)"),
            ),
        ),
        seeds=20,
        judge="transactions",
    ),
    Mutant(
        name="takes-late-writes",
        breaks="The first batch of a transaction is appended when the coordinator vouches for it.",
        needs="A batch that is delayed until its transaction has ended by another hand: it begins one that nobody will end.",
        edits=(
            edit(
                f"{PARTITION}.append",
                "1d9e7783386f",
                ("if header.is_transactional and not self._is_in_transaction(header):", "if False:"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="forgets-aborts-in-recovery",
        breaks="A replica that was scanned after a crash knows the aborted transactions that its snapshot is behind.",
        needs="A crash behind a snapshot of the producers.",
        edits=(
            edit(
                "quorumlog.partitions.recovery:_Recovery._scan",
                "c74463a5d01a",
                (", replayed_from=max(entry.offset, snapshot_offset)", ""),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
)
