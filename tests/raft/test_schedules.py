"""Schedules made by hand, each of which breaks the stock core: the guard named with it must be what saves us.

A schedule returns what went wrong; nothing with the guards on, something (or Fatal) with its guard out.
"""

from collections.abc import Callable
from typing import Any

import pytest

from quorumlog.raft.errors import Fatal
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.raft.quorum import Quorum
from tests.raft.cluster import Cluster, ListMachine, engine_of
from tests.raft.unguarded import quorum_without

COMMITTED = ProposeOutcome.COMMITTED
Wrong = list[str]
Schedule = Callable[[type[Quorum]], Wrong]


def elected(quorum_class: type[Quorum], size: int = 3, **settings: Any) -> Cluster:
    """A settled cluster led by voter 1."""
    cluster = Cluster(size, quorum_class=quorum_class, **settings).start_all()
    assert cluster.elect(1, among=range(2, size + 1))
    cluster.settle()
    return cluster


def t1_late_frame_truncates(quorum_class: type[Quorum]) -> Wrong:
    """A frame that arrives again must not delete what followed it and was acknowledged since."""
    cluster = elected(quorum_class)
    cluster.cut(1, 3)
    cluster.cut(2, 3)
    early = [cluster.propose(1, f"early{i}") for i in range(3)]
    cluster.tick(1)
    late_frame = cluster.links.queues[1, 2][-1]
    cluster.deliver(1, 2)
    late = [cluster.propose(1, f"late{i}") for i in range(3)]
    cluster.tick(1)
    cluster.deliver(1, 2)
    cluster.deliver(2, 1)
    cluster.tick(1)
    assert all(outcome == [COMMITTED] for outcome in early + late)
    cluster.links.clear(1, 2)  # voter 2 never hears of the commit
    cluster.nodes[2].on_message(1, late_frame)
    cluster.kill(1)
    cluster.join(2, 3)
    assert cluster.elect(2, among=[3])
    cluster.settle()
    return [item for item in (f"{when}{i}" for when in ("early", "late") for i in range(3)) if item not in cluster.items(2)]


def t2_snapshot_frame_commits(quorum_class: type[Quorum]) -> Wrong:
    """A deposed leader must not apply its uncommitted tail because a snapshot is on its way."""
    cluster = elected(quorum_class, snapshot_chunk_bytes=50, trailing_entries=0)
    cluster.isolate(1)
    cluster.propose(1, "never committed")
    cluster.nodes[1].tick()
    assert cluster.elect(2, among=[3])
    for i in range(20):
        cluster.propose(2, f"ok{i}")
    cluster.settle(6, 2, 3)
    cluster.nodes[2].snapshot_soon()
    cluster.settle(3, 2, 3)
    applied: list[str] = []
    cluster.machines[1]._observe = lambda index, item: applied.append(item)
    cluster.join(1, 2)
    for _ in range(30):
        cluster.tick(2, 1)
        cluster.deliver(2, 1, 1)
        cluster.deliver(1, 2)
    return [item for item in applied if item == "never committed"]


def t3e_vote_counted_twice(quorum_class: type[Quorum]) -> Wrong:
    """One voter's frame delivered twice is one vote."""
    cluster = Cluster(5, quorum_class=quorum_class).start_all()
    engine_of(cluster.nodes[1])._SyncObj__raftElectionDeadline = float("-inf")
    cluster.tick(1)
    for voter in (2, 3):
        cluster.deliver(1, voter)
        cluster.deliver(voter, 1)
    cluster.tick(1)  # pre-vote won: this asks for votes
    cluster.deliver(1, 2)
    cluster.links.queues[2, 1].extend(list(cluster.links.queues[2, 1]))
    cluster.deliver(2, 1)
    return ["elected by two of five"] if cluster.leads(1) else []


def t3g_lonely_voter_unseats(quorum_class: type[Quorum]) -> Wrong:
    """A voter cut off from the leader only must not depose a leader that the others hear."""
    cluster = elected(quorum_class)
    term = cluster.nodes[1].status().term
    cluster.cut(1, 3)
    cluster.run(20.0)
    burnt = max(cluster.nodes[voter].status().term for voter in cluster.voters) - term
    return [f"{burnt} terms burnt"] if burnt else []


def t3h_two_leaders_for_long(quorum_class: type[Quorum]) -> Wrong:
    """An isolated leader stops calling itself one about when the others elect another."""
    cluster = elected(quorum_class)
    cluster.isolate(1)
    seconds = 0.0
    while cluster.leads(1) and seconds < 40.0:
        cluster.run(0.02)
        seconds += 0.02
    return [f"a leader of nobody for {seconds:.2f} s"] if seconds > 1.2 else []


