"""Three client libraries under one shape, so that each is asked the same: confluent-kafka, kafka-python, aiokafka."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiokafka
import aiokafka.admin
import confluent_kafka
import kafka
import kafka.admin
from aiokafka.admin.config_resource import ConfigResource as AioConfigResource
from aiokafka.admin.config_resource import ConfigResourceType as AioConfigResourceType
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

Place = tuple[int, int]  # partition and offset
BEGINNING, END = "beginning", "end"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    partition: int = 0


class Refused(Exception):
    """What the library says when the cluster refuses; `code` is Kafka's number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Library(Protocol):
    """One library. Everything blocks until it is done."""

    def produce(self, topic: str, messages: Sequence[Message], **how: Any) -> list[Place]:
        """`acks`, `compression` and `record_bytes_max` (of the client). Raises Refused. Offset -1 where there was no answer."""
        ...

    def consume(self, topic: str, start: int | str, count: int, partition: int = 0) -> list[tuple[int, Message]]:
        """So many records from an offset, BEGINNING or END on, with their offsets."""
        ...

    def stream(self, topic: str, partitions: Sequence[int], stop: threading.Event) -> Iterator[tuple[Place, Message]]:
        """All records from the beginning on, until `stop` is set."""
        ...

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]: ...
    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None: ...
    def topics(self) -> dict[str, int]:
        """Name -> number of partitions."""
        ...

    def create_topic(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None: ...
    def delete_topic(self, name: str) -> None: ...
    def grow_topic(self, name: str, partitions: int) -> None: ...
    def configs(self, topic: str) -> dict[str, str]: ...
    def set_config(self, topic: str, name: str, value: str) -> None: ...
    def cluster(self) -> tuple[str, dict[int, str], int]:
        """Its id, the addresses of its brokers, and its controller."""
        ...

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int: ...


class Confluent:
    def __init__(self, bootstrap: str) -> None:
        self._settings: dict[str, Any] = {"bootstrap.servers": bootstrap}
        self._admin = AdminClient(self._settings)

    def produce(self, topic: str, messages: Sequence[Message], **how: Any) -> list[Place]:
        places: dict[int, Place] = {}
        errors: list[Any] = []
        settings = {"acks": how.get("acks", "all"), "compression.type": how.get("compression") or "none", "linger.ms": 20}
        settings |= {"message.max.bytes": how.get("record_bytes_max", 1_000_000), "message.timeout.ms": 60_000}
        settings |= {"enable.idempotence": how.get("acks", "all") == "all"}
        producer = confluent_kafka.Producer(self._settings | settings)

        def delivered(index: int) -> Callable[[Any, Any], None]:
            def on_delivery(error: Any, message: Any) -> None:
                if error is not None:
                    errors.append(error)
                else:
                    places[index] = (message.partition(), -1 if message.offset() is None else message.offset())

            return on_delivery

        for index, one in enumerate(messages):
            when = {} if one.timestamp_ms is None else {"timestamp": one.timestamp_ms}
            producer.produce(
                topic, one.value, one.key, one.partition, on_delivery=delivered(index), headers=list(one.headers), **when
            )
        assert producer.flush(TIMEOUT_S) == 0
        if errors:
            raise Refused(errors[0].code(), errors[0].str())
        return [places[index] for index in range(len(messages))]

    @contextlib.contextmanager
    def _consumer(self, **settings: Any) -> Iterator[confluent_kafka.Consumer]:
        consumer = confluent_kafka.Consumer(self._settings | {"group.id": "none", "enable.auto.commit": False} | settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def consume(self, topic: str, start: int | str, count: int, partition: int = 0) -> list[tuple[int, Message]]:
        places = {BEGINNING: confluent_kafka.OFFSET_BEGINNING, END: confluent_kafka.OFFSET_END}
        offset = places[start] if isinstance(start, str) else start
        with self._consumer(**{"enable.partition.eof": True, "fetch.message.max.bytes": 10_000_000}) as consumer:
            consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset)])
            found: list[tuple[int, Message]] = []
            deadline = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline:
                message = consumer.poll(1.0)
                if message is not None and message.error() is None:
                    found.append((message.offset() or 0, _of_confluent(message)))
                if len(found) == count or (message is not None and message.error() is not None and not count):
                    return found
        raise TimeoutError(f"{len(found)} of {count} records")

    def stream(self, topic: str, partitions: Sequence[int], stop: threading.Event) -> Iterator[tuple[Place, Message]]:
        with self._consumer() as consumer:
            consumer.assign([confluent_kafka.TopicPartition(topic, index, 0) for index in partitions])
            while not stop.is_set():
                for message in consumer.consume(500, 0.1):
                    assert message.error() is None, message.error()
                    yield (message.partition() or 0, message.offset() or 0), _of_confluent(message)

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        with self._consumer() as consumer:
            low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), timeout=TIMEOUT_S)
        return low, high

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        with self._consumer() as consumer:
            asked = confluent_kafka.TopicPartition(topic, partition, timestamp_ms)
            found = consumer.offsets_for_times([asked], timeout=TIMEOUT_S)[0].offset
        return int(found) if found >= 0 else None

    def topics(self) -> dict[str, int]:
        listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
        return {name: len(topic.partitions) for name, topic in listed.items()}

    def create_topic(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        self._done(self._admin.create_topics([NewTopic(name, partitions, replicas, config=configs)])[name])

    def delete_topic(self, name: str) -> None:
        self._done(self._admin.delete_topics([name])[name])

    def grow_topic(self, name: str, partitions: int) -> None:
        self._done(self._admin.create_partitions([NewPartitions(name, partitions)])[name])

    def configs(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        entries = self._done(self._admin.describe_configs([resource])[resource])
        return {name: entry.value for name, entry in entries.items()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
        self._done(self._admin.incremental_alter_configs([resource])[resource])

    def cluster(self) -> tuple[str, dict[int, str], int]:
        found = self._done(self._admin.describe_cluster())
        return found.cluster_id, {node.id: f"{node.host}:{node.port}" for node in found.nodes}, found.controller.id

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int:
        asked = confluent_kafka.TopicPartition(topic, partition, before)
        return int(self._done(self._admin.delete_records([asked])[asked]).low_watermark)

    @staticmethod
    def _done(future: Any) -> Any:
        try:
            return future.result(TIMEOUT_S)
        except confluent_kafka.KafkaException as error:
            raise Refused(error.args[0].code(), error.args[0].str()) from error


def _of_confluent(message: Any) -> Message:
    return Message(message.value(), message.key(), tuple(message.headers() or ()), message.timestamp()[1], message.partition())


class KafkaPython:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap.split(",")
        self._admin = kafka.admin.KafkaAdminClient(bootstrap_servers=self._bootstrap)

    def produce(self, topic: str, messages: Sequence[Message], **how: Any) -> list[Place]:
        producer = kafka.KafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks=how.get("acks", "all"),
            enable_idempotence=how.get("acks", "all") == "all",
            compression_type=how.get("compression"),
            max_request_size=how.get("record_bytes_max", 1_000_000),
            linger_ms=20,
        )
        try:
            sent = [
                producer.send(topic, one.value, one.key, list(one.headers), one.partition, one.timestamp_ms) for one in messages
            ]
            producer.flush(TIMEOUT_S)
            answers = [future.get(TIMEOUT_S) for future in sent]
        except kafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error
        finally:
            producer.close(5)
        return [(answer.partition, answer.offset) for answer in answers]

    @contextlib.contextmanager
    def _consumer(self, topic: str, partitions: Sequence[int]) -> Iterator[Any]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=10_000_000,
            consumer_timeout_ms=int(TIMEOUT_S * 1000),
        )
        try:
            consumer.assign([kafka.TopicPartition(topic, index) for index in partitions])
            yield consumer
        finally:
            consumer.close()

    def consume(self, topic: str, start: int | str, count: int, partition: int = 0) -> list[tuple[int, Message]]:
        with self._consumer(topic, [partition]) as consumer:
            place = kafka.TopicPartition(topic, partition)
            if start == BEGINNING:
                consumer.seek_to_beginning(place)
            elif start == END:
                consumer.seek_to_end(place)
            else:
                consumer.seek(place, start)
            if not count:
                return [(consumer.position(place), Message(None))] if consumer.poll(300) else []
            found = []
            for one in consumer:
                found.append((one.offset, _of_record(one)))
                if len(found) == count:
                    return found
        raise TimeoutError(f"{len(found)} of {count} records")

    def stream(self, topic: str, partitions: Sequence[int], stop: threading.Event) -> Iterator[tuple[Place, Message]]:
        with self._consumer(topic, partitions) as consumer:
            while not stop.is_set():
                for records in consumer.poll(100).values():
                    for one in records:
                        yield (one.partition, one.offset), _of_record(one)

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        with self._consumer(topic, [partition]) as consumer:
            place = kafka.TopicPartition(topic, partition)
            return consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        with self._consumer(topic, [partition]) as consumer:
            place = kafka.TopicPartition(topic, partition)
            found = consumer.offsets_for_times({place: timestamp_ms})[place]
            return None if found is None else int(found.offset)

    def topics(self) -> dict[str, int]:
        return {topic["name"]: len(topic["partitions"]) for topic in self._admin.describe_topics()}

    def create_topic(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        new = {name: {"num_partitions": partitions, "replication_factor": replicas, "configs": configs}}
        self._checked(lambda: self._admin.create_topics(new))

    def delete_topic(self, name: str) -> None:
        self._checked(lambda: self._admin.delete_topics([name]))

    def grow_topic(self, name: str, partitions: int) -> None:
        self._checked(lambda: self._admin.create_partitions({name: partitions}))

    def configs(self, topic: str) -> dict[str, str]:
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic)
        found = self._checked(lambda: self._admin.describe_configs([resource], config_filter="all"))
        ((_, topics),) = found.items()
        return {name: entry["value"] for name, entry in topics[topic].items()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic, {name: value})
        results = self._checked(lambda: self._admin.alter_configs([resource], raise_on_unknown=False))
        told = results["topic"][topic]  # "OK", or the error as a text that begins with its number
        if told != "OK":
            raise Refused(int(told.removeprefix("[Error ").partition("]")[0]), told)

    def cluster(self) -> tuple[str, dict[int, str], int]:
        found = self._admin.describe_cluster()
        brokers = {broker["broker_id"]: f"{broker['host']}:{broker['port']}" for broker in found["brokers"]}
        return found["cluster_id"], brokers, found["controller_id"]

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int:
        place = kafka.TopicPartition(topic, partition)
        found = self._checked(lambda: self._admin.delete_records({place: before}))[place]
        return int(found["low_watermark"] if isinstance(found, dict) else found.low_watermark)

    @staticmethod
    def _checked(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except kafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


def _of_record(one: Any) -> Message:
    """kafka-python and aiokafka have the same shape of records."""
    return Message(one.value, one.key, tuple(one.headers), one.timestamp, one.partition)


class Aiokafka:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def produce(self, topic: str, messages: Sequence[Message], **how: Any) -> list[Place]:
        async def run() -> list[Place]:
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks=how.get("acks", "all"),
                enable_idempotence=how.get("acks", "all") == "all",
                compression_type=how.get("compression"),
                max_request_size=how.get("record_bytes_max", 1_000_000),
                linger_ms=20,
            )
            async with producer:
                futures = [
                    await producer.send(topic, one.value, one.key, one.partition, one.timestamp_ms, list(one.headers))
                    for one in messages
                ]
                answers = await asyncio.gather(*futures)
            return [(message.partition, -1) if answer is None else (answer.partition, answer.offset)
                    for message, answer in zip(messages, answers, strict=True)]  # fmt: skip

        return self._run(run())  # type: ignore[no-any-return]

    @contextlib.asynccontextmanager
    async def _consumer(self, topic: str, partitions: Sequence[int]) -> Any:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=10_000_000
        )
        async with consumer:
            consumer.assign([aiokafka.TopicPartition(topic, index) for index in partitions])
            yield consumer

    def consume(self, topic: str, start: int | str, count: int, partition: int = 0) -> list[tuple[int, Message]]:
        async def run() -> list[tuple[int, Message]]:
            async with self._consumer(topic, [partition]) as consumer:
                place = aiokafka.TopicPartition(topic, partition)
                if start == BEGINNING:
                    await consumer.seek_to_beginning(place)
                elif start == END:
                    await consumer.seek_to_end(place)
                else:
                    consumer.seek(place, start)
                found: list[tuple[int, Message]] = []
                async with asyncio.timeout(TIMEOUT_S):
                    while len(found) < count:
                        one = await consumer.getone()
                        found.append((one.offset, _of_record(one)))
                return found if count else [(0, Message(None))] * len(await consumer.getmany(timeout_ms=300))

        return self._run(run())  # type: ignore[no-any-return]

    def stream(self, topic: str, partitions: Sequence[int], stop: threading.Event) -> Iterator[tuple[Place, Message]]:
        found: list[tuple[Place, Message]] = []

        async def run() -> None:
            async with self._consumer(topic, partitions) as consumer:
                while not stop.is_set():
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found.extend(((one.partition, one.offset), _of_record(one)) for one in records)

        thread = threading.Thread(target=self._run, args=(run(),))
        thread.start()
        position = 0
        while thread.is_alive() or position < len(found):
            if position < len(found):
                yield found[position]
                position += 1
            else:
                time.sleep(0.01)
        thread.join()

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        async def run() -> tuple[int, int]:
            async with self._consumer(topic, [partition]) as consumer:
                place = aiokafka.TopicPartition(topic, partition)
                return (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]

        return self._run(run())  # type: ignore[no-any-return]

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        async def run() -> int | None:
            async with self._consumer(topic, [partition]) as consumer:
                place = aiokafka.TopicPartition(topic, partition)
                found = (await consumer.offsets_for_times({place: timestamp_ms}))[place]
                return None if found is None else int(found.offset)

        return self._run(run())  # type: ignore[no-any-return]

    def topics(self) -> dict[str, int]:
        described = self._admin(lambda admin: admin.describe_topics())
        return {topic["topic"]: len(topic["partitions"]) for topic in described}

    def create_topic(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        new = aiokafka.admin.NewTopic(name, partitions, replicas, topic_configs=configs)
        self._check(self._admin(lambda admin: admin.create_topics([new])).topic_errors)

    def delete_topic(self, name: str) -> None:
        self._check(self._admin(lambda admin: admin.delete_topics([name])).topic_error_codes)

    def grow_topic(self, name: str, partitions: int) -> None:
        new = {name: aiokafka.admin.NewPartitions(partitions)}
        self._check(self._admin(lambda admin: admin.create_partitions(new)).topic_errors)

    def configs(self, topic: str) -> dict[str, str]:
        resource = AioConfigResource(AioConfigResourceType.TOPIC, topic)
        (answer,) = self._admin(lambda admin: admin.describe_configs([resource]))
        ((code, message, _, _, entries),) = answer.resources
        self._check([(topic, code, message)])
        return {entry[0]: entry[1] for entry in entries}

    def set_config(self, topic: str, name: str, value: str) -> None:
        raise NotImplementedError("aiokafka knows only AlterConfigs, which replaces all settings; Kafka deprecates it (KIP-339)")

    def cluster(self) -> tuple[str, dict[int, str], int]:
        found = self._admin(lambda admin: admin.describe_cluster())
        brokers = {broker["node_id"]: f"{broker['host']}:{broker['port']}" for broker in found["brokers"]}
        return found["cluster_id"], brokers, found["controller_id"]

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int:
        place = aiokafka.TopicPartition(topic, partition)
        wanted = {place: aiokafka.admin.RecordsToDelete(before)}
        return int(self._admin(lambda admin: admin.delete_records(wanted))[place])

    def _admin(self, action: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            try:
                return await action(admin)
            finally:
                await admin.close()

        return self._run(run())

    @staticmethod
    def _check(results: Sequence[Sequence[Any]]) -> None:
        for result in results:
            if result[1]:
                raise Refused(result[1], str(result[2:]))

    @staticmethod
    def _run(work: Any) -> Any:
        try:
            return asyncio.run(work)
        except aiokafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


LIBRARIES: dict[str, Callable[[str], Library]] = {"confluent-kafka": Confluent, "kafka-python": KafkaPython, "aiokafka": Aiokafka}
