"""Bugs in what clients are told: answers too early, reads too far, a leader that is none."""

from .mutant import Mutant, edit

PRODUCE = "quorumlog.node.handlers.produce"
PARTITION = "quorumlog.partitions.partition:Partition"
REPLICAS = "quorumlog.node.replicas:Replicas"

REQUESTS: tuple[Mutant, ...] = (
    Mutant(
        name="answers-at-append",
        breaks="acks=all is answered when the record is committed.",
        needs="Any record, if answers are compared with what is committed; for clients, a leader that falls.",
        edits=(
            edit(
                f"{PRODUCE}:_stored",
                "8088d87515a6",
                ("if acks == ALL and partition.high_watermark < end_offset:", "if acks not in (ALL, LEADER):"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="answers-one-record-early",
        breaks="acks=all is answered when all records of the batch are committed, the last one too.",
        needs="A record while the one before is committed already; for clients, a leader that falls then.",
        edits=(
            edit(
                f"{PRODUCE}:_append_to",
                "e1fa68514cff",
                ("request.acks, appended.last_offset + 1", "request.acks, appended.last_offset"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="answers-a-repeat-at-once",
        breaks="A batch that was appended before is acknowledged when it is committed, as the first one would have been.",
        needs="A producer that loses its connection and sends again to the same leader while the batch is not committed yet "
        "(a slow follower).",
        edits=(
            edit(
                f"{PRODUCE}:_append_to",
                "e1fa68514cff",
                ("outcome.stored = _stored(", "outcome.stored = None if appended.duplicate else _stored("),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="reads-above-the-mark",
        breaks="Consumers read what is committed.",
        needs="A consumer at the end of a log whose leader falls with records that its successor lacks.",
        edits=(
            edit(
                f"{PARTITION}.read",
                "c755e761b516",
                (
                    "limit = log.end_offset if up_to_end else self._readable_end(isolation_committed)",
                    "limit = log.end_offset",
                ),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="follower-takes-records",
        breaks="Only the leader appends what producers send.",
        needs="A producer with old metadata: it sends to a leader of the past that lives. Leaders that move under load.",
        edits=(edit(f"{PARTITION}._check_takes", "83de5da7f4b3", ("self.check_leads(leader_epoch)\n", "pass\n")),),
        seeds=40,
    ),
    Mutant(
        name="keeps-waiters-of-a-lost-leadership",
        breaks="Whoever waits for a record to be committed is refused when the leadership goes: the offset may get another "
        "record.",
        needs="A node that loses the leadership with records that nobody has, and gets it back within the producer's timeout.",
        edits=(edit(f"{REPLICAS}._on_role_changed", "7dc868778609", ("self.committed.fail(tp, moved)", "pass")),),
        seeds=40,
    ),
    Mutant(
        name="leads-by-its-old-registration",
        breaks="A node leads only by the registration of this process: its old epoch may have had more than was synced.",
        needs="A leader that restarts at once after a power cut, and is written to before its registration is through, "
        "while a follower that has more of that epoch is away.",
        edits=(
            edit(
                f"{REPLICAS}.on_image",
                "0c166db59002",
                ("if broker is None or broker.incarnation_id != self._incarnation_id:", "if broker is None:"),
            ),
        ),
        seeds=40,
    ),
)
