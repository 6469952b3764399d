"""aiokafka: `python -m tests.clients.programs.python_aiokafka BOOTSTRAP`."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

import aiokafka
import aiokafka.admin
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from tests.clients.programs.serving import Consumer, Program, Transactor, Unsupported, serve, text_of
from tests.cluster.libraries import TIMEOUT_S, Aiokafka, Message, Refused

PRODUCER_FENCED = 90
ASSIGNORS = {"range": RangePartitionAssignor, "sticky": StickyPartitionAssignor}


class AiokafkaConsumer:
    """Runs its own loop for as long as it is polled; heartbeats go on within a poll."""

    def __init__(self, settings: dict[str, Any], topics: Sequence[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._consumer = self._run(self._start(settings, topics))

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    @staticmethod
    async def _start(settings: dict[str, Any], topics: Sequence[str]) -> aiokafka.AIOKafkaConsumer:
        consumer = aiokafka.AIOKafkaConsumer(*topics, **settings)
        await consumer.start()
        return consumer

    def poll(self) -> list[tuple[int, Message]]:
        polled = self._run(self._consumer.getmany(timeout_ms=100))
        return [
            (one.offset, Message(one.value, one.key, tuple(one.headers), one.timestamp, one.partition))
            for records in polled.values()
            for one in records
        ]

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self._consumer.assignment()]

    def commit(self, metadata: str) -> None:
        async def commit() -> None:
            places = {place: await self._consumer.position(place) for place in self._consumer.assignment()}
            await self._consumer.commit({place: (offset, metadata) for place, offset in places.items()})

        self._run(commit())

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(aiokafka.TopicPartition(topic, partition), offset)

    def close(self) -> None:
        self._run(self._consumer.stop())
        self._loop.close()


class AiokafkaTransactor:
    """Runs its own loop while it is asked something."""

    def __init__(self, bootstrap: str, transactional_id: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._producer = self._told(self._started(bootstrap, transactional_id))

    @staticmethod
    async def _started(bootstrap: str, transactional_id: str) -> aiokafka.AIOKafkaProducer:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
        await producer.start()
        return producer

    def begin(self) -> None:
        self._told(self._producer.begin_transaction())

    def send(self, topic: str, message: Message) -> None:
        self._told(self._producer.send_and_wait(topic, message.value, message.key, partition=message.partition))

    def send_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._told(self._producer.send_offsets_to_transaction({aiokafka.TopicPartition(topic, partition): offset}, group))

    def end(self, *, commit: bool) -> None:
        self._told(self._producer.commit_transaction() if commit else self._producer.abort_transaction())

    def _told(self, work: Any) -> Any:
        try:
            return self._loop.run_until_complete(work)
        except aiokafka.errors.ProducerFenced as error:  # of the library's own: it has no number
            raise Refused(PRODUCER_FENCED, str(error)) from error
        except aiokafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


class AiokafkaProgram(Program):
    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.library = Aiokafka(bootstrap)
        self._bootstrap = bootstrap

    def consumer(self, group: str, topics: Sequence[str], **how: Any) -> Consumer:
        settings: dict[str, Any] = {"bootstrap_servers": self._bootstrap, "group_id": group, "enable_auto_commit": False}
        settings |= {"auto_offset_reset": "earliest", "session_timeout_ms": how.get("session_ms", 6000)}
        settings |= {"heartbeat_interval_ms": 300, "partition_assignment_strategy": (ASSIGNORS[how.get("assignor") or "range"],)}
        return AiokafkaConsumer(settings | {"group_instance_id": how.get("instance")}, topics)

    def join(self, member: str, **how: Any) -> None:
        if how["protocol"] != "classic" or (how.get("assignor") or "range") not in ASSIGNORS:
            raise Unsupported("aiokafka knows only the classic protocol, and no cooperative assignor")
        super().join(member, **how)

    def make_transactor(self, transactional_id: str) -> Transactor:
        return AiokafkaTransactor(self._bootstrap, transactional_id)

    def read_committed(self, topic: str, partition: int, count: int) -> list[str | None]:
        async def run() -> list[str | None]:
            how = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
            async with aiokafka.AIOKafkaConsumer(bootstrap_servers=self._bootstrap, **how) as consumer:
                consumer.assign([aiokafka.TopicPartition(topic, partition)])
                return [text_of((await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).value) for _ in range(count)]

        return asyncio.run(run())

    def flow(self, topic: str, partitions: int, count: int, pause_ms: int) -> list[list[int]]:
        async def run() -> list[list[int]]:
            futures = []
            async with aiokafka.AIOKafkaProducer(bootstrap_servers=self._bootstrap, enable_idempotence=True) as producer:
                for number in range(count):
                    futures.append(await producer.send(topic, b"%d" % number, partition=number % partitions))
                    await asyncio.sleep(pause_ms / 1000)
                return [[one.partition, one.offset] for one in await asyncio.gather(*futures)]

        return asyncio.run(run())

    def configs(self, type: str, name: str) -> dict[str, str]:  # noqa: A002
        if type == "group":
            raise Unsupported("aiokafka has no configs of a group")
        asked = ConfigResource(ConfigResourceType[type.upper()], name)
        (answer,) = self._admin(lambda admin: admin.describe_configs([asked]))
        ((code, message, _, _, entries),) = answer.resources
        if code:
            raise Refused(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def groups(self) -> list[str]:
        return [found[0] for found in self._admin(lambda admin: admin.list_consumer_groups())]

    def group(self, group: str) -> tuple[str, int]:
        (answer,) = self._admin(lambda admin: admin.describe_consumer_groups([group]))
        code, _, state, _, _, members = answer.groups[0][:6]
        if code:
            raise Refused(code, group)
        return state.lower(), len(members)

    def group_offsets(self, group: str) -> list[tuple[str, int, int, str]]:
        found = self._admin(lambda admin: admin.list_consumer_group_offsets(group))
        return [(place.topic, place.partition, held.offset, held.metadata) for place, held in found.items()]

    def replicas(self, topic: str, partition: int) -> tuple[list[int], list[int], int]:
        (found,) = self._admin(lambda admin: admin.describe_topics([topic]))
        place = next(each for each in found["partitions"] if each["partition"] == partition)
        return place["replicas"], place["isr"], place["leader"]

    def _admin(self, action: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            try:
                return await action(admin)
            finally:
                await admin.close()

        try:
            return asyncio.run(run())
        except aiokafka.errors.KafkaError as error:
            raise Refused(error.errno, str(error)) from error


if __name__ == "__main__":
    serve(aiokafka.__version__, AiokafkaProgram(sys.argv[1]))
