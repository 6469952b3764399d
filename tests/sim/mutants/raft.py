"""Bugs in the metadata quorum: terms, votes, what is acknowledged and what is committed."""

from .mutant import Mutant, edit

ENGINE = "quorumlog.raft.engine:Engine"
JOURNAL = "quorumlog.raft.journal:Journal"
CORE = "pysyncobj.syncobj:SyncObj"

RAFT: tuple[Mutant, ...] = (
    Mutant(
        name="raft-skips-the-sync",
        breaks="Term, vote and entries are durable before anything that rests on them is sent.",
        needs="A power cut of a voter within a second of its answer (the store is synced for the logs once a second); for "
        "clients, of a majority.",
        edits=(edit(f"{JOURNAL}.barrier", "3f78d9e64e17", ("self._store.sync()", "pass")),),
        seeds=40,
    ),
    Mutant(
        name="raft-forgets-the-vote",
        breaks="A voter that restarts knows whom it gave its vote in the term.",
        needs="A voter that votes, crashes and is back while a second candidate of the same term asks.",
        edits=(edit(f"{JOURNAL}.set_vote", "c694acaab4c2", ("_vote_value(term, vote)", "_vote_value(term, None)")),),
        seeds=40,
    ),
    Mutant(
        name="raft-votes-twice",
        breaks="A voter has one vote in a term.",
        needs="Two candidates of one term: election timers that fire within a link's delay of each other (slow links, "
        "leaders cut off).",
        edits=(
            edit(f"{CORE}._SyncObj__onMessageReceived", "6bb6b65d0808", ("if self.__votedForNodeId is not None:", "if False:")),
            edit(
                f"{JOURNAL}.set_vote",
                "c694acaab4c2",
                ("if term == self._term and self._vote is not None and vote != self._vote:", "if False:"),
            ),
        ),
        seeds=40,
        judge="raft",
    ),
    Mutant(
        name="raft-elects-a-short-log",
        breaks="A voter votes only for a log that is at least as complete as its own.",
        needs="A voter that was cut off or down, back when the leader falls; metadata changes meanwhile.",
        edits=(
            edit(
                f"{ENGINE}._on_pre_vote",
                "b39bf57230e2",
                (
                    "(message.last_log_term, message.last_log_index) >= (last.term, last.index)",
                    "message.last_log_index <= 1 << 62",
                ),
            ),
            edit(
                f"{CORE}._SyncObj__onMessageReceived",
                "6bb6b65d0808",
                ("if lastLogTerm < self.__getCurrentLogTerm():", "if False:"),
                ("if lastLogTerm == self.__getCurrentLogTerm() and ", "if False and "),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="raft-answers-before-the-commit",
        breaks="A proposal is answered when it is committed.",
        needs="A controller that falls right after an answer: a topic made, producer ids given, and gone.",
        edits=(
            edit(
                "quorumlog.raft.voter:Voter.propose",
                "6b1dc8af855e",
                (
                    "self._proposals[index] = _Proposal(self.term, len(command), done)\n"
                    "    self._proposed_bytes += len(command)\n",
                    "done(ProposeOutcome.COMMITTED, index)\n",
                ),
            ),
        ),
        seeds=40,
        judge="raft",
    ),
    Mutant(
        name="raft-truncates-what-matches",
        breaks="A follower cuts its log only on a conflict: what follows a matching entry may have been acknowledged already.",
        needs="Entries sent again after a lost or late answer (links that break), and a crash before the rest has come again.",
        edits=(
            edit(
                f"{ENGINE}._on_append_entries",
                "a08c9d082f17",
                (
                    "    fresh = list(dropwhile(",
                    "    self._append_in_core(leader, term, append, list(append.entries), append.prev_index)\n"
                    "    return\n"
                    "    fresh = list(dropwhile(",
                ),
            ),
        ),
        seeds=40,
        judge="raft",
    ),
    Mutant(
        name="raft-acknowledges-its-whole-log",
        breaks="A follower acknowledges what matches the leader's log, not all it has.",
        needs="A former leader with entries that nobody has, followed by a new one with as many: links cut around the "
        "leader, proposals on both sides.",
        edits=(
            edit(
                f"{ENGINE}._on_append_entries",
                "a08c9d082f17",
                (
                    "AppendReply(matched + 1, AppendOutcome.MATCHES)",
                    "AppendReply(self._journal.last.index + 1, AppendOutcome.MATCHES)",
                ),
            ),
        ),
        seeds=40,
        judge="raft",
    ),
    Mutant(
        name="raft-commits-by-heartbeat",
        breaks="A frame that says nothing about a follower's log does not move its commit index.",
        needs="A former leader with entries that nobody has, so far behind that it gets a snapshot: snapshots every few "
        "entries, long cuts.",
        edits=(
            edit(
                f"{ENGINE}._hear_snapshot_frame",
                "fe334e4ba213",
                ("envelope.term, self.commit_index)", "envelope.term, self._journal.last.index)"),
            ),
        ),
        seeds=40,
        judge="raft",
    ),
)