def t4_acknowledgment_of_an_old_term(quorum_class: type[Quorum]) -> Wrong:
    """An acknowledgment made in an earlier term must not count for entries that replaced the acknowledged ones."""
    cluster = elected(quorum_class, size=5)
    for voter in (3, 4, 5):
        cluster.cut(1, voter)
    for i in range(5):
        cluster.propose(1, f"old{i}")
    cluster.tick(1)
    cluster.deliver(1, 2)
    held = list(cluster.links.queues[2, 1])
    cluster.links.clear(1, 2)
    assert held and cluster.elect(3, among=[2, 4, 5])
    for voter in (3, 4, 5):
        cluster.join(1, voter)
    cluster.settle(6, 3)
    cluster.kill(3)
    cluster.links.clear(1, 2)
    assert cluster.elect(1, among=[4, 5])
    for i in range(5):
        cluster.propose(1, f"new{i}")
    cluster.nodes[1].tick()
    cluster.links.clear(1, 2)
    for frame in held:
        cluster.nodes[1].on_message(2, frame)
    believed = engine_of(cluster.nodes[1])._SyncObj__raftMatchIndex[engine_of(cluster.nodes[2]).selfNode]
    end = cluster.nodes[2].status().last_log_index
    return [f"matches up to {believed} of {end}"] if believed > end else []


def t5_damaged_snapshot_acknowledged(quorum_class: type[Quorum]) -> Wrong:
    """A follower that could not use a snapshot must not acknowledge it: its word would commit."""
    cluster = elected(quorum_class, trailing_entries=0)
    cluster.isolate(1)
    for i in range(40):
        cluster.propose(1, f"diverging{i}")
    cluster.nodes[1].tick()
    assert cluster.elect(2, among=[3])
    for i in range(10):
        cluster.propose(2, f"ok{i}")
    cluster.settle(6, 2, 3)
    cluster.nodes[2].snapshot_soon()
    cluster.settle(3, 2, 3)
    cluster.kill(3)
    engine_of(cluster.nodes[1])._parse_received = _damaged
    cluster.join(1, 2)
    outcomes = cluster.propose(2, "important")
    for _ in range(8):
        cluster.nodes[2].tick()
        cluster.deliver(2, 1)
        cluster.deliver(1, 2)
    return ["a follower confirmed a snapshot it does not have"] if _match_index(cluster, 2, 1) > 2 or outcomes else []


def _damaged(*_: Any) -> Any:
    raise ValueError("damaged on the way")


def _match_index(cluster: Cluster, leader: int, follower: int) -> int:
    peer = next(node for node in engine_of(cluster.nodes[leader]).otherNodes if node.id == follower)
    return int(engine_of(cluster.nodes[leader])._SyncObj__raftMatchIndex[peer])


def t6_diverged_tail_never_mends(quorum_class: type[Quorum]) -> Wrong:
    """A follower with a long tail of its own catches up, although each refusal of many frames on the way names another place."""
    cluster = elected(quorum_class, append_batch_bytes=100, command_bytes_max=60)
    cluster.isolate(1)
    for i in range(30):
        cluster.propose(1, f"diverging{i}" + "." * 40)
    cluster.nodes[1].tick()
    assert cluster.elect(2, among=[3])
    for i in range(60):
        cluster.propose(2, f"ok{i}" + "." * 40)
    cluster.settle(10, 2, 3)
    cluster.kill(2)
    cluster.start(2)
    cluster.cut(1, 2)
    assert cluster.elect(3, among=[2])  # a new leader begins behind its own end, far from where the two logs part
    cluster.settle(2, 2, 3)
    cluster.join(1, 3)
    for _ in range(100):
        cluster.tick(3, 2, 1, seconds=0.02)
        cluster.deliver_all()
    return [] if cluster.items(1) == cluster.items(2) else ["still diverged after 100 exchanges"]


def s2_promise_before_sync(quorum_class: type[Quorum]) -> Wrong:
    """What was acknowledged survives a power cut of everyone at once."""
    cluster = elected(quorum_class)
    outcomes = cluster.propose(1, "promised")
    cluster.tick(1)
    for voter in (2, 3):
        cluster.deliver(1, voter)
        cluster.deliver(voter, 1)
    cluster.tick(1)
    assert outcomes == [COMMITTED]
    lost = [voter for voter in (2, 3) if cluster.stores[voter].unsynced_count() or _journal_is_dirty(cluster, voter)]
    return [f"voter {voter} promised what it may lose" for voter in lost]


def _journal_is_dirty(cluster: Cluster, voter: int) -> bool:
    return bool(engine_of(cluster.nodes[voter])._journal._batch)


