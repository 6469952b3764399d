"""A transactional producer of librdkafka, honest about what became of its transactions.

`fail` is a transaction whose commit was certainly never asked for: one that the application aborted or left; one of which a
record failed, since librdkafka then refuses to commit without asking the coordinator (`rd_kafka_txn_op_commit_transaction`); and
one whose producer had been shut out before it was to commit. Any other commit that was not answered well is `unknown`: the
answer to it may have been lost, and a later one ("fenced") tells nothing of it.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException, TopicPartition

from quorumlog.checker.history import Outcome

from .producing import REFUSED, Answer, OnAnswer

logger = logging.getLogger(__name__)

CALL_S = 3.0  # of one call to the client, which may be asked again
# Longer than a node stands still. librdkafka speaks version 1 of transactions, in which nothing tells an EndTxn that was given up
# and comes late from that of the next transaction (KIP-890): whoever gives one up soon may see its own transaction torn.
REQUEST_S = 15.0
BEGIN_S = 40.0
END_S = 40.0
# librdkafka 2.16 may never send the offsets again: when it asks who the group's coordinator is and hears an error, it relies on
# the next change of a connection (`rd_kafka_coord_req_handle_FindCoordinator`). Only a fresh client helps.
OFFSETS_S = 10.0


class Unusable(Exception):
    """The client could not begin: another instance may do better."""


class Transactions:
    """One instance of a transactional id; used by one thread. Its making shuts out whoever had the id before."""

    def __init__(self, bootstrap: str, topic: str, transactional_id: str, *, timeout_s: float) -> None:
        """Raises Unusable."""
        self._topic = topic
        self._failed = False
        self._producer = confluent_kafka.Producer(settings_of(bootstrap, transactional_id, timeout_s), logger=logger)
        try:
            self._again(self._producer.init_transactions, BEGIN_S)
        except KafkaException as error:
            raise Unusable(f"{transactional_id}: {error}") from error

    def begin(self) -> None:
        """Raises Unusable."""
        self._failed = False
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise Unusable(str(error)) from error

    def send(self, partition: int, value: bytes, answered: OnAnswer) -> None:
        """`answered` is called within this call or a later one, or never."""

        def on_delivery(error: Any, message: Any) -> None:
            self._failed |= error is not None
            answered(REFUSED if error is not None else Answer(Outcome.OK, partition, message.offset()))

        try:
            self._producer.produce(self._topic, value, partition=partition, on_delivery=on_delivery)
            self._producer.poll(0)
        except (KafkaException, BufferError):
            self._failed = True
            answered(REFUSED)

    def flush(self) -> None:
        """Let the brokers have what was sent, as far as they take it."""
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
        try:
            self._again(self._producer.commit_transaction, END_S)
        except KafkaException:
            return Outcome.FAIL if self._failed else Outcome.UNKNOWN
        return Outcome.OK

    def abort(self) -> bool:
        """Whether the client can go on."""
        try:
            self._again(self._producer.abort_transaction, END_S)
        except KafkaException:
            return False
        return True

    def leave(self) -> None:
        """As a process that dies: what is open stays open, what was not sent never is."""
        with contextlib.suppress(KafkaException):
            self._producer.purge()

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
    }
