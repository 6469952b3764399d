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
TABLE_AGE_MS = 3_600_000  # so much older than the lines is the table: who joins by time has it before the first of them
STANDSTILL_S = 60.0
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
    started = time.monotonic()
    tell = say(started)
    with ExitStack() as stack:
        place = Place(peer.bootstrap_servers, directory)
        engines = [kind(place) for kind in kinds]
        make_topics(peer.bootstrap_servers, engines)
        fill_table(peer.bootstrap_servers, work)
        for engine in engines:
            stack.callback(engine.close)
            engine.start()
        feed = Feed(peer.bootstrap_servers, work, plan.seconds)
        killer = Killer(peer, engines, random.Random(plan.seed), plan.kills, tell)
        threads = [feed.start(), killer.start()]
        courses = [Course(engine) for engine in engines]
        wait(courses, peer.bootstrap_servers, feed, killer, len(work.lines), tell)
        for thread in threads:
            thread.join(120)
        for course in courses:
            course.wrong += course.engine.stop()
        tell("judging")
        for course in courses:
            judge(course, peer.bootstrap_servers, work)
    wrong = (
        feed.wrong()
        + ([f"faults: {killer.error!r}"] if killer.error else [])
        + [f"the cluster has logged: {line}" for line in peer.bugs()]
    )
    return Result(peer.name, plan.seed, work, courses, killer.strikes, feed.took_s, time.monotonic() - started, wrong)


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
    """Produces the lines, spread evenly over some seconds."""

    def __init__(self, bootstrap: str, work: Work, seconds: float) -> None:
        self._producer = EventProducer(bootstrap, LINES, partitioner="murmur2")
        self._work, self._seconds = work, seconds
        self.took_s = 0.0
        self.ended = threading.Event()

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        started = time.monotonic()
        for number, event in enumerate(self._work.events):
            self._producer.send(*event)
            early = started + self._seconds * number / len(self._work.events) - time.monotonic()
            if early > 0.01:
                self._producer.poll(early)
        self._producer.flush()
        self.took_s = time.monotonic() - started
        self.ended.set()

    def wrong(self) -> list[str]:
        missing = len(self._work.events) - len(self._producer.promises.acknowledged)
        return [f"{missing} lines were not acknowledged, for instance {self._producer.promises.failed}"] if missing else []


def wait(courses: Sequence[Course], bootstrap: str, feed: Feed, killer: Killer, lines: int, tell: Callable[[str], None]) -> None:
    """Until each engine has told of every line, or stands still for good. Dead instances are started again."""
    watches = [Watch(course, bootstrap, lines, tell) for course in courses]
    try:
        while not all(watch.is_over for watch in watches):
            for watch in watches:
                watch.look()
            if feed.ended.is_set():
                killer.ended.set()
    finally:
        killer.ended.set()
        for watch in watches:
            watch.close()


class Watch:
    """Reads what an engine writes while it writes it."""

    def __init__(self, course: Course, bootstrap: str, lines: int, tell: Callable[[str], None]) -> None:
        self._course, self._lines, self._tell = course, lines, tell
        self._readers = [Reader(bootstrap, topic) for topic in course.engine.outputs.values()]
        self._started = self._moved = time.monotonic()

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
