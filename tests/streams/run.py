"""One run: a cluster, the engines, lines that come in while nodes and engines are killed; then the verdict."""

import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import confluent_kafka

from tests.clients.peers import Peer
from tests.events import EventProducer, create_topic
from tests.streams.engines import CUSTOMERS, LINES, Engine, KafkaStreams, Place
from tests.streams.faults import Killer
from tests.streams.judging import Total, judge_joined, judge_last, judge_totals
from tests.streams.lines import Work
from tests.streams.reading import Reader

PARTITIONS = 4
FIRST = 200  # lines, that engines show by that they are at work
TABLE_AGE_MS = 3_600_000  # so much older than the lines is the table: who joins by time has it before the first of them
JOIN_TIMEOUT_S = 120.0
STANDSTILL_S = 25.0  # longer than any session, transaction or election takes here
STANDSTILLS_MAX = 3
KEPT = {"min.insync.replicas": "2", "retention.ms": "-1"}


@dataclass(slots=True)
class Course:
    """How it went with one engine."""

    engine: Engine
    ready_s: float | None = None  # when all was there that has to be
    standstills: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    peer: str
    seed: int
    work: Work
    courses: list[Course]
    strikes: list[str]
    fed_s: float
    took_s: float
    wrong: list[str]

    @property
    def is_clean(self) -> bool:
        return not self.wrong and not any(course.wrong for course in self.courses)


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    kills: int


def say(started: float) -> Callable[[str], None]:
    return lambda text: print(f"{time.monotonic() - started:6.1f} s  {text}", file=sys.stderr, flush=True)


def run(peer: Peer, kinds: Sequence[type[Engine]], work: Work, plan: Plan, directory: Path) -> Result:
    """Raises LackingError if an engine cannot run here."""
    began = time.monotonic()
    tell = say(began)
    bootstrap = peer.bootstrap_servers
    engines = [kind(Place(bootstrap, directory)) for kind in kinds]
    courses = [Course(engine) for engine in engines]
    feed = Feed(bootstrap, work, plan.seconds)
    killer = Killer(peer, engines, random.Random(plan.seed), plan.kills, tell)
    make_topics(bootstrap, engines)
    fill_table(bootstrap, work)
    with ExitStack() as stack:
        for engine in engines:
            stack.callback(engine.close)
            engine.start()
        play(courses, bootstrap, feed, killer, tell)
        for course in courses:
            course.wrong += course.engine.stop()
    tell("judging")
    for course in courses:
        judge(course, bootstrap, work)
    wrong = feed.wrong() + killer.wrong() + [f"the cluster has logged: {line}" for line in peer.bugs()]
    return Result(peer.name, plan.seed, work, courses, killer.strikes, feed.took_s, time.monotonic() - began, wrong)


def make_topics(bootstrap: str, engines: Sequence[Engine]) -> None:
    create_topic(bootstrap, LINES, partitions=PARTITIONS, config=KEPT)
    create_topic(bootstrap, CUSTOMERS, partitions=PARTITIONS, config={**KEPT, "cleanup.policy": "compact"})
    for engine in engines:
        for topic in engine.outputs.values():
            create_topic(bootstrap, topic, partitions=PARTITIONS, config=KEPT)


def fill_table(bootstrap: str, work: Work) -> None:
    """Each customer twice, of which the second time counts; all of it before the first line."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2"})
    at_ms = int(time.time() * 1000) - TABLE_AGE_MS
    for country in (lambda _: "nowhere", lambda customer: work.countries[customer]):
        for customer in work.countries:
            producer.produce(CUSTOMERS, country(customer), customer, timestamp=at_ms)
    left = producer.flush(60)
    assert left == 0, f"{left} customers were not acknowledged"


class Feed:
    """Produces the lines: a few at once, the others spread evenly over some seconds, when all engines are at work."""

    def __init__(self, bootstrap: str, work: Work, seconds: float) -> None:
        self._producer = EventProducer(bootstrap, LINES, partitioner="murmur2")
        self.work, self._seconds = work, seconds
        self.took_s = 0.0
        self.at_work, self.ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Only if it stands still for good is it not at its end soon."""
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        first, others = self.work.events[:FIRST], self.work.events[FIRST:]
        for event in first:
            self._producer.send(*event)
        self._producer.flush()
        self.at_work.wait()
        started = time.monotonic()
        for number, event in enumerate(others):
            self._producer.send(*event)
            early = started + self._seconds * number / len(others) - time.monotonic()
            if early > 0.01:
                self._producer.poll(early)
        self._producer.flush()
        self.took_s = time.monotonic() - started
        self.ended.set()

    def wrong(self) -> list[str]:
        missing = len(self.work.events) - len(self._producer.promises.acknowledged)
        return [f"{missing} lines were not acknowledged, for instance {self._producer.promises.failed}"] if missing else []


