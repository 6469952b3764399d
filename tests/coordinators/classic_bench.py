"""A bench for classic groups: clients that send requests as the wire has them, a log, and a clock that only the test moves.

Answers go through the wire's codec, so that every body fits the schema of its version.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from uuid import UUID

from quorumlog.coordinators.classic import ClassicGroups
from quorumlog.coordinators.classic_group import ClassicGroup
from quorumlog.coordinators.codec import Record, decode_record, encode_record
from quorumlog.coordinators.context import Context
from quorumlog.coordinators.journal import Journal
from quorumlog.coordinators.records import GroupMetadata
from quorumlog.coordinators.results import LogRecord, Request, Result
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image
from quorumlog.wire.codec import decode_request, decode_response, encode_request, encode_response
from quorumlog.wire.errors import ClusterError
from quorumlog.wire.message import Struct

JOIN, HEARTBEAT, LEAVE, SYNC = 11, 12, 13, 14
WALL_AHEAD_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """To the request with this waiter, as a client reads it."""

    waiter: int
    api_key: int
    message: Struct


@dataclass(slots=True)
class Bench:
    """One shard's classic groups. `answers` and `log` grow with every step."""

    config: GroupConfig = field(default_factory=GroupConfig)
    now: float = 0.0
    log: list[LogRecord] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    open: dict[int, tuple[int, int]] = field(default_factory=dict)  # api key and version by waiter
    context: Context = field(init=False)
    groups: ClassicGroups = field(init=False)
    _waiters: Iterable[int] = field(default_factory=lambda: count(1))
    _uuids: Iterable[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        uuids = self._uuids
        journal = Journal(encode_record, self._replay)
        self.context = Context(Image("cluster"), lambda _: self.config, lambda: UUID(int=next(uuids)), journal)  # type: ignore[call-overload]
        self.groups = ClassicGroups(self.context)

    def _replay(self, record: Record) -> None:
        assert isinstance(record, GroupMetadata), record
        self.groups.replay(record)

    @property
    def wall_ms(self) -> int:
        return WALL_AHEAD_MS + int(self.now * 1000)

    def group(self, group_id: str = "g") -> ClassicGroup:
        group = self.context.groups[group_id]
        assert isinstance(group, ClassicGroup)
        return group

    def reload(self) -> None:
        """The shard moves: what was logged is all that is left. Whoever waits is answered by the shell."""
        self.open.clear()
        self._begin()
        for record in self.log:
            self._replay_logged(record)
        self.groups.on_loaded(self.now, self.wall_ms)
        self._take()

    def _replay_logged(self, record: LogRecord) -> None:
        decoded = decode_record(record.key, record.value)
        assert decoded is not None
        self._replay(decoded)

    def configure(self, **settings: int) -> None:
        self.config = replace(self.config, **settings)

    def ask(self, api_key: int, version: int, client_id: str = "", **fields: Any) -> int:
        """One request; returns its waiter. The answer may come with it, or later."""
        fields.setdefault("group_id", "g")
        waiter: int = next(self._waiters)  # type: ignore[call-overload]
        message = decode_request(api_key, version, encode_request(api_key, version, fields))
        request = Request(waiter, version, message, client_id, "/10.0.0.1")
        self.open[waiter] = (api_key, version)
        try:
            if api_key == HEARTBEAT:
                self.groups.heartbeat(request, self.now)
            else:
                serve = {JOIN: self.groups.join, SYNC: self.groups.sync, LEAVE: self.groups.leave}[api_key]
                serve(request, self.now, self.wall_ms)
        except ClusterError as error:
            assert self.context.journal.is_empty, "refused after something had changed"
            self.context.journal.reply(waiter, {"error_code": error.code})
        self._take()
        return waiter

    def answer(self, waiter: int) -> Struct | None:
        return next((answer.message for answer in self.answers if answer.waiter == waiter), None)

    def passes(self, seconds: float) -> None:
        """Time passes; what is due happens on the way."""
        until = self.now + seconds
        while (deadline := self.context.timers.next_deadline()) <= until:
            self.now = max(self.now, deadline)
            self._tick()
        self.now = until

    def _tick(self) -> None:
        while (key := self.context.timers.due(self.now)) is not None:
            self.groups.on_timer(key, self.now, self.wall_ms)
        self._take()

    def _take(self) -> Result:
        result = self.context.journal.take()
        self.log.extend(result.records)
        for reply in result.replies:
            api_key, version = self.open.pop(reply.waiter)  # fails if it was answered before
            message = decode_response(api_key, version, encode_response(api_key, version, reply.body))
            self.answers.append(Answer(reply.waiter, api_key, message))
        return result
