"""The near end of a client program: calls, their answers, and what members tell (programs/__init__.py draws the lines)."""

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.libraries import Message, Refused

CALL_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0
REPOSITORY = Path(__file__).parents[2]


class NotSupported(Exception):
    """By the client, whatever the cluster can."""


@dataclass(slots=True)
class Member:
    """What a member of a group has told."""

    name: str
    assigned: set[tuple[str, int]] = field(default_factory=set)
    assignments: list[set[tuple[str, int]]] = field(default_factory=list)
    records: list[tuple[int, Message]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Partition and offset of every record that it was given."""
        return [(message.partition, offset) for offset, message in list(self.records)]


def wire_record(message: Message) -> dict[str, Any]:
    return {
        "partition": message.partition,
        "timestamp": message.timestamp_ms,
        "key": _text(message.key),
        "value": _text(message.value),
        "headers": [[name, _text(value)] for name, value in message.headers],
    }


def found_record(record: Mapping[str, Any]) -> tuple[int, Message]:
    headers = tuple((name, _bytes(value) or b"") for name, value in record["headers"])
    return record["offset"], Message(
        _bytes(record["value"]), _bytes(record["key"]), headers, record["timestamp"], record["partition"]
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


class Client:
    """A running program; it ends with its input, so also when this process dies."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.members: dict[str, Member] = {}
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._ready: Future[str] = Future()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
            )
        threading.Thread(target=self._listen, daemon=True).start()
        self.version = self._ready.result(START_TIMEOUT_S)

    def start(self, op: str, **arguments: Any) -> Future[Any]:
        """Ask, and go on. The future raises Refused or NotSupported."""
        future: Future[Any] = Future()
        with self._lock:
            self._next += 1
            self._waiting[self._next] = future
            line = json.dumps({"id": self._next, "op": op, **arguments}) + "\n"
            assert self._process.stdin is not None
            self._process.stdin.write(line)
            self._process.stdin.flush()
        return future

    def call(self, op: str, **arguments: Any) -> Any:
        try:
            return self.start(op, **arguments).result(CALL_TIMEOUT_S)
        except TimeoutError:
            raise TimeoutError(f"{op} has not been answered for {CALL_TIMEOUT_S:.0f} s") from None

    def produce(self, topic: str, messages: Sequence[Message], **how: Any) -> list[tuple[int, int]]:
        records = [wire_record(message) for message in messages]
        return [(partition, offset) for partition, offset in self.call("produce", topic=topic, records=records, **how)]

    def start_reading(self, topic: str, partition: int, steps: Sequence[tuple[int | str, int]]) -> Callable[[], Any]:
        """Each step seeks and reads so many; the answer is a function that waits for all."""
        future = self.start("read", topic=topic, partition=partition, steps=steps)
        return lambda: [[found_record(record) for record in step] for step in future.result(CALL_TIMEOUT_S)]

    def read(self, topic: str, partition: int, *steps: tuple[int | str, int]) -> list[list[tuple[int, Message]]]:
        found: list[list[tuple[int, Message]]] = self.start_reading(topic, partition, steps)()
        return found

    def join(self, member: str, group: str, topics: Sequence[str], protocol: str = "classic", **how: Any) -> Member:
        self.members[member] = Member(member)
        self.call("join", member=member, group=group, topics=topics, protocol=protocol, **how)
        return self.members[member]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "id" in message:
                self._answered(self._waiting.pop(message["id"]), message)
            elif "member" in message:
                self._told(self.members[message["member"]], message)
            else:
                self._ready.set_result(message["ready"])
        self._ended()

    def _ended(self) -> None:
        error = RuntimeError(f"the program has ended: {self._log.read_text(errors='replace')[-1500:]}")
        for future in [self._ready, *self._waiting.values()]:
            if not future.done():
                future.set_exception(error)

    @staticmethod
    def _answered(future: Future[Any], message: Mapping[str, Any]) -> None:
        if "unsupported" in message:
            future.set_exception(NotSupported(message["unsupported"]))
        elif "error" in message:
            error = message["error"]
            code = error["code"]
            future.set_exception(RuntimeError(error["text"]) if code is None else Refused(code, error["text"]))
        else:
            future.set_result(message["result"])

    @staticmethod
    def _told(member: Member, message: Mapping[str, Any]) -> None:
        match message["event"]:
            case "assigned":
                member.assigned = {(topic, partition) for topic, partition in message["partitions"]}
                member.assignments.append(member.assigned)
            case "records":
                member.records.extend(found_record(record) for record in message["records"])
            case "error":
                member.errors.append(message["text"])
