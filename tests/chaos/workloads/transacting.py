"""Transactional producers of two libraries under one shape, honest about what became of their transactions.

`fail` is a transaction whose commit was certainly never asked for: one that the application aborted or left; one of which a
record failed, since librdkafka then refuses to commit without asking the coordinator (`rd_kafka_txn_op_commit_transaction`), and
with aiokafka we do; and one whose producer had been shut out before it was to commit. Any other commit that was not answered
well is `unknown`: the answer to it may have been lost, and a later one ("fenced") tells nothing of it.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import aiokafka
import confluent_kafka
from confluent_kafka import KafkaException, TopicPartition

from quorumlog.checker.history import Outcome

from .loops import run_bounded
from .producing import ATTEMPT_S, REFUSED, Answer, OnAnswer

CALL_S = 3.0  # of one call to the client, which may be asked again
# Longer than a node stands still. librdkafka speaks version 1 of transactions, in which nothing tells an EndTxn that was given up
# and comes late from that of the next transaction (KIP-890): whoever gives one up soon may see its own transaction torn.
REQUEST_S = 15.0
BEGIN_S = 40.0
END_S = 40.0
# librdkafka 2.16 may not send the offsets for long: metadata does not list a node that is down, so it gives the node's connection
# up for good, while its cache of groups' coordinators goes on naming that connection. It looks again when the connection to some
# other node breaks or is made (`rd_kafka_coord_req_fsm`). A fresh client does better.
OFFSETS_S = 10.0
CLOSE_S = 1.0
# confluent-kafka raises a fatal error out of whichever call serves callbacks; a delivery callback that runs behind it makes that
# a SystemError.
FATAL = (KafkaException, SystemError)


class Unusable(Exception):
    """The client could not begin: another instance may do better."""


class Transactions(Protocol):
    """One instance of a transactional id; used by one thread. Its making shuts out whoever had the id before, or raises
    Unusable."""

    def begin(self) -> None:
        """Raises Unusable."""
        ...

    def send(self, partition: int, value: bytes, answered: OnAnswer) -> None:
        """`answered` is called within this call or a later one, or never."""
        ...

    def flush(self) -> None:
        """Let the brokers have what was sent, as far as they take it."""
        ...

    def commit(self) -> Outcome: ...

    def abort(self) -> bool:
        """Whether the client can go on."""
        ...

    def leave(self) -> None:
        """As a process that dies: what is open stays open, what was not sent never is."""
        ...


class ConfluentTransactions:
    def __init__(self, bootstrap: str, topic: str, transactional_id: str, *, timeout_s: float) -> None:
        self._topic = topic
        self._failed = False
        self._producer = confluent_kafka.Producer(settings_of(bootstrap, transactional_id, timeout_s))
        try:
            self._again(self._producer.init_transactions, BEGIN_S)
        except KafkaException as error:
            raise Unusable(f"{transactional_id}: {error}") from error

    def begin(self) -> None:
        self._failed = False
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise Unusable(str(error)) from error

    def send(self, partition: int, value: bytes, answered: OnAnswer) -> None:
        def on_delivery(error: Any, message: Any) -> None:
            self._failed |= error is not None
            answered(REFUSED if error is not None else Answer(Outcome.OK, partition, message.offset()))

        try:
            self._producer.produce(self._topic, value, partition=partition, on_delivery=on_delivery)
            self._producer.poll(0)
        except (*FATAL, BufferError):
            self._failed = True
            answered(REFUSED)

    def flush(self) -> None:
        with contextlib.suppress(*FATAL):
            self._producer.flush(CALL_S)

    def commit_offsets(self, places: list[TopicPartition], group: Any) -> bool:
        """Whether they are part of the transaction, so that it may commit. Raises Unusable if the client cannot even abort."""
        try:
            self._again(lambda timeout: self._producer.send_offsets_to_transaction(places, group, timeout), OFFSETS_S)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise Unusable(str(error)) from error
            return False
        return True

    def commit(self) -> Outcome:
        if self._failed:  # perhaps the client has never taken it, and would commit the rest
            return Outcome.FAIL
        try:
            self._again(self._producer.commit_transaction, END_S)
        except FATAL:
            return Outcome.FAIL if self._failed else Outcome.UNKNOWN
        return Outcome.OK

    def abort(self) -> bool:
        try:
            self._again(self._producer.abort_transaction, END_S)
        except FATAL:
            return False
        return True

    def leave(self) -> None:
        for _ in range(2):  # the second time if the first one met a fatal error
            with contextlib.suppress(*FATAL):
                self._producer.purge()
                self._producer.flush(CLOSE_S)  # hands out what became of each record: who waits for it keeps the client alive
        last = [self._producer]
        del self._producer
        # Ending a client may take for ever, where it waits for a connection that it has given up.
        threading.Thread(target=last.clear, daemon=True).start()

    def _again(self, call: Callable[[float], object], within_s: float) -> None:
        """Retriable errors are no answer yet."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                call(CALL_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def settings_of(bootstrap: str, transactional_id: str, timeout_s: float) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": int(timeout_s * 1000),
        "linger.ms": 2,
        "socket.timeout.ms": int(REQUEST_S * 1000),
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 5000,
        "log_level": 0,
        "log.queue": True,  # who is shut out says so at the highest level; nobody asks this queue
    }


