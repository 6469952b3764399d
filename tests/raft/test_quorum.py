"""The quorum's door: it elects, commits, refuses, hands over and says who leads."""

import random

import pytest

from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import Fatal, StorageRefused
from quorumlog.raft.identity import format_quorum, read_identity
from quorumlog.raft.ports import ProposeOutcome, Role
from quorumlog.raft.quorum import Quorum
from tests.raft.cluster import Cluster, EventListener, ListMachine
from tests.sim.clock import SimClock
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

COMMITTED = ProposeOutcome.COMMITTED


def led_by_one(size: int = 3, **settings: int | float) -> Cluster:
    cluster = Cluster(size, **settings).start_all()
    assert cluster.elect(1, among=range(2, size + 1))
    cluster.settle()
    return cluster


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_quorum_elects_itself_a_leader_and_commits(size: int) -> None:
    """Voters that hear each other agree on one leader, and what it commits reaches all of them."""
    cluster = Cluster(size).start_all()
    cluster.run(2.0)
    (leader,) = cluster.leaders()
    outcomes = cluster.propose(leader, "a")
    cluster.run(0.3)
    assert outcomes == [COMMITTED]
    assert [cluster.items(voter) for voter in cluster.voters] == [["a"]] * size
    assert {cluster.nodes[voter].status().leader for voter in cluster.voters} == {leader}


def test_a_single_voter_is_active_at_once() -> None:
    """Nobody to wait for: the first tick elects it."""
    cluster = Cluster(1).start_all()
    cluster.tick(seconds=0.0)
    assert cluster.nodes[1].status().active and cluster.nodes[1].status().role is Role.LEADER
    answers: list[bool] = []
    cluster.nodes[1].read_barrier(answers.append)
    cluster.tick()
    assert answers == [True]


def test_a_proposal_commits_in_one_exchange() -> None:
    """Propose, tick, one message there and one back, tick: no waiting for a heartbeat."""
    cluster = led_by_one()
    outcomes = cluster.propose(1, "a")
    cluster.tick(1, seconds=0.0)
    cluster.deliver(1, 2)
    cluster.deliver(2, 1)
    cluster.tick(1, seconds=0.0)
    assert outcomes == [COMMITTED]
    cluster.deliver(1, 2)
    cluster.tick(2, seconds=0.0)
    assert cluster.items(2) == ["a"]


def test_what_is_refused_was_not_appended() -> None:
    """Followers, other terms, too large and too many: each is refused at once, and nothing of it stays."""
    cluster = led_by_one(command_bytes_max=10, in_flight_commands_max=2)
    term, end = cluster.nodes[1].status().term, cluster.log_of(1)[-1]
    assert cluster.propose(2, "a") == [ProposeOutcome.NOT_LEADER]
    assert cluster.propose(1, "a", term=term + 1) == [ProposeOutcome.NOT_LEADER]
    assert cluster.propose(1, "eleven long") == [ProposeOutcome.TOO_LARGE]
    assert cluster.log_of(1)[-1] == end
    taken = [cluster.propose(1, "a", term=term), cluster.propose(1, "ten b long")]
    assert cluster.propose(1, "c") == [ProposeOutcome.BUSY]
    cluster.settle(3)
    assert taken == [[COMMITTED], [COMMITTED]]


def test_the_bytes_under_way_are_bounded() -> None:
    """Large commands are refused before they fill the memory, and taken again once the first are committed."""
    cluster = led_by_one(in_flight_bytes_max=10)
    first = cluster.propose(1, "seven..")
    assert cluster.propose(1, "four") == [ProposeOutcome.BUSY]
    cluster.settle(3)
    second = cluster.propose(1, "four")
    cluster.settle(3)
    assert (first, second) == ([COMMITTED], [COMMITTED])


def test_a_deposed_leader_answers_unknown() -> None:
    """Who waits is answered when leadership is lost, for the outcome is decided elsewhere."""
    cluster = led_by_one()
    cluster.isolate(1)
    outcomes, answers = cluster.propose(1, "lost"), []
    cluster.nodes[1].read_barrier(answers.append)
    cluster.run(2.0)
    assert outcomes == [ProposeOutcome.UNKNOWN] and answers == [False]
    assert [event for event in cluster.listeners[1].events if event[0] != "leader"] == [("active", 1), ("inactive",)]


