"""One member of a group, as a process that can be killed: `python -m tests.cluster.group_member '{"bootstrap": ...}'`.

It says on its output what it has read, before it commits that:

    read 3 17 20        of partition 3 the offsets 17 to 20
    committed 12.5      a commit was accepted that was begun at this monotonic time, which all processes of a machine share
    owns 3 5            its partitions, at each change
    gave 3              gave these up, or lost them
    error ...           what its client would tell its user, an offset that would have to be reset among it

Nobody's offsets are reset in silence: the group has to have offsets before its members come.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import confluent_kafka
import kafka
import kafka.errors
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

RETRIABLE = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._STATE,
    KafkaError._NO_OFFSET,
)
ASSIGNORS = {"cooperative-sticky": CooperativeStickyAssignor, "range": RangePartitionAssignor}  # of kafka-python
POLL_S = 0.05
READ_MAX = 5_000  # at once: on a busy machine a commit takes its time, and the load does not wait

Ends = dict[int, tuple[int, int]]  # partition -> first and last offset


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """Where nothing is said, what the client does by default."""

    bootstrap: str
    group: str
    topic: str
    client: str = "confluent"  # or kafka-python
    protocol: str = "classic"  # or consumer: KIP-848
    assignor: str = ""
    session_ms: int = 0
    heartbeat_ms: int = 0
    instance: str = ""
    """group.instance.id, of a static member."""


class Member(Protocol):
    """What both clients do, each in its own way."""

    def read(self) -> Ends: ...
    def commit(self, ends: Ends) -> bool:
        """True when it was accepted, False when it may be after a rebalance, or at another coordinator."""
        ...

    def owned(self) -> list[int]: ...
    def close(self) -> None: ...


class ConfluentMember:
    def __init__(self, config: MemberConfig) -> None:
        self._topic = config.topic
        self._consumer = confluent_kafka.Consumer(_confluent_settings(config))
        self._consumer.subscribe([config.topic], on_revoke=self._on_given_up, on_lost=self._on_given_up)

    def _on_given_up(self, _: confluent_kafka.Consumer, places: list[TopicPartition]) -> None:
        say("gave", *sorted(place.partition for place in places))

    def read(self) -> Ends:
        ends: Ends = {}
        for message in self._consumer.consume(READ_MAX, timeout=POLL_S):
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is None:
                assert partition is not None and offset is not None
                ends[partition] = (ends.get(partition, (offset, 0))[0], offset)
            elif error.code() not in RETRIABLE:
                say("error", error)
        return ends

    def commit(self, ends: Ends) -> bool:
        places = [TopicPartition(self._topic, partition, last + 1) for partition, (_, last) in ends.items()]
        try:
            answered = self._consumer.commit(offsets=places, asynchronous=False) or []
        except KafkaException as failure:
            if failure.args[0].code() not in RETRIABLE:
                say("error", failure)
            return False
        return all(place.error is None for place in answered)

    def owned(self) -> list[int]:
        return sorted(one.partition for one in self._consumer.assignment())

    def close(self) -> None:
        self._consumer.close()


def _confluent_settings(config: MemberConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "bootstrap.servers": config.bootstrap,
        "group.id": config.group,
        "group.protocol": config.protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "log_level": 0,
    }
    if config.assignor:
        settings["partition.assignment.strategy"] = config.assignor
    if config.session_ms:
        settings["session.timeout.ms"] = config.session_ms
    if config.heartbeat_ms:
        settings["heartbeat.interval.ms"] = config.heartbeat_ms
    if config.instance:
        settings["group.instance.id"] = config.instance
    return settings


class GivenUp(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def on_partitions_revoked(self, revoked: Collection[kafka.TopicPartition]) -> None:
        say("gave", *sorted(place.partition for place in revoked))

    def on_partitions_assigned(self, assigned: Collection[kafka.TopicPartition]) -> None:
        """`owned` tells."""


class KafkaPythonMember:
    def __init__(self, config: MemberConfig) -> None:
        self._topic = config.topic
        self._consumer = kafka.KafkaConsumer(**_kafka_python_settings(config))
        self._consumer.subscribe([config.topic], listener=GivenUp())

    def read(self) -> Ends:
        polled = self._consumer.poll(timeout_ms=int(POLL_S * 1000), max_records=READ_MAX)
        return {place.partition: (records[0].offset, records[-1].offset) for place, records in polled.items() if records}

    def commit(self, ends: Ends) -> bool:
        places = {
            kafka.TopicPartition(self._topic, partition): kafka.OffsetAndMetadata(last + 1, "", -1)
            for partition, (_, last) in ends.items()
        }
        try:
            self._consumer.commit(places)
        except (kafka.errors.CommitFailedError, kafka.errors.RetriableError):
            return False
        return True

    def owned(self) -> list[int]:
        return sorted(one.partition for one in self._consumer.assignment())

    def close(self) -> None:
        self._consumer.close(autocommit=False)


def _kafka_python_settings(config: MemberConfig) -> dict[str, Any]:
    assert config.protocol == "classic", "kafka-python knows the classic protocol alone"
    settings: dict[str, Any] = {
        "bootstrap_servers": config.bootstrap.split(","),
        "group_id": config.group,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
    }
    if config.assignor:
        settings["partition_assignment_strategy"] = (ASSIGNORS[config.assignor],)
    if config.session_ms:
        settings["session_timeout_ms"] = config.session_ms
    if config.heartbeat_ms:
        settings["heartbeat_interval_ms"] = config.heartbeat_ms
    if config.instance:
        settings["group_instance_id"] = config.instance
    return settings


CLIENTS = {"confluent": ConfluentMember, "kafka-python": KafkaPythonMember}


def say(*words: object) -> None:
    print(*words, flush=True)


def read_on(member: Member) -> None:
    ends = member.read()
    for partition, (first, last) in sorted(ends.items()):
        say("read", partition, first, last)
    began_at = time.monotonic()
    if ends and member.commit(ends):
        say("committed", began_at)


def main(config: MemberConfig) -> None:
    stopping: list[int] = []
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    member: Member = CLIENTS[config.client](config)
    owned: list[int] = []
    while not stopping and os.getppid() == parent:  # nobody would end it any more
        try:
            read_on(member)
        except kafka.errors.KafkaError as failure:
            say("error", repr(failure))
        if member.owned() != owned:
            owned = member.owned()
            say("owns", *owned)
    member.close()


if __name__ == "__main__":
    main(MemberConfig(**json.loads(sys.argv[1])))
