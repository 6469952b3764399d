"""A short run of all workloads on real nodes is clean and complete, and the checker notices what is done to its history."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from quorumlog.checker.analysis import check
from quorumlog.checker.history import HistoryWriter, Operation, Outcome, Poll, Send, read_history
from quorumlog.testing import LocalCluster
from tests.chaos.replicas import compare
from tests.chaos.workloads import GROUPS, Counts, Running, start

pytestmark = pytest.mark.process

PARTITIONS = 2
PROCESSES = {"unkeyed": 5, "idempotent": PARTITIONS + 2, "keyed": 4}
TRANSACTIONAL = ("transactional", "moved")
FINISH_S = 60.0
TRANSACTIONS = 4  # processes: writers, and one mover at least


class Watched(HistoryWriter):
    """A history that tells which processes were acknowledged something, and which have committed a transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.acknowledged: set[int] = set()
        self.committed: set[int] = set()

    def write(self, operation: Operation) -> None:
        super().write(operation)
        if operation.kind == "send" and operation.outcome is Outcome.OK:
            self.acknowledged.add(operation.process)
        if operation.kind == "txn" and operation.outcome is Outcome.OK:
            self.committed.add(operation.process)


@dataclass(frozen=True, slots=True)
class Run:
    running: Running
    operations: list[Operation]
    differences: list[str]

    @property
    def counts(self) -> Counts:
        return self.running.counts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three nodes that nothing happens to, a moment of every workload, and the disks afterwards."""
    path = tmp_path_factory.mktemp("workloads") / "history.jsonl"
    with LocalCluster(nodes=3) as cluster:
        with Watched(path) as history:
            running = start(cluster.bootstrap_servers, history=history, seed=1, partitions=PARTITIONS, records_per_s=2_000)
            wait_for(lambda: len(history.acknowledged) == sum(PROCESSES.values()) and len(history.committed) >= TRANSACTIONS)
            running.finish(FINISH_S)
        for node in cluster.nodes:
            cluster.stop(node.node_id)
        data_dirs = {node.node_id: node.data_dir for node in cluster.nodes}
        differences = compare(data_dirs, in_sync=True, replicas_of=dict.fromkeys(running.topics, 3))
    yield Run(running, read_history(path), differences)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def sends_in(operations: list[Operation]) -> Iterator[tuple[Operation, Send]]:
    for operation in operations:
        yield from ((operation, step) for step in operation.steps if isinstance(step, Send))


def polls_in(operations: list[Operation]) -> Iterator[tuple[int, Poll]]:
    for place, operation in enumerate(operations):
        yield from ((place, step) for step in operation.steps if isinstance(step, Poll))


def test_a_healthy_run_is_clean(run: Run) -> None:
    """No anomaly, nothing that could not be judged, and the same bytes on all disks."""
    verdict = check(run.operations)
    assert (verdict.anomalies, verdict.notes, run.differences) == ((), (), [])


def test_the_counts_add_up(run: Run) -> None:
    """Each record sent ended one way, and the history tells of as many."""
    counts = run.counts
    outcomes = Counter(operation.outcome for operation, _ in sends_in(run.operations))
    assert counts.acknowledged > 0
    assert counts.sent == counts.acknowledged + counts.failed + counts.unknown
    assert outcomes == Counter({Outcome.OK: counts.acknowledged, Outcome.FAIL: counts.failed, Outcome.UNKNOWN: counts.unknown})
    assert counts.read == sum(len(poll.records) for _, poll in polls_in(run.operations))


def test_each_process_does_one_thing_at_a_time(run: Run) -> None:
    """No operation begins before the one before it ended; only the parts of one batch, which differ in outcome, go together."""
    last: dict[int, Operation] = {}
    for operation in run.operations:
        before = last.get(operation.process)
        if before is not None and before.invoked != operation.invoked:
            assert before.completed is not None
            assert before.completed <= operation.invoked
        last[operation.process] = operation


def test_every_client_of_every_kind_works(run: Run) -> None:
    """All processes were acknowledged something, and two readers of each topic read all of it."""
    processes = {topic.partition("-")[0]: processes_of(run, topic) for topic in plain_topics(run)}
    assert {kind: len(some) for kind, some in processes.items()} == PROCESSES
    readers = readers_of(run)
    assert {
        len(readers[send.key, send.value])
        for operation, send in sends_in(run.operations)
        if operation.outcome is Outcome.OK and send.key.rpartition("-")[0] in plain_topics(run)
    } == {2}


def plain_topics(run: Run) -> list[str]:
    return [topic for topic in run.running.topics if not topic.startswith(TRANSACTIONAL)]


def test_transactions_are_read_and_moved(run: Run) -> None:
    """Writers and movers have committed, writers have read what others wrote, and each record was moved exactly once."""
    source, moved = (next(topic for topic in run.running.topics if topic.startswith(name)) for name in TRANSACTIONAL)
    committed = [operation for operation in run.operations if operation.kind == "txn" and operation.outcome is Outcome.OK]
    shapes = {(frozenset(map(type, one.steps)), one.steps[-1].key.rpartition("-")[0]) for one in committed}
    assert (frozenset({Send}), source) in shapes
    assert (frozenset({Poll, Send}), source) in shapes
    assert (frozenset({Poll, Send}), moved) in shapes
    assert run.running.unprocessed(run.operations) == []


def test_each_key_that_is_timed_was_heard_of(run: Run) -> None:
    """Those of the idempotent topic: acknowledged and read."""
    topic = next(topic for topic in run.running.topics if topic.startswith("idempotent"))
    wanted = [f"{topic}-{partition}" for partition in range(PARTITIONS)]
    assert run.running.acks.keys() == run.running.reads.keys() == wanted
    assert all(run.running.acks.times(key) for key in wanted)


def test_groups_of_both_protocols_process_everything(run: Run) -> None:
    """What was acknowledged in their topics, and they have committed as far."""
    assert run.running.unprocessed(run.operations) == []
    assert [kind.protocol for kind in GROUPS] == ["classic", "consumer"]
    for protocol, counts in run.running.group_counts.items():
        assert counts.commits > 0, protocol
        assert counts.processed > 0, protocol


def processes_of(run: Run, topic: str) -> set[int]:
    return {
        operation.process
        for operation, send in sends_in(run.operations)
        if operation.outcome is Outcome.OK and send.key.rpartition("-")[0] == topic
    }


def readers_of(run: Run) -> dict[tuple[str, str], set[int]]:
    readers: dict[tuple[str, str], set[int]] = {}
    for place, poll in polls_in(run.operations):
        for _, value in poll.records:
            readers.setdefault((poll.key, value), set()).add(run.operations[place].process)
    return readers


def test_keys_have_one_order(run: Run) -> None:
    """A process of the keyed topic, which alone sends its keys, is told ever higher offsets in each partition."""
    topic = next(topic for topic in run.running.topics if topic.startswith("keyed"))
    told: dict[tuple[int, str], list[int]] = {}
    for operation, send in sends_in(run.operations):
        if send.key.startswith(topic) and send.offset is not None:
            told.setdefault((operation.process, send.key), []).append(send.offset)
    assert len(told) > PARTITIONS
    assert all(offsets == sorted(set(offsets)) for offsets in told.values())


# --- bugs planted between a client and its history


def long_poll(operations: list[Operation]) -> tuple[int, Poll]:
    """The poll with most records of one key."""
    return max(polls_in(operations), key=lambda found: len(found[1].records))


def with_step(operation: Operation, old: Send | Poll, new: Send | Poll) -> Operation:
    return replace(operation, steps=tuple(new if step is old else step for step in operation.steps))


def drop_a_read_record(operations: list[Operation]) -> None:
    place, poll = long_poll(operations)
    middle = len(poll.records) // 2
    fewer = Poll(poll.key, poll.records[:middle] + poll.records[middle + 1 :])
    operations[place] = with_step(operations[place], poll, fewer)


def swap_two_offsets(operations: list[Operation]) -> None:
    place, poll = long_poll(operations)
    (first, one), (second, other) = poll.records[:2]
    swapped = Poll(poll.key, ((first, other), (second, one), *poll.records[2:]))
    operations[place] = with_step(operations[place], poll, swapped)


def show_a_record_again(operations: list[Operation]) -> None:
    place, poll = long_poll(operations)
    operations[place] = with_step(operations[place], poll, Poll(poll.key, (*poll.records, poll.records[0])))


def misplace_an_acknowledgment(operations: list[Operation]) -> None:
    place, send = an_acknowledgment(operations)
    operations[place] = with_step(operations[place], send, replace(send, offset=(send.offset or 0) + 1))


def an_acknowledgment(operations: list[Operation]) -> tuple[int, Send]:
    for place, operation in enumerate(operations):
        for step in operation.steps if operation.outcome is Outcome.OK else ():
            if isinstance(step, Send) and step.offset is not None:
                return place, step
    raise AssertionError("nothing was acknowledged")


def call_a_success_a_failure(operations: list[Operation]) -> None:
    place, _ = an_acknowledgment(operations)
    operations[place] = replace(operations[place], outcome=Outcome.FAIL)


def hide_the_last_value(operations: list[Operation]) -> None:
    """As if the cluster had lost it, and its readers had found the end before it."""
    key = next(poll.key for _, poll in polls_in(operations))
    offset, value = max(record for _, poll in polls_in(operations) if poll.key == key for record in poll.records)
    for place, poll in list(polls_in(operations)):
        if poll.key == key and (offset, value) in poll.records:
            fewer = Poll(key, tuple(record for record in poll.records if record != (offset, value)))
            operations[place] = with_step(operations[place], poll, fewer)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (drop_a_read_record, "int-poll-skip"),
        (swap_two_offsets, "inconsistent-offsets"),
        (show_a_record_again, "int-nonmonotonic-poll"),
        (misplace_an_acknowledgment, "duplicate"),
        (call_a_success_a_failure, "aborted-read"),
        (hide_the_last_value, "unseen"),
    ],
)
def test_the_checker_notices_a_planted_bug(run: Run, plant: Callable[[list[Operation]], None], kind: str) -> None:
    operations = list(run.operations)
    plant(operations)
    assert kind in {anomaly.kind for anomaly in check(operations).anomalies}