def test_active_means_everything_committed_is_applied() -> None:
    """A new leader hears on_leader, then on_active, and by then it holds what its predecessor committed."""
    cluster = led_by_one()
    outcomes = cluster.propose(1, "before")
    cluster.tick(1)
    for voter in (2, 3):
        cluster.deliver(1, voter)
        cluster.deliver(voter, 1)
    cluster.tick(1)
    assert outcomes == [COMMITTED]
    cluster.kill(1)
    assert cluster.items(2) == []
    held_when_active: list[str] = []
    cluster.listeners[2].on_active = lambda term: held_when_active.extend(cluster.items(2))  # type: ignore[method-assign]
    assert cluster.elect(2, among=[3])
    assert not cluster.nodes[2].status().active
    cluster.settle(3)
    assert held_when_active == ["before"]
    assert cluster.listeners[2].events[-1] == ("leader", 2, 2)


def test_a_read_barrier_answers_after_a_round() -> None:
    """True comes once a majority confirmed the leader; followers answer False at once."""
    cluster = led_by_one()
    answers: list[bool] = []
    cluster.nodes[1].read_barrier(answers.append)
    cluster.tick(1, seconds=0.0)
    assert answers == []
    cluster.deliver(1, 3)
    cluster.deliver(3, 1)
    cluster.tick(1, seconds=0.0)
    assert answers == [True]
    cluster.nodes[2].read_barrier(answers.append)
    assert answers == [True, False]


def test_leadership_is_handed_over_at_once() -> None:
    """A clean stop does not cost an election timeout, and nothing that was acknowledged."""
    cluster = led_by_one()
    pending = cluster.propose(1, "last words")
    cluster.nodes[1].transfer_leadership()
    assert cluster.propose(1, "too late") == [ProposeOutcome.NOT_LEADER]
    cluster.run(0.2)
    (leader,) = cluster.leaders()
    assert leader != 1 and pending == [COMMITTED]
    assert cluster.nodes[leader].status().active and cluster.items(leader) == ["last words"]


def test_a_transfer_to_nobody_ends() -> None:
    """Without anyone to hand over to, the leader goes on after a timeout."""
    cluster = led_by_one()
    engine_settings = cluster.nodes[1].config
    cluster.cut(1, 2)
    cluster.cut(1, 3)
    cluster.nodes[1].transfer_leadership()
    cluster.run(0.5)
    cluster.join(1, 2)
    cluster.run(engine_settings.election_timeout_max_s * 3)
    (leader,) = cluster.leaders()
    outcomes = cluster.propose(leader, "a")
    cluster.run(0.2)
    assert outcomes == [COMMITTED]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_a_dead_leader_is_replaced_at_once(size: int, seed: int) -> None:
    """Survivors that see the leader's process gone, one a little after the other, have an active leader well under 400 ms."""
    cluster = Cluster(size, seed=seed).start_all()
    cluster.run(3.0)
    (dead,) = cluster.leaders()
    cluster.nodes.pop(dead)
    survivors = cluster.running()
    random.Random(seed).shuffle(survivors)
    elapsed = 0.0
    for voter in survivors:
        cluster.links.clear(dead, voter)
        cluster.nodes[voter].on_peer_disconnected(dead, process_gone=True)
        cluster.run(0.02, step_s=0.01)
        elapsed += 0.02
    while not any(cluster.nodes[voter].status().active for voter in cluster.running()):
        cluster.run(0.01, step_s=0.01)
        elapsed += 0.01
        assert elapsed < 0.3
    cluster.run(2.0)
    assert len(cluster.leaders()) == 1


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_that_starts_has_a_leader_at_once(size: int, seed: int) -> None:
    """No election timeout has to pass where a majority has met and none of it knows a leader."""
    cluster = Cluster(size, seed=seed)
    starts = list(cluster.voters)
    random.Random(seed).shuffle(starts)
    majority = size // 2 + 1
    for voter in starts[:majority]:
        cluster.start(voter)
    cluster.run(0.4, step_s=0.01)
    (leader,) = cluster.leaders()
    term = cluster.nodes[leader].status().term
    for voter in starts[majority:]:  # who comes later finds it, and leaves it there
        cluster.start(voter)
        cluster.run(0.4, step_s=0.01)
    assert cluster.leaders() == [leader]
    assert {cluster.nodes[voter].status().term for voter in cluster.voters} == {term}


