"""Starts the clients of a run, and ends them."""

import functools
import random
import secrets
import time
from collections.abc import Sequence

from confluent_kafka.admin import AdminClient

from quorumlog.checker.history import HistoryWriter, Operation
from tests.events import create_topic

from .consuming import CONSUMERS
from .group_members import Asker, GroupMember
from .group_watch import GroupCounts
from .groups import GROUPS, Group, GroupKind
from .kinds import KINDS, Kind
from .movers import Mover
from .producing import PRODUCERS
from .readers import Reader
from .record import Counts, Marks, Record
from .senders import Sender
from .transactions import MOVED, TRANSACTIONAL, TransactionalWork
from .transactors import Transactor

RECORDS_PER_S = 900.0
SEGMENT_BYTES = 1 << 20  # the least that Kafka takes: segments end within a short run
LED_WITHIN_S = 30.0
CLOSE_S = 10.0
SENDING_SHARE = 0.6  # of the time that finish has

WORKLOADS = (*KINDS, TRANSACTIONAL)

Client = Sender | Reader | GroupMember | Asker | Transactor | Mover

__all__ = ["KINDS", "WORKLOADS", "Running", "WorkloadError", "start"]


class WorkloadError(Exception):
    """A cluster that was healed did not answer, or could not be read to the end, or a client of ours broke; says which."""


def start(
    bootstrap: str,
    *,
    history: HistoryWriter,
    seed: int,
    partitions: int = 6,
    replication_factor: int = 3,
    kinds: Sequence[str] | None = None,
    groups: Sequence[GroupKind] = GROUPS,
    records_per_s: float = RECORDS_PER_S,
) -> "Running":
    """Make a topic for each kind (all of WORKLOADS by default, of which `transactional` has two) on a healthy cluster and set its
    clients to work, and groups on them.

    `seed` draws what is sent, how fast, and how readers wander; the topics' names are new each time. `records_per_s` is for
    all kinds together. Raises TimeoutError if the topics are not led within 30 s, and what confluent-kafka raises if the
    cluster refuses them.
    """
    names = kinds or WORKLOADS
    mark = secrets.token_hex(3)
    topics = {f"{name}-{mark}": KINDS[name] for name in names if name in KINDS}
    transactional = {name: f"{name}-{mark}" for name in (TRANSACTIONAL, MOVED) if TRANSACTIONAL in names}
    everything = [*topics, *transactional.values()]
    for topic in everything:
        config = {"min.insync.replicas": str(min(2, replication_factor)), "segment.bytes": str(SEGMENT_BYTES)}
        config |= {"retention.ms": "-1", "retention.bytes": "-1"}
        create_topic(bootstrap, topic, partitions=partitions, replicas=replication_factor, config=config)
    _wait_led(bootstrap, everything, partitions)
    timed = [f"{topic}-{number}" for topic, kind in topics.items() if kind.is_timed for number in range(partitions)]
    running = Running(Record(history, timed=timed), everything)
    for topic, kind in topics.items():
        running.add(kind, topic, bootstrap=bootstrap, partitions=partitions, seed=seed, records_per_s=records_per_s / len(topics))
    for group in groups:
        for topic in (topic for topic, kind in topics.items() if kind.name == group.reads):
            running.add_group(group, topic, bootstrap=bootstrap, partitions=partitions, seed=seed)
    if transactional:
        running.add_transactions(transactional, bootstrap=bootstrap, partitions=partitions, seed=seed)
    running.begin()
    return running


