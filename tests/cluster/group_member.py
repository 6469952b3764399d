"""One member of a group, as a process that can be killed: `python -m tests.cluster.group_member bootstrap group topic protocol`.

It says on its output what it has read, before it commits that:

    read 3 17 20        of partition 3 the offsets 17 to 20
    owns 3 5            its partitions, at each change
    error ...           what its client would tell its user, an offset that was reset among it
"""

import signal
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

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
SESSION_MS = 3_000


def say(*words: object) -> None:
    print(*words, flush=True)


def client_config(bootstrap: str, group: str, protocol: str) -> dict[str, Any]:
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "log_level": 0,
    }
    if protocol == "classic":
        config |= {
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    return config


def read_on(consumer: Consumer) -> None:
    messages = [message for message in consumer.consume(500, timeout=0.1) if _is_record(message)]
    if not messages:
        return
    ends: dict[int, tuple[int, int]] = {}
    for message in messages:
        first, _ = ends.get(message.partition(), (message.offset(), 0))
        ends[message.partition()] = (first, message.offset())
    for partition, (first, last) in sorted(ends.items()):
        say("read", partition, first, last)
    topic = messages[0].topic()
    try:
        consumer.commit(offsets=[TopicPartition(topic, index, last + 1) for index, (_, last) in ends.items()], asynchronous=False)
    except KafkaException as failure:
        if failure.args[0].code() not in RETRIABLE:
            say("error", failure)


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is not None and error.code() not in RETRIABLE:
        say("error", error)
    return error is None


def main(bootstrap: str, group: str, topic: str, protocol: str) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    consumer = Consumer(client_config(bootstrap, group, protocol))

    def on_change(_: Consumer, __: list[TopicPartition]) -> None:
        changed.append(None)

    changed: list[None] = []
    consumer.subscribe([topic], on_assign=on_change, on_revoke=on_change, on_lost=on_change)
    while not stopping:
        read_on(consumer)
        if changed:
            changed.clear()
            say("owns", *sorted(one.partition for one in consumer.assignment()))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