def test_one_voter_that_believes_the_leader_dead_changes_nothing() -> None:
    """The others hear the leader and keep it; the doubter comes back."""
    cluster = led_by_one()
    term = cluster.nodes[1].status().term
    cluster.cut(1, 3)
    cluster.nodes[3].on_peer_disconnected(1, process_gone=True)
    cluster.run(1.0)
    cluster.join(1, 3)
    cluster.run(0.5)
    assert cluster.leaders() == [1] and cluster.nodes[3].status().leader == 1
    assert cluster.nodes[3].status().term == term


def test_a_restart_keeps_term_vote_and_log() -> None:
    """After a power cut of all at once everything that was acknowledged is there."""
    cluster = led_by_one()
    outcomes = [cluster.propose(1, f"item {i}") for i in range(10)]
    cluster.settle(3)
    assert outcomes == [[COMMITTED]] * 10
    term = cluster.nodes[1].status().term
    for voter in cluster.voters:
        cluster.kill(voter, power=True)
    cluster.start_all()
    assert all(cluster.nodes[voter].status().term == term for voter in cluster.voters)
    cluster.run(3.0)
    assert all(cluster.items(voter) == [f"item {i}" for i in range(10)] for voter in cluster.voters)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_failing_storage_stops_the_quorum(operation: str) -> None:
    """A failed write or sync is Fatal, nothing leaves after it, and the object refuses to go on."""
    cluster = led_by_one()
    cluster.propose(1, "a")
    cluster.links.clear(1, 2)
    cluster.stores[1].fail_next(operation)
    with pytest.raises(Fatal):
        cluster.nodes[1].tick()
    with pytest.raises(Fatal, match="has stopped"):
        cluster.nodes[1].tick()
    assert not cluster.links.queues[1, 2]


def test_closing_answers_everyone() -> None:
    """Whoever waits is answered; the storage stays open for its owner."""
    cluster = led_by_one()
    outcomes, answers = cluster.propose(1, "a"), []
    cluster.nodes[1].read_barrier(answers.append)
    cluster.nodes[1].close()
    assert outcomes == [ProposeOutcome.UNKNOWN] and answers == [False]
    assert cluster.listeners[1].events[-1] == ("inactive",)
    assert read_identity(cluster.stores[1]) is not None
    cluster.nodes[1].close()


class TestStorage:
    """Whose storage it is, is asked before anything else."""

    def make(self, store: SimStore, node_id: int = 1, voters: tuple[int, ...] = (1, 2, 3)) -> Quorum:
        return Quorum(
            QuorumConfig(node_id=node_id, voters=voters),
            store=store,
            disk=SimDisk(random.Random(1)),
            machine=ListMachine(),
            listener=EventListener(),
            send=lambda peer, frame: True,
            clock=SimClock(),
            rng=random.Random(1),
        )

    def formatted(self) -> SimStore:
        store = SimStore(random.Random(1))
        format_quorum(store, cluster_id="c", node_id=1, storage_id="s", voters=[1, 2, 3])
        return store

    def test_an_unformatted_store_is_refused(self) -> None:
        """A voter that lost its disk must not vote under its old id."""
        with pytest.raises(StorageRefused, match="not formatted"):
            self.make(SimStore(random.Random(1)))

    def test_a_foreign_store_is_refused(self) -> None:
        """Another node's storage, or one of other voters, is named as such."""
        with pytest.raises(StorageRefused, match="belongs to node 1"):
            self.make(self.formatted(), node_id=2)
        with pytest.raises(StorageRefused, match=r"voters \[1, 2, 3\]"):
            self.make(self.formatted(), voters=(1, 2, 3, 4, 5))

    def test_formatting_survives_a_power_cut_and_is_done_once(self) -> None:
        """What format wrote is durable, and a second format is refused."""
        store = self.formatted()
        store.crash(power=True)
        store.reopen()
        self.make(store)
        with pytest.raises(StorageRefused, match="already"):
            format_quorum(store, cluster_id="d", node_id=2, storage_id="t", voters=[2])
        identity = read_identity(store)
        assert identity is not None and (identity.cluster_id, identity.node_id, identity.voters) == ("c", 1, (1, 2, 3))