def _wait_led(bootstrap: str, topics: list[str], partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + LED_WITHIN_S
    while time.monotonic() < deadline:
        known = admin.list_topics(timeout=LED_WITHIN_S).topics
        leaders = [one.leader for topic in topics if topic in known for one in known[topic].partitions.values()]
        if len(leaders) == partitions * len(topics) and min(leaders) >= 0:
            return
        time.sleep(0.05)
    raise TimeoutError(f"not all partitions of {topics} have a leader after {LED_WITHIN_S} s")


class Running:
    """Clients at work. Owned by who called `start`, and ended by `finish`."""

    def __init__(self, record: Record, topics: list[str]) -> None:
        self.topics = topics
        self._record = record
        self._senders: list[Sender] = []
        self._readers: list[Reader] = []
        self._groups: list[Group] = []
        self._transactions: TransactionalWork | None = None

    def add(self, kind: Kind, topic: str, *, bootstrap: str, partitions: int, seed: int, records_per_s: float) -> None:
        """One kind's clients, which `begin` starts."""
        sources = [
            sending.sources(partitions, random.Random(f"{seed} {kind.name} {index}"))
            for index, sending in enumerate(kind.sending)
        ]
        processes = sum(len(some) for some in sources)
        for sending, pieces in zip(kind.sending, sources, strict=True):
            self._senders.append(
                Sender(
                    f"{topic} sent by {sending.library}",
                    self._record,
                    functools.partial(PRODUCERS[sending.library], bootstrap, topic, idempotent=sending.idempotent),
                    topic=topic,
                    pieces=pieces,
                    records_per_s=records_per_s * len(pieces) / processes,
                    rng=random.Random(f"{seed} {kind.name} {sending.library}"),
                )
            )
        for library, wanders in ((kind.tail_reader, False), (kind.wandering_reader, True)):
            self._readers.append(
                Reader(
                    f"{topic} read by {library}",
                    self._record,
                    functools.partial(CONSUMERS[library], bootstrap, topic),
                    topic=topic,
                    partitions=partitions,
                    wanders=wanders,
                    rng=random.Random(f"{seed} {kind.name} {library} reads"),
                )
            )

    def add_group(self, kind: GroupKind, topic: str, *, bootstrap: str, partitions: int, seed: int) -> None:
        """One group's members, which `begin` starts."""
        rng = random.Random(f"{seed} {kind.protocol} group")
        self._groups.append(Group(kind, topic, bootstrap=bootstrap, partitions=partitions, rng=rng, now=self._record.now))

    def add_transactions(self, topics: dict[str, str], *, bootstrap: str, partitions: int, seed: int) -> None:
        """Writers and movers, which `begin` starts, and readers of both topics."""
        work = TransactionalWork(topics, self._record, bootstrap=bootstrap, partitions=partitions, seed=seed)
        self._transactions = work
        self._readers += work.readers

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def started(self) -> float:
        """`time.monotonic` at the zero of the history's times."""
        return self._record.started

    @property
    def counts(self) -> Counts:
        """Of all operations that have ended."""
        return self._record.counts

    @property
    def acks(self) -> Marks:
        """When records were acknowledged, in the history's time: of each key of the timed kinds (`kinds.py`)."""
        return self._record.acks

    @property
    def reads(self) -> Marks:
        """When records were read, of the same keys."""
        return self._record.reads

    def finish(self, timeout_s: float) -> None:
        """Send no more, wait for every answer, then let each reader start over and read to the end of what there is, and each
        group go on to that end.

        Takes `timeout_s` and a few seconds for the clients to close at most. Raises WorkloadError; the history is as complete as
        can be even then.
        """
        now = time.monotonic()
        sent_by, read_by = now + timeout_s * SENDING_SHARE, now + timeout_s
        for sender in self._senders:
            sender.finish(sent_by)
        complaints = self._transactions.end(self._join, sent_by) if self._transactions is not None else []
        complaints += self._join(self._senders, sent_by + CLOSE_S)
        for reader in self._readers:
            reader.finish(read_by)
        for group in self._groups:
            complaints += group.read_to_the_end(read_by)
        complaints += self._join(self._readers, read_by + CLOSE_S)
        for group in self._groups:
            group.leave()
        complaints += self._join([thread for group in self._groups for thread in group.threads], read_by + CLOSE_S)
        complaints += [complaint for group in self._groups for complaint in group.watch.finish()]
        complaints += [f"{one.name}: {one.unanswered} records had no answer" for one in self._senders if one.unanswered]
        complaints += [f"{one.name}: behind the end by {one.missing}" for one in self._readers if one.missing]
        complaints += [f"{one.name}: {one.fallen}" for one in self._readers if one.fallen]
        if complaints:
            raise WorkloadError("; ".join(complaints))

    def unprocessed(self, operations: Sequence[Operation]) -> list[str]:
        """Records of the history that were acknowledged, and that a group which reads them never processed; and those that were
        not moved exactly once."""
        unprocessed = [complaint for group in self._groups for complaint in group.watch.unprocessed(operations)]
        return unprocessed + (self._transactions.unmoved(operations) if self._transactions is not None else [])

    @property
    def group_counts(self) -> dict[str, GroupCounts]:
        """By protocol."""
        return {group.protocol: group.watch.counts for group in self._groups}

    @property
    def _threads(self) -> list[Client]:
        others = self._transactions.threads if self._transactions is not None else []
        return [*self._readers, *self._senders, *(thread for group in self._groups for thread in group.threads), *others]

    @staticmethod
    def _join(threads: Sequence[Client], deadline: float) -> list[str]:
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [f"{thread.name} does not end" for thread in threads if thread.is_alive()]
        return hung + [f"{thread.name} broke: {thread.failure!r}" for thread in threads if thread.failure is not None]
