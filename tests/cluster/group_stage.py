"""A group under load, and what can be seen of it: a producer that never pauses, members that are processes, and their words.

Shared by the tests of groups and their benchmarks.
"""

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import chain
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.cluster.group_member import RETRIABLE, MemberConfig

PATIENCE_S = 120.0  # the machine may be busy
STOP_S = 20.0
PACE_S = 0.05


def coordinator_of(bootstrap: str, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must live until the answer is there
    return int(admin.describe_consumer_groups([group])[group].result(20).coordinator.id)


def begin_at_zero(bootstrap: str, group: str, topic: str, partitions: int) -> None:
    """Commit the start of each partition, so that members need no reset of offsets to begin."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    places = [TopicPartition(topic, partition, 0) for partition in range(partitions)]
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not _committed(consumer, places):
            assert time.monotonic() < deadline, f"{group} has no coordinator"
            time.sleep(0.1)
    finally:
        consumer.close()


def _committed(consumer: Consumer, places: list[TopicPartition]) -> bool:
    """False while the coordinator is being made, or is not ready."""
    try:
        answered = consumer.commit(offsets=places, asynchronous=False) or []
    except KafkaException as failure:
        assert failure.args[0].code() in RETRIABLE, failure
        return False
    return all(place.error is None for place in answered)


class Load:
    """Produces to all partitions, a record each every few milliseconds, in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._topic = topic
        self._partitions = partitions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ends: dict[int, int] = {}  # of what was acknowledged
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        while not self._stop.wait(PACE_S):
            for partition in range(self._partitions):
                self._producer.produce(self._topic, b"x" * 50, partition=partition, on_delivery=self._on_delivery)
            self._producer.poll(0)

    def _on_delivery(self, error: object, message: object) -> None:
        if error is not None:
            self.failed.append(str(error))
        else:
            partition, offset = message.partition(), message.offset()  # type: ignore[attr-defined]
            self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)


class Reading(NamedTuple):
    """A member has read these records of a partition."""

    at: float
    member: int
    partition: int
    first: int
    last: int


class Commit(NamedTuple):
    """Accepted: when it was asked for, and when that was known here."""

    began_at: float
    heard_at: float


class Members:
    """Processes of a group, and what they say. All times are monotonic."""

    def __init__(self, config: MemberConfig, partitions: int) -> None:
        self._config = config
        self._partitions = partitions
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self.readings: list[Reading] = []
        self.commits: defaultdict[int, list[Commit]] = defaultdict(list)  # by member
        self.owned: dict[int, list[int]] = {}
        self.given_up: list[tuple[int, int]] = []  # (member, partition)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for number in list(self._processes):
            self._end(number)

    def start(self, *numbers: int, **changes: str) -> None:
        """`changes` of the group's config, `{number}` in them being the member's."""
        for number in numbers:
            config = replace(self._config, **{name: value.format(number=number) for name, value in changes.items()})
            command = [sys.executable, "-m", "tests.cluster.group_member", json.dumps(asdict(config))]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._processes[number] = process
            self._threads[number] = threading.Thread(target=self._listen, args=(number, process), daemon=True)
            self._threads[number].start()

    def kill(self, number: int) -> None:
        self._processes[number].kill()
        self._end(number)

    def leave(self, number: int) -> None:
        self._processes[number].terminate()
        self._end(number)

    def _end(self, number: int) -> None:
        process = self._processes.pop(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._threads.pop(number).join()  # what it said to the end
        self.owned.pop(number, None)

    def _listen(self, number: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._hear(number, line.split())

    def _hear(self, number: int, words: list[str]) -> None:
        match words[0]:
            case "read":
                self.readings.append(Reading(time.monotonic(), number, *map(int, words[1:])))
            case "committed":
                self.commits[number].append(Commit(float(words[1]), time.monotonic()))
            case "owns":
                self.owned[number] = list(map(int, words[1:]))
            case "gave":
                self.given_up += [(number, int(partition)) for partition in words[1:]]
            case _:
                self.errors.append(f"member {number}: {' '.join(words)}")

    # --- what is seen of them

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Fails at the first error of a member, and when it takes too long."""
        started = time.monotonic()
        while not condition():
            assert self.errors == [], f"while waiting: {what}"
            assert time.monotonic() - started < PATIENCE_S, f"still not after {PATIENCE_S} s: {what}; owned: {self.owned}"
            time.sleep(0.01)

    def share_all(self, count: int) -> bool:
        """Have so many members all partitions between them, each one once, and nobody two more than another?"""
        owned = [partitions for partitions in list(self.owned.values()) if partitions]
        is_whole = len(owned) == count and sorted(chain(*owned)) == list(range(self._partitions))
        return is_whole and max(map(len, owned)) - min(map(len, owned)) <= 1

    def read_behind(self, ends: Mapping[int, int], since: float = 0.0) -> dict[int, float]:
        """Partition -> when the first record behind its end was read."""
        found: dict[int, float] = {}
        for reading in list(self.readings):
            if reading.at > since and reading.last >= ends[reading.partition]:
                found.setdefault(reading.partition, reading.at)
        return found

    def skipped(self, ends: Mapping[int, int]) -> dict[int, list[int]]:
        """Partition -> offsets before its end that nobody has read; partitions without such are left out."""
        read: defaultdict[int, set[int]] = defaultdict(set)
        for reading in list(self.readings):
            read[reading.partition].update(range(reading.first, reading.last + 1))
        missing = {partition: sorted(set(range(end)) - read[partition]) for partition, end in ends.items()}
        return {partition: offsets for partition, offsets in missing.items() if offsets}