def play(courses: Sequence[Course], bootstrap: str, feed: Feed, killer: Killer, tell: Callable[[str], None]) -> None:
    """Until each engine has told of every line, or stands still for good."""
    feed.start()
    watches = [Watch(course, bootstrap, len(feed.work.lines), tell) for course in courses]
    try:
        while not all(watch.is_over for watch in watches):
            for watch in watches:
                watch.look()
            if not feed.at_work.is_set() and all(watch.is_at_work for watch in watches):
                tell("all engines are at work")
                feed.at_work.set()
                killer.start()
            if feed.ended.is_set():
                killer.ended.set()
    finally:
        feed.at_work.set()
        killer.ended.set()
        for watch in watches:
            watch.close()
    feed.join()
    killer.join()


class Watch:
    """Reads what an engine writes while it writes it."""

    def __init__(self, course: Course, bootstrap: str, lines: int, tell: Callable[[str], None]) -> None:
        self._course, self._lines, self._tell = course, lines, tell
        self._readers = [Reader(bootstrap, topic) for topic in course.engine.outputs.values()]
        self._started = self._moved = time.monotonic()

    @property
    def is_at_work(self) -> bool:
        return self.is_over or all(reader.told for reader in self._readers)

    @property
    def is_over(self) -> bool:
        return self._course.ready_s is not None or self._course.standstills >= STANDSTILLS_MAX

    def look(self) -> None:
        if self.is_over:
            return
        self._course.engine.revive()
        now = time.monotonic()
        if sum(reader.take() for reader in self._readers):
            self._moved = now
        if all(len(reader.told) >= self._lines for reader in self._readers):
            self._course.ready_s = now - self._started
            self._tell(f"{self._course.engine.name} has told of all {self._lines} lines")
        elif now - self._moved > STANDSTILL_S:
            self._moved = now
            self._unstick()

    def _unstick(self) -> None:
        """An application that does nothing any more is started again, as whatever runs a service does; it is told."""
        self._course.standstills += 1
        self._tell(f"{self._course.engine.name} has stood still for {STANDSTILL_S:.0f} s: started again")
        for instance in self._course.engine.instances:
            instance.kill_for(0)

    def close(self) -> None:
        """What was read once must be there for good: see `judge`."""
        for reader in self._readers:
            self._course.engine.seen[reader.topic] = reader.told
            reader.close()


def judge(course: Course, bootstrap: str, work: Work) -> None:
    """All is read anew, now that nobody writes any more."""
    engine = course.engine
    for what, topic in engine.outputs.items():
        reader = read_whole(bootstrap, topic)
        held = {(told.partition, told.offset): told for told in reader.told}
        changed = [told for told in engine.seen[topic] if held.get((told.partition, told.offset)) != told]
        if changed:
            course.wrong.append(f"{topic}: {changed[0]} was read while it was written, and is not there any more")
        wrong = judge_totals(work.lines, reader.told) if what == "totals" else judge_joined(work, reader.told)
        course.wrong += [f"{topic}: {one}" for one in wrong]
    if isinstance(engine, KafkaStreams):
        changelog = read_whole(bootstrap, engine.changelog).told
        last = {told.key: Total(told.value["lines"], told.value["quantity"]) for told in changelog}
        course.wrong += [f"{engine.changelog}: {one}" for one in judge_last(work.lines, last)]


def read_whole(bootstrap: str, topic: str) -> Reader:
    reader = Reader(bootstrap, topic)
    try:
        reader.to_ends()
    finally:
        reader.close()
    return reader