class AiokafkaTransactions:
    """Its loop runs while it is used."""

    def __init__(self, bootstrap: str, topic: str, transactional_id: str, *, timeout_s: float) -> None:
        self._topic = topic
        self._sent: list[asyncio.Future[Any]] = []
        self._loop = asyncio.new_event_loop()
        try:
            self._run(self._start(bootstrap, transactional_id, timeout_s), BEGIN_S)
        except Exception as error:  # of the library, or of the loop: it cannot begin
            self._loop.close()
            raise Unusable(f"{transactional_id}: {error!r}") from error

    async def _start(self, bootstrap: str, transactional_id: str, timeout_s: float) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(timeout_s * 1000),
            linger_ms=2,
            request_timeout_ms=int(REQUEST_S * 1000),
            metadata_max_age_ms=5000,
        )
        try:
            await self._producer.start()
        except BaseException:
            await self._stop()
            raise

    def begin(self) -> None:
        self._sent = []
        try:
            self._run(self._producer.begin_transaction(), CALL_S)
        except Exception as error:
            raise Unusable(repr(error)) from error

    def send(self, partition: int, value: bytes, answered: OnAnswer) -> None:
        try:
            sent = self._run(self._producer.send(self._topic, value, partition=partition), END_S)
        except Exception as error:
            sent = self._loop.create_future()
            sent.set_exception(error)
        self._sent.append(sent)
        sent.add_done_callback(lambda done: answered(_answer_of(done, partition)))

    def flush(self) -> None:
        if self._sent:
            self._run(asyncio.wait(self._sent, timeout=CALL_S), 2 * CALL_S)

    def commit(self) -> Outcome:
        """The library would commit what is left of a transaction of which a record failed."""
        if self._sent:
            self._run(asyncio.wait(self._sent, timeout=END_S), 2 * END_S)
        if any(not sent.done() or sent.cancelled() or sent.exception() is not None for sent in self._sent):
            return Outcome.FAIL
        try:
            self._run(self._producer.commit_transaction(), END_S)
        except Exception:  # fenced, not answered in time: in each case it may have been done
            return Outcome.UNKNOWN
        return Outcome.OK

    def abort(self) -> bool:
        try:
            self._run(self._producer.abort_transaction(), END_S)
        except Exception:
            return False
        return True

    def leave(self) -> None:
        with contextlib.suppress(Exception):  # it is gone in any case
            self._run(self._stop(), ATTEMPT_S)
        self._loop.close()

    async def _stop(self) -> None:
        """Without the wait for what cannot be sent."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait([asyncio.ensure_future(self._producer.client.close()), *others], timeout=CLOSE_S)

    def _run(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        return run_bounded(self._loop, work, timeout_s)


def _answer_of(done: "asyncio.Future[Any]", partition: int) -> Answer:
    failed = done.cancelled() or done.exception() is not None
    return REFUSED if failed else Answer(Outcome.OK, partition, done.result().offset)


TRANSACTIONS: dict[str, Callable[..., Transactions]] = {
    "confluent-kafka": ConfluentTransactions,
    "aiokafka": AiokafkaTransactions,
}
