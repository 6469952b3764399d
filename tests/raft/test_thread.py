"""The raft thread: it wakes, groups, answers across threads, and dies loudly. Real time, a few milliseconds of it."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import BadFrame, Fatal
from quorumlog.raft.identity import format_quorum
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.raft.quorum import Quorum
from quorumlog.raft.thread import QuorumThread
from tests.raft.cluster import EventListener, ListMachine
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

WAIT_S = 5.0


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return int(time.time() * 1000)


class Process:
    """One voter on its thread; what it delivers is run by `pump`, on the test's thread."""

    def __init__(self, voter: int, voters: tuple[int, ...], network: dict[int, "Process"], **arguments: int) -> None:
        self.store, self.machine, self.listener = SimStore(random.Random(voter)), ListMachine(), EventListener()
        self.delivered: queue.Queue[Callable[[], None]] = queue.Queue()
        self.fatal: queue.Queue[BaseException] = queue.Queue()
        self.bad_frames: list[tuple[int, BadFrame]] = []
        format_quorum(self.store, cluster_id="c", node_id=voter, storage_id="s", voters=voters)
        quorum = Quorum(
            QuorumConfig(node_id=voter, voters=voters, heartbeat_s=0.01, election_timeout_min_s=0.05, election_timeout_max_s=0.1),
            store=self.store,
            disk=SimDisk(random.Random(voter)),
            machine=self.machine,
            listener=self.listener,
            send=lambda peer, frame: network[peer].thread.on_message(voter, frame),
            clock=RealClock(),
            rng=random.Random(voter),
        )
        self.thread = QuorumThread(
            quorum,
            deliver=self.delivered.put,
            on_fatal=self.fatal.put,
            on_bad_frame=lambda peer, error: self.bad_frames.append((peer, error)),
            **arguments,
        )

    def pump(self) -> None:
        self.delivered.get(timeout=WAIT_S)()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, self.thread.status()
            time.sleep(0.002)


@pytest.fixture
def alone() -> Iterator[Process]:
    process = Process(1, (1,), {}, inbox_calls_max=50)
    yield process
    assert process.thread.stop(WAIT_S)


def test_three_threads_elect_and_commit() -> None:
    """Three voters on three threads agree, and the answer to a proposal arrives where it was asked for."""
    network: dict[int, Process] = {}
    for voter in (1, 2, 3):
        network[voter] = Process(voter, (1, 2, 3), network)
    for voter, process in network.items():
        process.thread.start()
        for peer in network:
            if peer != voter:
                assert process.thread.on_peer_connected(peer)
    try:
        leader = _active(network)
        answers: list[tuple[ProposeOutcome, int, str]] = []
        leader.thread.propose(b"a", lambda outcome, index: answers.append((outcome, index, threading.current_thread().name)))
        while not answers:
            leader.pump()
        assert answers[0][0] is ProposeOutcome.COMMITTED and answers[0][2] != "raft"
        for process in network.values():
            process.until(lambda process=process: process.machine.items == ["a"])  # type: ignore[misc]
    finally:
        stopped = [process.thread.stop(WAIT_S) for process in network.values()]
        assert all(stopped)


def _active(network: dict[int, Process]) -> Process:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for process in network.values():
            if process.thread.status().active:
                return process
        time.sleep(0.005)
    raise AssertionError({voter: process.thread.status() for voter, process in network.items()})


def test_proposals_of_one_round_share_a_sync(alone: Process) -> None:
    """What arrived together becomes durable together: one sync, not one each."""
    answers: list[ProposeOutcome] = []
    hold = threading.Event()
    alone.thread.start()
    alone.until(lambda: alone.thread.status().active)
    alone.thread.post(lambda: hold.wait(WAIT_S) and None)
    for i in range(20):
        alone.thread.propose(f"p{i}".encode(), lambda outcome, index: answers.append(outcome))
    syncs = alone.store.sync_count
    hold.set()
    while len(answers) < 20:
        alone.pump()
    assert answers == [ProposeOutcome.COMMITTED] * 20
    assert alone.store.sync_count - syncs <= 2


def test_a_full_inbox_refuses(alone: Process) -> None:
    """The inbox is bounded: what does not fit is refused at once and was certainly not appended."""
    answers: list[ProposeOutcome] = []
    for _ in range(50):
        assert alone.thread.post(lambda: None)
    assert not alone.thread.post(lambda: None)
    alone.thread.propose(b"x", lambda outcome, index: answers.append(outcome))
    alone.thread.read_barrier(lambda fresh: answers.append(ProposeOutcome.BUSY if not fresh else ProposeOutcome.COMMITTED))
    alone.pump()
    alone.pump()
    assert answers == [ProposeOutcome.BUSY, ProposeOutcome.BUSY]
    alone.thread.start()


def test_stopping_answers_everyone() -> None:
    """A proposal that cannot be committed any more is answered when the thread stops, and later ones are refused."""
    network: dict[int, Process] = {}
    network[1] = Process(1, (1,), network)
    process, answers = network[1], []
    process.thread.start()
    process.until(lambda: process.thread.status().active)
    process.thread.propose(b"x", lambda outcome, index: answers.append(outcome))
    assert process.thread.stop(WAIT_S)
    process.pump()
    assert answers == [ProposeOutcome.COMMITTED]
    assert not process.thread.post(lambda: None)


def test_failing_storage_is_fatal_and_ends_the_thread() -> None:
    """A sync that fails reaches on_fatal, and nothing is answered after it."""
    process = Process(1, (1,), {})
    process.thread.start()
    process.until(lambda: process.thread.status().active)
    answers: list[ProposeOutcome] = []
    process.store.fail_next("sync")
    process.thread.propose(b"x", lambda outcome, index: answers.append(outcome))
    assert isinstance(process.fatal.get(timeout=WAIT_S), Fatal)
    assert process.thread.stop(WAIT_S)
    assert answers == [] and process.delivered.empty()


def test_a_bad_frame_is_reported_and_survived() -> None:
    """Rubbish from a peer is told to the owner, who may drop the connection; the voter goes on."""
    process = Process(1, (1, 2, 3), {})
    process.thread.start()
    assert process.thread.on_message(2, b"\xff\xff rubbish")
    process.pump()
    assert [peer for peer, _ in process.bad_frames] == [2]
    assert process.thread.stop(WAIT_S) and process.fatal.empty()
