"""Topics that come and go while the others are in use."""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Disorder, Stage
from tests.events import create_topic, judge, made_up, numbered, produce_all, read_all

RECORDS = 300
TRY_S = 30.0
GONE_S = 15.0
_numbers = itertools.count(1)


@dataclass
class Topics(Fault):
    """Some topics are created, written, read back and deleted; with `kill` the active controller dies between."""

    name: ClassVar[str] = "topics"
    count: int
    partitions: int
    kill: bool

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(hold_s=rng.uniform(0.0, 1.0), count=rng.randint(1, 4), partitions=rng.randint(1, 5), kill=rng.random() < 0.4)

    def begin(self, stage: Stage) -> Struck:
        self._topics = [f"chaos-passing-{next(_numbers)}" for _ in range(self.count)]
        for topic in self._topics:
            create = partial(create_topic, stage.target.bootstrap, topic, partitions=self.partitions)
            persist(f"create {topic}", create, KafkaError.TOPIC_ALREADY_EXISTS)
        victims = (stage.target.active_controller(),) if self.kill else ()
        stage.target.kill(*victims)
        for topic in self._topics:
            self._use(stage, topic)
        for node in victims:
            stage.target.start_node(node)
        return Struck(victims or stage.living, f"{self.count} topics{', the controller killed' if self.kill else ''}")

    def end(self, stage: Stage) -> None:
        admin = AdminClient({"bootstrap.servers": stage.target.bootstrap, "log_level": 0})
        for topic in self._topics:
            persist(f"delete {topic}", partial(delete_topic, admin, topic), KafkaError.UNKNOWN_TOPIC_OR_PART)
        mine = set(self._topics)
        stage.wait_for(f"topics {self._topics} gone", lambda: mine.isdisjoint(place.topic for place in stage.places()), GONE_S)

    def _use(self, stage: Stage, topic: str) -> None:
        promises = produce_all(stage.target.bootstrap, topic, numbered(made_up(RECORDS)))
        verdict = judge(promises, read_all(stage.target.bootstrap, topic))
        if promises.failed or not verdict.is_clean:
            raise Disorder(f"topic {topic}: {len(promises.failed)} refused, {verdict}")


def delete_topic(admin: AdminClient, topic: str) -> None:
    admin.delete_topics([topic], request_timeout=5)[topic].result(10)


def persist(what: str, request: Callable[[], None], done_code: int) -> None:
    """Ask until it is done. A request whose answer got lost finds `done_code` when it is asked again."""
    deadline = time.monotonic() + TRY_S
    while True:
        try:
            request()
            return
        except KafkaException as error:
            if error.args[0].code() == done_code:
                return
            if time.monotonic() > deadline:
                raise Disorder(f"{what}: {error}") from error
