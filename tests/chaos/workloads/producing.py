"""Producers of three client libraries under one shape, each honest about what became of a record.

`fail` is only what is certainly in no log: what the client did not take, and, where it makes one attempt and no more, what a
broker refused before it appended. Everything else that is not an acknowledgment is `unknown`:

- librdkafka knows whether a message may have been stored (`rd_kafka_message_status`), but confluent-kafka does not hand that on.
- NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION may follow the append: an acks=all request that waits is answered so when
  the leadership, or the topic, goes (KAFKA-13574).
- NOT_ENOUGH_REPLICAS is answered before the append, so it is a refusal, if nothing was sent before it.

Without idempotence a second attempt would store a record twice and Kafka would be in its right, so there must be none.
kafka-python obeys `retries=0`. librdkafka does not: what was answered NOT_LEADER_OR_FOLLOWER it sends again without counting
(`rd_kafka_handle_Produce_error`), so it gets a back-off longer than a message lives. aiokafka cannot be told at all, and is
used with idempotence only.
"""

import asyncio
import queue
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import aiokafka
import confluent_kafka
import kafka

from quorumlog.checker.history import Outcome

from .loops import run_bounded

ONLY_ATTEMPT_S = 4.0  # without idempotence
ATTEMPT_S = 2.0  # one of many, with idempotence: as long as it takes a cluster to notice that a node stands still
DELIVERY_S = 20.0  # all of them
# Longer than any fault. When a message times out librdkafka takes a new epoch, and sends under it again what may be stored
# already of other partitions: twice, for all that a broker can tell (librdkafka issue 4953). The sender gives up long before.
LIBRDKAFKA_DELIVERY_S = 300.0
START_S = 5.0
BY_KEY = -1  # librdkafka's word for "let the partitioner choose"
ANSWERS_MAX = 100  # taken from a queue before the thread looks at something else
REFUSED_BEFORE_APPEND = frozenset(
    {10, 17, 18, 19, 29, 87}
)  # too large, bad topic name, list too large, in-sync set, denied, invalid


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one record. `partition` and `offset` are None where the client does not know."""

    outcome: Outcome
    partition: int | None = None
    offset: int | None = None
    is_fatal: bool = False  # the client will not send anything any more


OnAnswer = Callable[[Answer], None]
REFUSED = Answer(Outcome.FAIL)


class Producer(Protocol):
    """One client with acks=all, used by one thread, which the answers come to within `send` and `poll`."""

    def send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        """Hand a record over; without a partition the key picks one."""
        ...

    def poll(self, timeout_s: float) -> None: ...

    def close(self, timeout_s: float) -> None:
        """Give up what is unanswered."""
        ...


def outcome_of(code: int, *, idempotent: bool) -> Outcome:
    """What a refusal with Kafka's error code says about the record."""
    return Outcome.FAIL if not idempotent and code in REFUSED_BEFORE_APPEND else Outcome.UNKNOWN


class ConfluentProducer:
    def __init__(self, bootstrap: str, topic: str, *, idempotent: bool) -> None:
        attempt_ms = int((ATTEMPT_S if idempotent else ONLY_ATTEMPT_S) * 1000)
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": idempotent,
            "partitioner": "murmur2_random",  # where all other clients put a key
            "linger.ms": 2,
            "message.timeout.ms": int(LIBRDKAFKA_DELIVERY_S * 1000) if idempotent else attempt_ms,
            "request.timeout.ms": attempt_ms,
            "socket.timeout.ms": attempt_ms,
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 5000,
            "queue.buffering.max.messages": 10_000,
            "log_level": 0,
        }
        if not idempotent:
            once = 10 * attempt_ms
            settings |= {"message.send.max.retries": 0, "retry.backoff.ms": once, "retry.backoff.max.ms": once}
        self._topic = topic
        self._idempotent = idempotent
        self._producer = confluent_kafka.Producer(settings)

    def send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        place = BY_KEY if partition is None else partition
        try:
            self._producer.produce(self._topic, value, key, partition=place, on_delivery=self._on_delivery(answered))
        except BufferError:
            answered(REFUSED)
        except confluent_kafka.KafkaException as error:  # after a fatal error nothing is taken
            answered(Answer(Outcome.FAIL, is_fatal=error.args[0].fatal()))

    def poll(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)

    def close(self, timeout_s: float) -> None:
        self._producer.purge()
        self._producer.flush(timeout_s)

    def _on_delivery(self, answered: OnAnswer) -> Callable[[Any, Any], None]:
        def on_delivery(error: Any, message: Any) -> None:
            partition = None if message.partition() is None or message.partition() < 0 else message.partition()
            if error is not None:
                answered(Answer(outcome_of(error.code(), idempotent=self._idempotent), partition, is_fatal=error.fatal()))
            else:
                answered(Answer(Outcome.OK, partition, _offset(message.offset())))

        return on_delivery


