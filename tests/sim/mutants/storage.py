"""Bugs on the way to the disk and back: syncs, checkpoints, recovery, index, producers, retention."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

PARTITION = "quorumlog.partitions.partition:Partition"
LOG = "quorumlog.partitions.log"
FLUSH = "quorumlog.partitions.flush"
RECOVERY = "quorumlog.partitions.recovery:_Recovery"

STORAGE: tuple[Mutant, ...] = (
    Mutant(
        name="skips-the-fsync",
        breaks="What is said to be flushed is on the disk.",
        needs="Any record, if the disk is asked; for clients, power cuts of all, or of one that leads afterwards.",
        edits=(edit(f"{FLUSH}:sync_together", "0f408dc094cb", ("for file in flush.files]", "for file in flush.files[:0]]")),),
        seeds=40,
    ),
    Mutant(
        name="leaves-the-name-unsynced",
        breaks="A new segment is durable when its name is, too.",
        needs="A partition that was just made, or a log that just rolled; for clients, a power cut then.",
        edits=(
            edit(
                f"{FLUSH}:sync_together",
                "0f408dc094cb",
                ("for directory in flush.directories)", "for directory in flush.directories[:0])"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="syncs-one-segment-only",
        breaks="A flush syncs every segment that was written since the last one.",
        needs="A log that rolls between two flushes (small segments, a slow sync); for clients, a power cut then.",
        edits=(edit(f"{LOG}:Log.take_unsynced", "7e50b1ffc6a2", ("in self._unsynced]", "in list(self._unsynced)[-1:]]")),),
        seeds=40,
    ),
    Mutant(
        name="checkpoint-ahead-of-the-sync",
        breaks="A checkpoint speaks of what is synced.",
        needs="Records that come during a sync, and a power cut after it: the replica takes itself for damaged without any "
        "fault of its disk; where all are cut at once, nobody is left to repair from.",
        edits=(
            edit(
                f"{PARTITION}.end_flush",
                "f80e918d490a",
                (
                    "    if self._is_closed:\n",
                    "    batch = WriteBatch()\n"
                    "    mark = min(self._replica.high_watermark, self._log.end_offset)\n"
                    "    put_checkpoint(batch, self._log.keys, Checkpoint(self._log.end_offset, mark, self._log.truncations))\n"
                    "    self._log.store.write(batch)\n"
                    "    if self._is_closed:\n",
                ),
            ),
        ),
        seeds=120,
        judge="trio",
    ),
    Mutant(
        name="recovery-skips-the-crc",
        breaks="After a crash only batches whose CRC matches are taken for sound.",
        needs="A power cut that tears an unsynced tail in the middle of a batch (batches larger than a sector), on a follower.",
        edits=(edit(f"{RECOVERY}._scan_from", "813ff3d48b7f", ("verify=True", "verify=False")),),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="recovery-cuts-at-the-checkpoint",
        breaks="What was synced after the last checkpoint is found again after a crash: it may be committed.",
        needs="A power cut that takes the newest checkpoints with it (the store is synced once a second only).",
        edits=(
            edit(
                f"{RECOVERY}._scan_from",
                "813ff3d48b7f",
                (
                    "                self._note(found,",
                    "                if found.header.base_offset >= self.recovery_point:\n"
                    "                    raise DamagedBatch(current, found.position, expected, 'behind the checkpoint')\n"
                    "                self._note(found,",
                ),
            ),
        ),
        seeds=80,
    ),
    Mutant(
        name="recovery-does-not-sync",
        breaks="What recovery takes over is synced before it counts as flushed: the process before may not have done it.",
        needs="kill -9 between an append and its sync, and a new start; for clients, a power cut soon after.",
        edits=(edit(f"{RECOVERY}._save_scanned", "7a2e72b6bb18", ("segment.file.sync()", "segment.file.size()")),),
        seeds=70,
        judge="trio",
    ),
    Mutant(
        name="takes-damage-for-a-torn-tail",
        breaks="Bytes that were synced and are not sound any more are never cut silently by a member of the in-sync set.",
        needs="Flipped bits near the end of a log (between the last producer snapshot and the recovery point), and a crash "
        "of that node with a new start.",
        edits=(
            edit(
                f"{RECOVERY}._end_at",
                "2b064d3724f1",
                (
                    "is_damage = bad.offset < self.promised_end or "
                    "(self.checkpoint is None and self._goes_on(segments, at, bad))",
                    "is_damage = False",
                ),
            ),
            edit(
                f"{RECOVERY}._open_segments",
                "9c3bb9fe88f5",
                ("if log.end_offset < self.promised_end and self.damage is None:", "if False:"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="stored-index-off-by-one",
        breaks="The index leads to the last entry at or below an offset.",
        needs="A node that restarts and leads: what it reads of its index then comes from the store. A consumer that reads "
        "from the beginning, or a follower far behind; an index entry every few batches.",
        edits=(
            edit(
                "quorumlog.partitions.index:_Block.floor",
                "7fe4d4094926",
                (
                    "bisect_right(self.deltas, offset - self.segment_base) - 1",
                    "min(bisect_right(self.deltas, offset - self.segment_base), len(self.deltas) - 1)",
                ),
            ),
        ),
        seeds=50,
    ),
    Mutant(
        name="follower-misplaces-its-index",
        breaks="A follower's index says where in the segment's file a batch lies, not where in the message.",
        needs="A follower that took several messages into one segment, then leads, and is read from the middle of its log.",
        edits=(
            edit(
                f"{LOG}:Log._append_run",
                "e64709efa06b",
                ("offset_in_file = active.size - first.position", "offset_in_file = -first.position"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="keeps-the-cut-epochs",
        breaks="Epochs whose records are cut are forgotten: they tell where logs part.",
        needs="A follower whose whole last epoch is cut: a leader that falls soon after its election with records nobody has.",
        edits=(edit(f"{LOG}:Log.forget_from", "b7495e9cb142", ("self.epochs.truncate(offset, batch)", "pass")),),
        seeds=40,
    ),
    Mutant(
        name="retention-above-the-mark",
        breaks="Retention deletes nothing that is not committed.",
        needs="Small segments and a small retention.bytes or retention.ms, while an in-sync follower holds the high "
        "watermark back for longer than a segment.",
        edits=(
            edit(
                "quorumlog.partitions.retention:retained_from",
                "e9cea7f2880c",
                ("segment.next_offset > high_watermark or not (is_too_many", "not (is_too_many"),
            ),
        ),
        seeds=80,
    ),
    Mutant(
        name="appends-a-repeat",
        breaks="A batch that an idempotent producer sends again is not appended again.",
        needs="A producer that lost an answer (its connection, or its leader) and sends again what had been appended.",
        edits=(
            edit(
                "quorumlog.partitions.producers:ProducerStates.check",
                "ef2359a010b6",
                (
                    "if batch.first_sequence == header.base_sequence and batch.last_sequence == header.last_sequence:\n"
                    "                return batch\n",
                    "if header.base_sequence <= batch.last_sequence:\n                return None\n",
                ),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="does-not-load-the-producers",
        breaks="What was known of producers is known after a new start.",
        needs="A node that restarts, then leads, and gets a batch again that was appended before (a leader falls while "
        "answers are on their way).",
        edits=(
            edit(f"{LOG}:Log.restore_producers", "252db14bf9ea", ("self.producers.restore(value)", "pass")),
            edit(f"{RECOVERY}._restore_snapshot", "1f4a2ed0d6aa", ("self.log.producers.restore(snapshot[1])", "pass")),
        ),
        seeds=40,
    ),
    Mutant(
        name="keeps-the-cut-producers",
        breaks="With the records of a log that is cut go the sequences of their producers: sent again, they must be appended.",
        needs="A leader that falls out of favour with several batches of one producer that nobody has, is cut, and leads "
        "again before the producer has sent them all to the leader between. Leaders that move often, producers with "
        "requests under way.",
        edits=(edit(f"{LOG}:Log.truncate", "06aa53fb9527", ("self.restore_producers(wall_ms)", "pass")),),
        seeds=140,
    ),
    Mutant(
        name="reuses-a-directory",
        breaks="A topic that is made again shares nothing with the deleted one of that name.",
        needs="A topic with records that is deleted and made again at once, or while a node is down.",
        edits=(
            edit(
                f"{LOG}:directory_name",
                "badb1731a63a",
                ("{tp.partition}-{topic_id.hex}", "{tp.partition}"),
            ),
        ),
        seeds=40,
    ),
)
