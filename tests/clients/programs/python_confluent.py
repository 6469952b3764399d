"""confluent-kafka (librdkafka): `python -m tests.clients.programs.python_confluent BOOTSTRAP`."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import ConsumerGroupTopicPartitions, ElectionType, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.clients.programs.serving import Consumer, Program, Transactor, Unsupported, serve, text_of
from tests.cluster.libraries import TIMEOUT_S, Confluent, Message, Refused

PRODUCER_FENCED = 90
TYPES = {"topic": ResourceType.TOPIC, "broker": ResourceType.BROKER, "group": ResourceType.GROUP}


class ConfluentConsumer:
    def __init__(self, settings: dict[str, Any], topics: Sequence[str]) -> None:
        self._consumer = confluent_kafka.Consumer(settings)
        self._consumer.subscribe(list(topics))

    def poll(self) -> list[tuple[int, Message]]:
        found = []
        for one in self._consumer.consume(500, 0.1):
            if one.error() is not None:
                if one.error().fatal():
                    raise confluent_kafka.KafkaException(one.error())
                continue  # librdkafka tells of what it goes on from
            headers = tuple(one.headers() or ())
            found.append((one.offset(), Message(one.value(), one.key(), headers, one.timestamp()[1], one.partition())))
        return found

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self._consumer.assignment()]

    def commit(self, metadata: str) -> None:
        places = [place for place in self._consumer.position(self._consumer.assignment()) if place.offset >= 0]
        offsets = [TopicPartition(place.topic, place.partition, place.offset, metadata) for place in places]
        for place in self._consumer.commit(offsets=offsets, asynchronous=False) if offsets else ():
            if place.error is not None:
                raise Refused(place.error.code(), place.error.str())

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition, offset))

    def close(self) -> None:
        self._consumer.close()


class ConfluentTransactor:
    def __init__(self, settings: dict[str, Any], transactional_id: str) -> None:
        self._settings = settings
        self._producer = confluent_kafka.Producer(settings | {"transactional.id": transactional_id})
        self._told(lambda: self._producer.init_transactions(TIMEOUT_S))

    def begin(self) -> None:
        self._told(self._producer.begin_transaction)

    def send(self, topic: str, message: Message) -> None:
        self._told(lambda: self._producer.produce(topic, message.value, message.key, message.partition))
        self._producer.flush(TIMEOUT_S)

    def send_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        member = confluent_kafka.Consumer(self._settings | {"group.id": group})
        places = [TopicPartition(topic, partition, offset)]
        self._told(lambda: self._producer.send_offsets_to_transaction(places, member.consumer_group_metadata(), TIMEOUT_S))
        member.close()

    def end(self, *, commit: bool) -> None:
        end = self._producer.commit_transaction if commit else self._producer.abort_transaction
        self._told(lambda: end(TIMEOUT_S))

    @staticmethod
    def _told(action: Callable[[], Any]) -> None:
        try:
            action()
        except confluent_kafka.KafkaException as error:
            code = error.args[0].code()
            # librdkafka has a number of its own for it
            raise Refused(PRODUCER_FENCED if code == KafkaError._FENCED else code, error.args[0].str()) from error


class ConfluentProgram(Program):
    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.library = Confluent(bootstrap)
        self._settings = {"bootstrap.servers": bootstrap}
        self._admin = AdminClient(self._settings)

    def consumer(self, group: str, topics: Sequence[str], **how: Any) -> Consumer:
        settings: dict[str, Any] = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        settings |= {"topic.metadata.refresh.interval.ms": 1000}
        if how["protocol"] == "consumer":
            settings["group.protocol"] = "consumer"
            settings |= {"group.remote.assignor": how["assignor"]} if how.get("assignor") else {}
        else:
            settings |= {"session.timeout.ms": how.get("session_ms", 6000), "heartbeat.interval.ms": 300}
            settings["partition.assignment.strategy"] = how.get("assignor") or "range"
        if how.get("instance"):
            settings["group.instance.id"] = how["instance"]
        return ConfluentConsumer(self._settings | settings, topics)

    def make_transactor(self, transactional_id: str) -> Transactor:
        return ConfluentTransactor(self._settings, transactional_id)

    def read_committed(self, topic: str, partition: int, count: int) -> list[str | None]:
        return [text_of(message.value) for _, message in self.library.consume(topic, 0, count, partition)]  # its default

    def flow(self, topic: str, partitions: int, count: int, pause_ms: int) -> list[list[int]]:
        places: list[list[int]] = [[-1, -1] for _ in range(count)]
        producer = confluent_kafka.Producer(self._settings | {"enable.idempotence": True, "message.timeout.ms": 60_000})

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                places[int(message.value())] = [message.partition(), message.offset()]

        for number in range(count):
            producer.produce(topic, b"%d" % number, partition=number % partitions, on_delivery=delivered)
            producer.poll(0)
            time.sleep(pause_ms / 1000)
        assert producer.flush(60) == 0
        return places

    def configs(self, type: str, name: str) -> dict[str, str]:  # noqa: A002
        resource = ConfigResource(TYPES[type], name)
        found = self._done(self._admin.describe_configs([resource])[resource])
        return {key: entry.value for key, entry in found.items()}

    def set_config(self, type: str, name: str, key: str, value: str) -> None:  # noqa: A002
        change = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(TYPES[type], name, incremental_configs=[change])
        self._done(self._admin.incremental_alter_configs([resource])[resource])

    def groups(self) -> list[str]:
        return [listing.group_id for listing in self._done(self._admin.list_consumer_groups()).valid]

    def group(self, group: str) -> tuple[str, int]:
        found = self._done(self._admin.describe_consumer_groups([group])[group])
        return found.state.name.lower().replace("_", "-"), len(found.members)

    def group_offsets(self, group: str) -> list[tuple[str, int, int, str]]:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self._done(self._admin.list_consumer_group_offsets(asked)[group]).topic_partitions
        return [(place.topic, place.partition, place.offset, place.metadata or "") for place in found]

    def set_group_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        self._each(self._done(self._admin.alter_consumer_group_offsets([asked])[group]).topic_partitions)

    def forget_group_offset(self, group: str, topic: str, partition: int) -> None:
        raise Unsupported("confluent-kafka has no call to delete offsets")

    def delete_group(self, group: str) -> None:
        self._done(self._admin.delete_consumer_groups([group])[group])

    def replicas(self, topic: str, partition: int) -> tuple[list[int], list[int], int]:
        found = self._admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions[partition]
        return found.replicas, found.isrs, found.leader

    def reassign(self, topic: str, partition: int, replicas: list[int]) -> None:
        raise Unsupported("confluent-kafka has no call to reassign partitions")

    def elect_leader(self, topic: str, partition: int) -> None:
        asked = TopicPartition(topic, partition)
        error = self._done(self._admin.elect_leaders(ElectionType.PREFERRED, [asked]))[asked]
        if error is not None:
            raise Refused(error.code(), error.str())

    @staticmethod
    def _each(places: Sequence[TopicPartition]) -> None:
        for place in places:
            if place.error is not None:
                raise Refused(place.error.code(), place.error.str())

    @staticmethod
    def _done(future: Any) -> Any:
        try:
            return future.result(TIMEOUT_S)
        except confluent_kafka.KafkaException as error:
            raise Refused(error.args[0].code(), error.args[0].str()) from error


if __name__ == "__main__":
    serve(f"{confluent_kafka.version()}", ConfluentProgram(sys.argv[1]))
