"""Bugs in the coordinator of groups: answers too early, shards that outlive their leadership, partitions with two owners.

Two guards have no mutant, since another stands behind each. The epoch of a commit of KIP-848: who was thrown out is no member
any more, and a member with an old epoch still owns what it commits. The fencing of an instance's last process: its member id is
not in the group any more.
"""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

COORDINATOR = "quorumlog.node.group_coordinator:GroupCoordinator"
LED = "quorumlog.node.coordinator_shard:LedShard"
REPLIES = "quorumlog.node.group_coordinator_replies:Replies"
CLASSIC_GROUP = "quorumlog.coordinators.classic_group:ClassicGroup"

GROUPS: tuple[Mutant, ...] = (
    Mutant(
        name="answers-groups-at-append",
        breaks="What a group is told waits until everything that it rests on is committed.",
        needs="A commit that is answered by a coordinator whose successor does not have it.",
        edits=(edit(f"{REPLIES}.hold", "204226f66707", ("if end_offset <= high_watermark:", "if end_offset:")),),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="keeps-the-shard-of-a-lost-leadership",
        breaks="A coordinator that leads its partition no more forgets its groups, and reads the log when it leads again.",
        needs="A coordinator that is deposed and elected again in one life, with commits at another one in between.",
        edits=(
            edit(
                "quorumlog.node.coordinator:Coordinator.on_role_changed",
                "53c632cf14e4",
                ("led.partition is partition and partition.role is Role.LEADER and led", "led.partition is partition and led"),
            ),
        ),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="loads-up-to-the-mark",
        breaks="A new coordinator reads its log to the end: what lies above the high watermark may be committed already.",
        needs="A leadership that moves right after a commit, to a follower that has not heard of the new high watermark.",
        edits=(edit(f"{LED}.load", "0b228b70ed34", ("self.partition.log_end_offset", "self.partition.high_watermark")),),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="tells-offsets-when-deposed",
        breaks="A coordinator that has lost touch with the controller tells no offsets: another may have stored newer ones.",
        needs="A coordinator that is cut off from the nodes and not from clients, and somebody who asks it meanwhile.",
        edits=(edit(f"{COORDINATOR}._may_read", "dff5c5896f58", ("return self._is_fresh() and", "return")),),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="takes-commits-of-old-generations",
        breaks="A classic member commits in the generation that it is in.",
        needs="A static member that stalls through a rebalance, is waited for, and commits before it hears of the new one.",
        edits=(edit(f"{CLASSIC_GROUP}.check_commit", "8fb33b8c794d", ("self.check_generation(generation)", "pass")),),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="stays-in-its-generation",
        breaks="A rebalance that all have joined begins a new generation.",
        needs="A second rebalance of a classic group.",
        edits=(
            edit(
                f"{CLASSIC_GROUP}.begin_generation",
                "410cffccc796",
                ("self.generation += 1", "self.generation = max(self.generation, 1)"),
            ),
        ),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="an-empty-group-begins-anew",
        breaks="The generations of a group go on when nobody is left in it.",
        needs="A classic group whose last member leaves, and that somebody joins again.",
        edits=(edit(f"{CLASSIC_GROUP}.saved_empty", "07f491f51e41", ("self.generation + 1", "0")),),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="static-members-come-back-to-nothing",
        breaks="An instance that restarts inherits the assignment of its last process.",
        needs="A static classic member that restarts within its session while its group is stable.",
        edits=(edit(f"{CLASSIC_GROUP}.replace_static", "6c25f31545f4", ("old.assignment", 'b""')),),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="gives-what-another-has",
        breaks="A partition is given to a member only when nobody else owns it (KIP-848).",
        needs="A group of KIP-848 of two members, of which the first was alone.",
        edits=(
            edit(
                "quorumlog.coordinators.consumer_update:GroupUpdates.reconcile",
                "0a7f93898a71",
                ("group.owner(topic_id, partition) in (None, member_id)", "True"),
            ),
        ),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="takes-silence-for-giving-up",
        breaks="A member that does not say what it has, has what it had: it gives up by saying so (KIP-848).",
        needs="A member that sends an ordinary heartbeat while it is still giving up.",
        edits=(edit("quorumlog.coordinators.consumer_reconcile:_still_has", "b706746d5309", ("return True", "return False")),),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="loads-members-without-a-session",
        breaks="Every member that is loaded has a session that ends: one that is gone is found out by its new coordinator.",
        needs="A member of KIP-848 that falls silent, and a coordinator that moves before its session has ended.",
        edits=(
            edit(
                "quorumlog.coordinators.consumer_members:Members.on_loaded",
                "79e3acaac959",
                ("self.begin_session(group, member, now)", "pass"),
            ),
        ),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="forgets-instances-in-the-log",
        breaks="What is logged of a classic member is all that is known of it, its instance too.",
        needs="A classic group with a static member.",
        edits=(
            edit("quorumlog.coordinators.classic_member:ClassicMember.of_saved", "80dc3ff936ad", ("saved.instance_id,", "None,")),
        ),
        seeds=40,
        judge="groups",
    ),
    Mutant(
        name="loads-offsets-into-another-place",
        breaks="An offset that is loaded the short way belongs to the partition in its key.",
        needs="A tool that commits offsets without metadata, and a coordinator that moves.",
        edits=(
            edit(
                "quorumlog.coordinators.offsets:Offsets.load",
                "c4cafac2ee20",
                ('int.from_bytes(key[-4:], "big", signed=True)', "max(place)"),
            ),
        ),
        seeds=40,
        judge="groups",
    ),
)
