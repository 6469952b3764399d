"""kafka-python: `python -m tests.clients.programs.python_kafka BOOTSTRAP`."""

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import kafka
import kafka.admin
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from tests.clients.programs.serving import Consumer, Program, Transactor, Unsupported, serve, text_of
from tests.cluster.libraries import TIMEOUT_S, KafkaPython, Message, Refused

ASSIGNORS = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}
TYPES = {name: getattr(kafka.admin.ConfigResourceType, name.upper(), None) for name in ("topic", "broker", "group")}


class KafkaPythonConsumer:
    def __init__(self, settings: dict[str, Any], topics: Sequence[str]) -> None:
        self._consumer = kafka.KafkaConsumer(**settings)
        # Who leads a group and joins again only because it has learnt of partitions loses what it is given when the
        # poll ends before the join (kafka-python 3.0.12): so learn of them first, and poll long.
        for topic in topics:
            self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe(list(topics))

    def poll(self) -> list[tuple[int, Message]]:
        try:
            polled = self._consumer.poll(1000)
        except kafka.errors.RetriableError:  # a node is away; the library asks to be called again
            return []
        return [
            (one.offset, Message(one.value, one.key, tuple(one.headers), one.timestamp, one.partition))
            for records in polled.values()
            for one in records
        ]

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self._consumer.assignment()]

    def commit(self, metadata: str) -> None:
        places = {place: self._consumer.position(place) for place in self._consumer.assignment()}
        self._consumer.commit({place: OffsetAndMetadata(offset, metadata, -1) for place, offset in places.items()})

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(kafka.TopicPartition(topic, partition), offset)

    def close(self) -> None:
        self._consumer.close()


