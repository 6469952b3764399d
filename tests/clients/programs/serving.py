"""What the Python programs share: the JSON lines, and members that poll in a thread of their own."""

import base64
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tests.cluster.libraries import Library, Message, Refused

Record = dict[str, Any]
_writing = threading.Lock()


class Unsupported(Exception):
    """The client cannot do it, whatever the cluster can."""


def say(message: dict[str, Any]) -> None:
    with _writing:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def text_of(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def bytes_of(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def record_of(offset: int, message: Message) -> Record:
    return {
        "partition": message.partition,
        "offset": offset,
        "timestamp": message.timestamp_ms,
        "key": text_of(message.key),
        "value": text_of(message.value),
        "headers": [[name, text_of(value)] for name, value in message.headers],
    }


def message_of(record: Record) -> Message:
    headers = tuple((name, bytes_of(value) or b"") for name, value in record.get("headers", ()))
    return Message(
        bytes_of(record.get("value")), bytes_of(record.get("key")), headers, record.get("timestamp"), record.get("partition", 0)
    )


class Consumer(Protocol):
    """A consumer in a group, of some library."""

    def poll(self) -> Sequence[tuple[int, Message]]:
        """For a second at most."""
        ...

    def assignment(self) -> Sequence[tuple[str, int]]: ...
    def commit(self, metadata: str) -> None: ...
    def seek(self, topic: str, partition: int, offset: int) -> None: ...
    def close(self) -> None: ...


class Transactor(Protocol):
    """A transactional producer of some library, which has shut out whoever had its id before."""

    def begin(self) -> None: ...

    def send(self, topic: str, message: Message) -> None:
        """Not acknowledged before the transaction ends."""
        ...

    def send_offset(self, group: str, topic: str, partition: int, offset: int) -> None: ...
    def end(self, *, commit: bool) -> None: ...


class Member:
    """Polls until it leaves; commits and seeks between two polls, because consumers belong to one thread."""

    def __init__(self, name: str, make: Callable[[], Consumer]) -> None:
        self._name = name
        self._make = make
        self._orders: queue.SimpleQueue[tuple[Callable[[Consumer], None], Future[None]]] = queue.SimpleQueue()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def order(self, action: Callable[[Consumer], None]) -> None:
        done: Future[None] = Future()
        self._orders.put((action, done))
        done.result(60)

    def leave(self) -> None:
        self._left.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            consumer = self._make()
            try:
                self._poll(consumer)
            finally:
                consumer.close()
        except Exception as error:
            say({"member": self._name, "event": "error", "text": f"{type(error).__name__}: {error}"})

    def _poll(self, consumer: Consumer) -> None:
        had: list[tuple[str, int]] | None = None
        while not self._left.is_set():
            records = consumer.poll()
            has = sorted(consumer.assignment())
            if has != had:
                say({"member": self._name, "event": "assigned", "partitions": has})
                had = has
            if records:
                say({"member": self._name, "event": "records", "records": [record_of(*record) for record in records]})
            while not self._orders.empty():
                self._perform(consumer, *self._orders.get())

    @staticmethod
    def _perform(consumer: Consumer, action: Callable[[Consumer], None], done: Future[None]) -> None:
        try:
            action(consumer)
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)


class Program:
    """The operations that a Library has, and groups. A subclass adds what its library can; what it lacks is not supported."""

    library: Library

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._transactors: dict[str, Transactor] = {}
        self._begun: set[str] = set()

    def consumer(self, group: str, topics: Sequence[str], **how: Any) -> Consumer:
        """A new member: protocol, assignor, instance, session_ms."""
        raise NotImplementedError

    def make_transactor(self, transactional_id: str) -> Transactor:
        raise NotImplementedError

    def produce(self, topic: str, records: Sequence[Record], **how: Any) -> Any:
        return self.library.produce(topic, [message_of(record) for record in records], **how)

    def read(self, topic: str, partition: int, steps: Sequence[tuple[int | str, int]]) -> Any:
        found = [self.library.consume(topic, start, count, partition) for start, count in steps]
        return [[record_of(*record) for record in step] for step in found]

    def offset(self, topic: str, partition: int, at: int | str) -> int | None:
        if isinstance(at, int):
            return self.library.offset_at(topic, at, partition)
        return self.library.ends(topic, partition)[at == "latest"]

    def join(self, member: str, **how: Any) -> None:
        self._members[member] = Member(member, lambda: self.consumer(**how))

    def commit(self, member: str, metadata: str) -> None:
        self._members[member].order(lambda consumer: consumer.commit(metadata))

    def seek(self, member: str, topic: str, partition: int, offset: int) -> None:
        self._members[member].order(lambda consumer: consumer.seek(topic, partition, offset))

    def leave(self, member: str) -> None:
        self._members.pop(member).leave()

    def transactor(self, transactor: str, transactional_id: str) -> None:
        self._transactors[transactor] = self.make_transactor(transactional_id)

    def transact(self, transactor: str, topic: str, records: Sequence[Record], offset: Any, end: str | None) -> None:
        producer = self._transactors[transactor]
        if transactor not in self._begun:
            producer.begin()
            self._begun.add(transactor)
        for record in records:
            producer.send(topic, message_of(record))
        if offset is not None:
            producer.send_offset(*offset)
        if end is not None:
            self._begun.remove(transactor)
            producer.end(commit=end == "commit")

    def topics(self) -> dict[str, int]:
        return self.library.topics()

    def create_topic(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        self.library.create_topic(name, partitions, replicas, configs)

    def delete_topic(self, name: str) -> None:
        self.library.delete_topic(name)

    def grow_topic(self, name: str, partitions: int) -> None:
        self.library.grow_topic(name, partitions)

    def cluster(self) -> Any:
        return self.library.cluster()

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        return self.library.delete_records(topic, before, partition)


def serve(version: str, program: Program) -> None:
    """Answer until the input ends."""
    say({"ready": version})
    pool = ThreadPoolExecutor(32)
    for line in sys.stdin:
        pool.submit(_answer, program, json.loads(line))
    os._exit(0)  # nobody listens any more: what is under way need not end


def _answer(program: Program, request: dict[str, Any]) -> None:
    number, name = request.pop("id"), request.pop("op")
    try:
        say({"id": number, "result": getattr(program, name)(**request)})
    except (AttributeError, Unsupported, NotImplementedError) as error:
        if isinstance(error, AttributeError) and hasattr(program, name):
            say({"id": number, "error": {"code": None, "text": traceback.format_exc(limit=-3)}})
        else:
            say(
                {
                    "id": number,
                    "unsupported": f"the library has nothing for {name}" if isinstance(error, AttributeError) else str(error),
                }
            )
    except Refused as error:
        say({"id": number, "error": {"code": error.code, "text": str(error)}})
    except Exception as error:
        say({"id": number, "error": {"code": None, "text": f"{type(error).__name__}: {error}"}})