def s8_callback_raises(quorum_class: type[Quorum]) -> Wrong:
    """A callback that raises is its owner's trouble: the entry is not applied again and the node goes on."""
    cluster = elected(quorum_class)

    def raising(outcome: ProposeOutcome, index: int) -> None:
        raise RuntimeError("a bug in a callback")

    cluster.nodes[1].propose(b"once", raising)
    try:
        cluster.settle(4)
    except RuntimeError:
        cluster.settle(4)
    return [] if cluster.items(1) == ["once"] else cluster.items(1)


def s9_prefix_without_snapshot(quorum_class: type[Quorum]) -> Wrong:
    """The log's beginning goes only when a durable snapshot covers it."""
    cluster = elected(quorum_class, trailing_entries=0)
    for i in range(5):
        cluster.propose(1, f"a{i}")
    cluster.settle(4)
    cluster.nodes[2].snapshot_soon()
    cluster.settle(2)
    assert cluster.nodes[2].status().first_log_index > 1
    cluster.kill(2, power=True)
    cluster.start(2)
    cluster.settle(6)
    return [] if cluster.items(2) == cluster.items(1) else cluster.items(2)


def s11_stale_read(quorum_class: type[Quorum]) -> Wrong:
    """A leader that was replaced without noticing must not vouch for its state."""
    cluster = elected(quorum_class)
    cluster.isolate(1)
    assert cluster.elect(2, among=[3], after_s=0.6)
    outcomes = cluster.propose(2, "newer")
    for _ in range(4):
        cluster.tick(2, 3, seconds=0.02)
        cluster.deliver_all()
    assert outcomes == [COMMITTED] and cluster.leads(1)
    answers: list[bool] = []
    cluster.nodes[1].read_barrier(answers.append)
    cluster.nodes[1].tick()
    cluster.run(2.0)
    return [] if answers == [False] else [f"answered {answers}"]


def s12_commit_index_from_disk(quorum_class: type[Quorum]) -> Wrong:
    """A commit index from before a crash is not believed: a leader must not commit without followers."""
    cluster = elected(quorum_class)
    cluster.propose(1, "a")
    cluster.settle(4)
    commit = cluster.nodes[1].status().commit_index
    cluster.kill(1, power=True)
    restarted = cluster.start(1).status().commit_index
    return [f"starts at {restarted} of {commit}"] if restarted > 1 else []


SCHEDULES: list[tuple[Schedule, str]] = [
    (t1_late_frame_truncates, "g4"),
    (t2_snapshot_frame_commits, "g5"),
    (t3e_vote_counted_twice, "g3"),
    (t3g_lonely_voter_unseats, "s10"),
    (t3h_two_leaders_for_long, "s10c"),
    (t4_acknowledgment_of_an_old_term, "g2"),
    (t5_damaged_snapshot_acknowledged, "g5"),
    (t6_diverged_tail_never_mends, "g6"),
    (s2_promise_before_sync, "s2"),
    (s8_callback_raises, "s8"),
    (s9_prefix_without_snapshot, "s9"),
    (s11_stale_read, "s11"),
    (s12_commit_index_from_disk, "s12"),
]
by_name = pytest.mark.parametrize(("schedule", "guard"), SCHEDULES, ids=[schedule.__name__ for schedule, _ in SCHEDULES])


@by_name
def test_guarded(schedule: Schedule, guard: str) -> None:
    """The schedule does no harm."""
    assert schedule(Quorum) == []


@by_name
def test_unguarded(schedule: Schedule, guard: str) -> None:
    """The schedule has teeth: without its guard it breaks a promise, or an invariant that stops the process."""
    try:
        wrong = schedule(quorum_without(guard))
    except Fatal:
        return
    assert wrong


class RaisingMachine(ListMachine):
    def apply(self, index: int, term: int, command: bytes) -> None:
        raise ArithmeticError("a bug in the state machine")


@pytest.mark.parametrize(("quorum_class", "error"), [(Quorum, Fatal), (quorum_without("s8"), ArithmeticError)])
def test_a_state_machine_that_raises_stops_the_process(quorum_class: type[Quorum], error: type[BaseException]) -> None:
    """An entry that cannot be applied is Fatal, not tried again for ever on every node."""
    cluster = Cluster(1, quorum_class=quorum_class)
    cluster.make_machine = lambda voter: RaisingMachine()
    cluster.start_all()
    cluster.run(0.2)
    cluster.propose(1, "a")
    with pytest.raises(error):
        cluster.run(0.2)
    with pytest.raises(error):
        cluster.run(0.2)
