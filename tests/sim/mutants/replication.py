"""Bugs in replication: what counts as committed, who is in sync, where a follower's log is cut."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

CORE = "quorumlog.partitions.replica:ReplicaCore"
PARTITION = "quorumlog.partitions.partition:Partition"
FETCHER = "quorumlog.node.replication_follower:ReplicaFetcher"

_SMALLEST = "committed = min(self._flushed_offset_of(node) for node in {self.node_id, *self.effective_isr})"
_FORGET_FOLLOWERS = "self._followers = {node: _Follower() for node in replicas if node != self.node_id}"
_KEEP_FOLLOWERS = (
    "self._followers = {node: self._followers.get(node) or _Follower() for node in replicas if node != self.node_id}"
)

REPLICATION: tuple[Mutant, ...] = (
    Mutant(
        name="commits-on-its-own-flush",
        breaks="The high watermark is the smallest flushed offset over the in-sync set, not the leader's own.",
        needs="Any record, looked at between the leader's sync and a follower's; for clients, the leader's end in that moment.",
        edits=(edit(f"{CORE}._advance", "421b915f4405", (_SMALLEST, "committed = self.flushed_offset")),),
        seeds=40,
    ),
    Mutant(
        name="commits-on-a-majority",
        breaks="Every member of the in-sync set has flushed what is committed; a majority is not enough.",
        needs="Three in sync, one slower than the others (a slow link or disk); for clients, the slow one elected.",
        edits=(
            edit(
                f"{CORE}._advance",
                "421b915f4405",
                (
                    _SMALLEST,
                    "flushed = sorted(self._flushed_offset_of(node) for node in {self.node_id, *self.effective_isr})\n"
                    "    committed = flushed[(len(flushed) - 1) // 2]",
                ),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="commits-its-unflushed-end",
        breaks="The leader counts itself with what it has synced, as it counts others.",
        needs="A leader whose sync is slower than a follower's round; for clients, its power cut then, and its election "
        "afterwards.",
        edits=(edit(f"{CORE}._flushed_offset_of", "79cd8ddc2715", ("return self.flushed_offset", "return self.log_end_offset")),),
        seeds=40,
    ),
    Mutant(
        name="ignores-silent-members",
        breaks="A member of the in-sync set of which the leader knows nothing yet holds the high watermark back.",
        needs="An election by the fall of a leader, with a member that lacks the end of the new leader's log and comes late.",
        edits=(
            edit(
                f"{CORE}._advance",
                "421b915f4405",
                (
                    _SMALLEST,
                    "offsets = [self._flushed_offset_of(node) for node in {self.node_id, *self.effective_isr}]\n"
                    "    committed = min(offset for offset in offsets if offset != UNKNOWN_OFFSET)",
                ),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="commits-below-min-insync",
        breaks="Nothing is committed while the in-sync set has fewer than min.insync.replicas members (KIP-966).",
        needs="min.insync.replicas=2 and a leader that goes on alone with records appended before the others left; for "
        "clients, its end and the election of an eligible replica.",
        edits=(edit(f"{CORE}._advance", "421b915f4405", (" or len(self.isr) < self.min_insync_replicas", "")),),
        seeds=40,
    ),
    Mutant(
        name="acknowledges-before-the-sync",
        breaks="A follower acknowledges what it has synced.",
        needs="A follower's sync that takes longer than the way of an acknowledgment; for clients, power cuts of all, or of "
        "it followed by its election.",
        edits=(
            edit(
                f"{FETCHER}._apply",
                "c2b7fca03246",
                (
                    "self._replicas.on_fetched(partition)",
                    "self._replicas.on_fetched(partition)\n        self.acknowledge(partition)",
                ),
            ),
            edit(
                f"{FETCHER}._next_message",
                "cbc29c902725",
                ("flushed_offset=partition.flushed_offset", "flushed_offset=partition.log_end_offset"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="keeps-old-acknowledgments",
        breaks="What was acknowledged in another epoch proves nothing in this one (rule 3).",
        needs="A node that leads, loses the leadership and gets it back in one life, while a follower's log is cut in "
        "between; or whose follower comes back with less than it had. Leaders that move often, uneven links.",
        edits=(
            edit(f"{CORE}.lead", "e113fa503e66", (_FORGET_FOLLOWERS, _KEEP_FOLLOWERS)),
            edit(f"{CORE}.follow", "0f20d5e526d8", ("self._followers = {}", "pass")),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="counts-the-smaller-set",
        breaks="While a change of the in-sync set is under way, whoever it would add counts already.",
        needs="A replica that joins under load: the controller has decided, the leader has not heard of it yet.",
        edits=(edit(f"{CORE}.effective_isr", "a2cf97fa4b31", ("{*self.isr, *self._proposed}", "set(self.isr)")),),
        seeds=40,
    ),
    Mutant(
        name="counts-the-proposed-set",
        breaks="While a change of the in-sync set is under way, whoever it would remove still counts.",
        needs="A leader that proposes to go on without a slow follower, and the time until the controller's decision is back.",
        edits=(
            edit(f"{CORE}.effective_isr", "a2cf97fa4b31", ("{*self.isr, *self._proposed}", "set(self._proposed or self.isr)")),
        ),
        seeds=40,
    ),
    Mutant(
        name="forgets-a-proposal",
        breaks="A proposed in-sync set without an answer may still be decided, and goes on counting.",
        needs="A leader that reaches the controller late, by more than the proposal timeout, while a follower joins: a cut "
        "on the way to the controller that delays instead of losing, or an answer that is lost.",
        edits=(
            edit(
                f"{CORE}.isr_wanted",
                "e4c13dd205c3",
                ("        return None\n    wanted", "        return None\n    self._forget_proposals()\n    wanted"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="joins-too-early",
        breaks="The in-sync set grows only by a follower that has all that is committed (rule 4).",
        needs="A follower that catches up (after a crash, a pause, a cut) while records keep coming.",
        edits=(
            edit(
                f"{CORE}._may_join",
                "72c0aaa4d505",
                ("reached = max(self.high_watermark, self._epoch_start_offset)", "reached = 0"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="believes-a-mark-beyond-its-log",
        breaks="A follower's high watermark is at most the end of its own log.",
        needs="A follower far behind (after a crash, while records keep coming), elected or asked before it has caught up; "
        "records that come in several messages.",
        edits=(
            edit(
                f"{CORE}.on_leader_high_watermark",
                "5d8e8a670d23",
                ("known = min(high_watermark, self.log_end_offset)", "known = high_watermark"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="truncates-to-its-high-watermark",
        breaks="A follower cuts where its log parts from the leader's, not at its own high watermark (KIP-101).",
        needs="Any change of leader under load: a follower's high watermark is always a little old.",
        edits=(
            edit(
                f"{PARTITION}.apply_state",
                "3772cf007df6",
                (
                    "        self._replica.follow(leader_epoch=state.leader_epoch, replicas=state.replicas, isr=state.isr)\n",
                    "        self._replica.follow(leader_epoch=state.leader_epoch, replicas=state.replicas, isr=state.isr)\n"
                    "        if role is Role.FOLLOWER and self.damage is None:\n"
                    "            self._truncate(max(self._replica.high_watermark, self._log.start_offset))\n",
                ),
            ),
            edit(
                f"{PARTITION}.on_follower_position",
                "4e92d6db9d6e",
                ("diverging = self._divergence(position.last_epoch, position.fetch_offset)", "diverging = None"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="fetches-without-comparing",
        breaks="When the epoch rises, a follower is cut to match before it fetches (rule 1).",
        needs="A leader that falls with records which not all others have, and comes back as a follower; or two followers "
        "of which one had more.",
        edits=(
            edit(
                f"{PARTITION}.on_follower_position",
                "4e92d6db9d6e",
                ("diverging = self._divergence(position.last_epoch, position.fetch_offset)", "diverging = None"),
            ),
        ),
        seeds=50,
    ),
    Mutant(
        name="compares-only-the-epoch",
        breaks="Two logs part where an epoch ends earlier in one of them, also when both hold that epoch.",
        needs="As above, with records of the same epoch on both sides.",
        edits=(
            edit(
                f"{PARTITION}._divergence", "b001a0b7c743", ("epoch < last_epoch or own_end < end_offset", "epoch < last_epoch")
            ),
        ),
        seeds=50,
    ),
    Mutant(
        name="never-cuts",
        breaks="A follower that is told where its log parts from the leader's cuts it there.",
        needs="A leader that falls with records which its successor lacks: it never gets into the in-sync set again.",
        edits=(edit(f"{PARTITION}.on_diverging", "f55d32d87062", ("self._truncate(max(offset, log.start_offset))", "return")),),
        seeds=40,
    ),
    Mutant(
        name="writes-the-old-epoch",
        breaks="A leader writes its own epoch into what it appends.",
        needs="A change of leader that leaves a follower with records which the new leader lacks.",
        edits=(
            edit(
                f"{PARTITION}.append",
                "1d9e7783386f",
                ("leader_epoch=self._replica.leader_epoch)", "leader_epoch=max(0, log.epochs.latest))"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="believes-an-old-flush",
        breaks="A flush that began before a cut says nothing about what was written after the cut.",
        needs="A slow sync on a follower during which it is cut and fetches again: an election while disks are slow.",
        edits=(
            edit(
                f"{PARTITION}.end_flush",
                "f80e918d490a",
                ("min(flush.end_offset, self._flush_limit)", "min(flush.end_offset, self._log.end_offset)"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="reuses-stream-handles",
        breaks="What was sent for an earlier beginning of a stream's partition is not taken for a later one's.",
        needs="Several partitions on one stream whose leaders move while records are on their way (slow links, small "
        "records, equal offsets); topics deleted and made meanwhile.",
        edits=(
            edit(
                f"{FETCHER}._add_begin",
                "07cf87a5ad17",
                (
                    "handle = self._next_handle\n    self._next_handle += 1\n",
                    "handle = next(free for free in range(len(self._partitions) + 1) if free not in self._partitions)\n",
                ),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
)