class KafkaPythonTransactor:
    def __init__(self, bootstrap: Sequence[str], transactional_id: str) -> None:
        self._producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
        self._told(self._producer.init_transactions)

    def begin(self) -> None:
        self._told(self._producer.begin_transaction)

    def send(self, topic: str, message: Message) -> None:
        self._told(lambda: self._producer.send(topic, message.value, message.key, partition=message.partition).get(TIMEOUT_S))

    def send_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        offsets = {kafka.TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self._told(lambda: self._producer.send_offsets_to_transaction(offsets, group))

    def end(self, *, commit: bool) -> None:
        self._told(self._producer.commit_transaction if commit else self._producer.abort_transaction)

    @staticmethod
    def _told(action: Callable[[], Any]) -> None:
        try:
            action()
        except kafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


class KafkaPythonProgram(Program):
    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.library = KafkaPython(bootstrap)
        self._bootstrap = bootstrap.split(",")
        self._admin = kafka.admin.KafkaAdminClient(bootstrap_servers=self._bootstrap)

    def consumer(self, group: str, topics: Sequence[str], **how: Any) -> Consumer:
        settings: dict[str, Any] = {"bootstrap_servers": self._bootstrap, "group_id": group, "enable_auto_commit": False}
        settings |= {"auto_offset_reset": "earliest", "session_timeout_ms": how.get("session_ms", 6000)}
        settings |= {"heartbeat_interval_ms": 300, "partition_assignment_strategy": [ASSIGNORS[how.get("assignor") or "range"]]}
        if how.get("instance"):
            settings["group_instance_id"] = how["instance"]
        return KafkaPythonConsumer(settings, topics)

    def join(self, member: str, **how: Any) -> None:
        if how["protocol"] != "classic":
            raise Unsupported("kafka-python knows only the classic protocol")
        super().join(member, **how)

    def make_transactor(self, transactional_id: str) -> Transactor:
        return KafkaPythonTransactor(self._bootstrap, transactional_id)

    def read_committed(self, topic: str, partition: int, count: int) -> list[str | None]:
        how = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "consumer_timeout_ms": int(TIMEOUT_S * 1000)}
        consumer = kafka.KafkaConsumer(bootstrap_servers=self._bootstrap, **how)
        try:
            consumer.assign([kafka.TopicPartition(topic, partition)])
            return [text_of(record.value) for record in itertools.islice(consumer, count)]
        finally:
            consumer.close()

    def flow(self, topic: str, partitions: int, count: int, pause_ms: int) -> list[list[int]]:
        producer = kafka.KafkaProducer(bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True)
        futures = []
        for number in range(count):
            futures.append(producer.send(topic, b"%d" % number, partition=number % partitions))
            time.sleep(pause_ms / 1000)
        found = [future.get(60) for future in futures]
        producer.close()
        return [[one.partition, one.offset] for one in found]

    def configs(self, type: str, name: str) -> dict[str, str]:  # noqa: A002
        found = self._checked(lambda: self._admin.describe_configs([self._resource(type, name)], config_filter="all"))
        ((_, resources),) = found.items()
        return {key: entry["value"] for key, entry in resources[name].items()}

    def set_config(self, type: str, name: str, key: str, value: str) -> None:  # noqa: A002
        resource = self._resource(type, name, {key: value})
        ((_, resources),) = self._checked(lambda: self._admin.alter_configs([resource], raise_on_unknown=False)).items()
        told = resources[name]
        if told != "OK":
            raise Refused(int(told.removeprefix("[Error ").partition("]")[0]), told)

    def _resource(self, kind: str, name: str, changes: dict[str, str] | None = None) -> Any:
        if TYPES[kind] is None:
            raise Unsupported(f"kafka-python has no configs of a {kind}")
        return kafka.admin.ConfigResource(TYPES[kind], name, changes)

    def groups(self) -> list[str]:
        return [found["group_id"] for found in self._checked(self._admin.list_groups)]

    def group(self, group: str) -> tuple[str, int]:
        found = self._checked(lambda: self._admin.describe_groups([group]))[group]
        return found["group_state"].lower(), len(found["members"])

    def group_offsets(self, group: str) -> list[tuple[str, int, int, str]]:
        found = self._checked(lambda: self._admin.list_group_offsets(group))[group]
        return [(place.topic, place.partition, held.offset, held.metadata) for place, held in found.items()]

    def set_group_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        asked = {kafka.TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self._each(self._checked(lambda: self._admin.alter_group_offsets(group, asked)))

    def forget_group_offset(self, group: str, topic: str, partition: int) -> None:
        asked = [kafka.TopicPartition(topic, partition)]
        self._each(self._checked(lambda: self._admin.delete_group_offsets(group, asked)))

    def delete_group(self, group: str) -> None:
        told = self._checked(lambda: self._admin.delete_groups([group]))[group]  # "OK" or the name of an error
        if told != "OK":
            raise Refused(getattr(kafka.errors, told).errno, told)

    def replicas(self, topic: str, partition: int) -> tuple[list[int], list[int], int]:
        (found,) = self._checked(lambda: self._admin.describe_topics([topic]))
        place = next(each for each in found["partitions"] if each["partition_index"] == partition)
        return place["replica_nodes"], place["isr_nodes"], place["leader_id"]

    def reassign(self, topic: str, partition: int, replicas: list[int]) -> None:
        asked = {kafka.TopicPartition(topic, partition): replicas}
        self._each(self._checked(lambda: self._admin.alter_partition_reassignments(asked)))

    def elect_leader(self, topic: str, partition: int) -> None:
        asked = {topic: [partition]}
        answer = self._checked(lambda: self._admin.elect_leaders(0, asked, raise_errors=False))
        code = answer.replica_election_results[0].partition_result[0].error_code
        if code:
            raise Refused(code, f"electing a leader of {topic}-{partition}")

    @staticmethod
    def _each(errors: dict[Any, Any]) -> None:
        for error in errors.values():
            if error is not None and getattr(error, "errno", 0):
                raise Refused(error.errno, str(error))

    @staticmethod
    def _checked(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except kafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


if __name__ == "__main__":
    serve(kafka.__version__, KafkaPythonProgram(sys.argv[1]))
