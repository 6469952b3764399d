"""Each invariant of Raft: silent over crashes and elections of production voters, and named when a bug is planted."""

from collections.abc import Callable
from typing import Any

import pytest

from quorumlog.raft.errors import Fatal
from quorumlog.raft.journal import Entry, Journal
from quorumlog.raft.quorum import Quorum
from tests.raft.cluster import engine_of

from .sight import Violation
from .stage import WatchedVoters


def fires(name: str, act: Callable[[], object]) -> str:
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.name == name, caught.value
    return caught.value.message


def led(**options: Any) -> WatchedVoters:
    """Three voters, led by the first, with a few entries committed."""
    voters = WatchedVoters(**options)
    voters.start_all()
    assert voters.elect(1, (2, 3))
    voters.propose(1, "a")
    voters.propose(1, "b")
    voters.settle()
    return voters


@pytest.mark.parametrize("seed", range(2))
def test_voters_that_crash_and_come_back(seed: int) -> None:
    """Leaders die, with power and without, snapshots are taken, logs are trimmed: nothing is broken."""
    voters = led(seed=seed, snapshot_every_entries=5, trailing_entries=2)
    for round_number in range(12):
        victim = voters.rng.choice(voters.voters)
        voters.kill(victim, power=voters.rng.random() < 0.5)
        voters.run(3.0)
        for leader in voters.leaders():
            voters.propose(leader, f"{round_number}")
        voters.run(0.2)
        voters.start(victim)
        voters.run(0.5)
    voters.shown.finish()
    assert all(len(voters.items(voter)) >= 12 for voter in voters.voters)


def test_two_leaders_in_one_term() -> None:
    """Another voter believes that it leads in the leader's term."""
    voters = led()
    engine_of(voters.nodes[2])._SyncObj__raftState = 2
    assert "leads in term" in fires("one-raft-leader-a-term", voters.shown.look)


def test_a_committed_entry_that_is_another_elsewhere() -> None:
    """One voter holds other content at a committed index, and commits it."""
    voters = led()
    voters.cut(1, 3)
    voters.propose(1, "c")
    voters.settle(3, 1, 2)
    journal = engine_of(voters.nodes[3])._journal
    last = journal.last
    journal._entries.append(Entry(b"\x00other", last.index + 1, last.term))
    engine_of(voters.nodes[3])._SyncObj__raftCommitIndex = last.index + 1
    assert "that was committed" in fires("committed-entries-stay", voters.shown.look)


def test_a_commit_index_that_falls() -> None:
    """A process takes back what it has committed."""
    voters = led()
    engine_of(voters.nodes[2])._SyncObj__raftCommitIndex -= 1
    engine_of(voters.nodes[2])._SyncObj__raftLastApplied -= 1
    assert "back to" in fires("committed-entries-stay", voters.shown.look)


def test_a_leader_without_a_committed_entry() -> None:
    """A voter that missed an entry comes to lead."""
    voters = led()
    voters.cut(1, 3)
    voters.propose(1, "c")
    voters.settle(3, 1, 2)
    engine = engine_of(voters.nodes[3])
    engine._SyncObj__raftCurrentTerm += 1
    engine._SyncObj__raftState = 2
    assert "without the committed entry" in fires("committed-entries-stay", voters.shown.look)


class ForgetfulJournal(Journal):
    """Says that votes and entries are durable, and does not sync."""

    def barrier(self) -> None:
        if not self._batch:
            return
        self._store.write(self._batch)
        self._batch = type(self._batch)()


class ForgetfulQuorum(Quorum):
    _journal_class = ForgetfulJournal


def test_promises_that_a_power_cut_takes() -> None:
    """A voter comes back without its vote, its term or the end of its log."""

    def until_found() -> None:
        for seed in range(10):
            voters = led(seed=seed, quorum_class=ForgetfulQuorum)
            voters.kill(2, power=True)
            voters.start(2)

    fires("raft-promises-survive", until_found)


def test_what_a_failing_store_did_not_keep_was_no_promise() -> None:
    """The store refuses a write, and the voter stops with a term in memory that is not on its disk."""
    voters = led()
    voters.stores[2].fail_next("write")
    engine_of(voters.nodes[2])._SyncObj__raftElectionDeadline = float("-inf")
    with pytest.raises(Fatal):
        voters.elect(2, (3,), after_s=5.0)
    voters.shown.look()
    voters.kill(2)
    voters.start(2)
    assert engine_of(voters.nodes[2]).term < 3


@pytest.mark.parametrize("keeps_quorum", [False, True])
def test_a_replaced_disk_holds_no_promise(keeps_quorum: bool) -> None:
    """A voter whose disk was replaced has nothing to keep, unless the quorum's part of it was spared."""
    voters = led()
    voters.kill(2)
    voters.shown.watch.on_wipe(2, keeps_quorum=keeps_quorum)
    empty = WatchedVoters(seed=9)
    voters.stores[2] = empty.stores[2]
    if keeps_quorum:
        fires("raft-promises-survive", lambda: voters.start(2))
    else:
        voters.start(2)
        voters.run(1.0)
        assert engine_of(voters.nodes[2]).term == engine_of(voters.nodes[1]).term