class KafkaPythonProducer:
    """It answers from a thread of its own: answers wait in a queue for `poll`. They are at most as many as was sent."""

    def __init__(self, bootstrap: str, topic: str, *, idempotent: bool) -> None:
        self._topic = topic
        self._idempotent = idempotent
        self._answers: queue.SimpleQueue[tuple[OnAnswer, Answer]] = queue.SimpleQueue()
        attempt_ms = int((ATTEMPT_S if idempotent else ONLY_ATTEMPT_S) * 1000)
        settings: dict[str, Any] = {} if idempotent else {"retries": 0}
        self._producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=2,
            request_timeout_ms=attempt_ms,
            delivery_timeout_ms=int(DELIVERY_S * 1000) if idempotent else attempt_ms + 1000,
            max_block_ms=attempt_ms,
            bootstrap_timeout_ms=int(START_S * 1000),
            reconnect_backoff_max_ms=1000,
            metadata_max_age_ms=5000,
            **settings,
        )

    def send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        try:
            sent = self._producer.send(self._topic, value, key, partition=partition)
        except kafka.errors.KafkaError:  # no metadata, no room, or the client is past use: it was not taken
            answered(REFUSED)
            return
        sent.add_callback(self._on_stored, answered)
        sent.add_errback(self._on_failed, answered)

    def poll(self, timeout_s: float) -> None:
        try:
            for _ in range(ANSWERS_MAX):
                answered, answer = self._answers.get(timeout=timeout_s)
                answered(answer)
                timeout_s = 0.0
        except queue.Empty:
            pass

    def close(self, timeout_s: float) -> None:
        try:
            self._producer.close(timeout_s)
        except kafka.errors.KafkaTimeoutError:
            # It gives up before it has stopped its thread, which would go on sending, and keep this process alive.
            self._producer._sender.force_close()
            self._producer._sender.join(timeout_s)

    def _on_stored(self, answered: OnAnswer, metadata: Any) -> None:
        self._answers.put((answered, Answer(Outcome.OK, metadata.partition, _offset(metadata.offset))))

    def _on_failed(self, answered: OnAnswer, error: BaseException) -> None:
        self._answers.put((answered, Answer(outcome_of(getattr(error, "errno", -1), idempotent=self._idempotent))))


class AiokafkaProducer:
    """Its loop runs while it is polled."""

    def __init__(self, bootstrap: str, topic: str, *, idempotent: bool) -> None:
        assert idempotent, "aiokafka tries again in any case"
        self._topic = topic
        self._loop = asyncio.new_event_loop()
        try:
            self._run(self._start(bootstrap), START_S)
        except BaseException:
            self._loop.close()
            raise

    async def _start(self, bootstrap: str) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=int(ATTEMPT_S * 1000),
            metadata_max_age_ms=5000,
        )
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise

    def send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        self._run(self._send(partition, key, value, answered), 2 * ATTEMPT_S)

    def poll(self, timeout_s: float) -> None:
        self._run(asyncio.sleep(timeout_s), timeout_s + ATTEMPT_S)

    def close(self, timeout_s: float) -> None:
        try:
            self._run(self._stop(timeout_s), 3 * timeout_s)
        finally:
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        run_bounded(self._loop, work, timeout_s)

    async def _send(self, partition: int | None, key: bytes | None, value: bytes, answered: OnAnswer) -> None:
        try:
            sent = await asyncio.wait_for(self._producer.send(self._topic, value, key, partition), ATTEMPT_S)
        except (TimeoutError, aiokafka.errors.KafkaError):  # waiting for room or metadata, before it was taken
            answered(REFUSED)
            return
        sent.add_done_callback(lambda done: self._on_done(done, answered))

    def _on_done(self, done: "asyncio.Future[Any]", answered: OnAnswer) -> None:
        if done.cancelled() or done.exception() is not None:
            # A batch that it gave up leaves a gap in the sequence, which the broker refuses ever after.
            answered(Answer(Outcome.UNKNOWN, is_fatal=True))
        else:
            answered(Answer(Outcome.OK, done.result().partition, _offset(done.result().offset)))

    async def _stop(self, timeout_s: float) -> None:
        stopping = asyncio.ensure_future(self._producer.stop())
        await asyncio.wait([stopping], timeout=timeout_s)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # it waits for what it cannot send
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=timeout_s)


def _offset(offset: int | None) -> int | None:
    """A client that was told "I have this one already" does not know where."""
    return None if offset is None or offset < 0 else offset


PRODUCERS: dict[str, Callable[..., Producer]] = {
    "confluent-kafka": ConfluentProducer,
    "kafka-python": KafkaPythonProducer,
    "aiokafka": AiokafkaProducer,
}
