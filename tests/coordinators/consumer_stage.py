"""A shard of the coordinator with consumers that speak KIP-848, without a network: requests go in, and what was logged and
answered comes out in a few words.

    member b                                   b told something of itself
    group 2                                    the epoch of the group
    target b t[1 2]                            what b shall have; "targets 2": all of these are of epoch 2
    b@2 stable t[1 2]                          where b stands; "b@1 unrevoked t[0] -t[1 2]": and what it must give up
    => b@2 t[1 2]                              the answer: its epoch, and its assignment if it was told
    => UNKNOWN_MEMBER_ID                       or the code of the refusal; "3 => ok": to the third request
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from immutables import Map

from quorumlog.coordinators.codec import Record, decode_record
from quorumlog.coordinators.consumer_group import ConsumerGroup
from quorumlog.coordinators.consumer_protocol import read_assignment
from quorumlog.coordinators.consumer_records import (
    ConsumerGroupMetadata,
    CurrentAssignment,
    GroupMember,
    PartitionMetadata,
    ResolvedRegex,
    TargetAssignment,
    TargetEpoch,
)
from quorumlog.coordinators.records import GroupMetadata
from quorumlog.coordinators.results import Body, LogRecord, Request, Result
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image, PartitionState, Topic
from quorumlog.wire.codec import decode_request, decode_response, encode_request, encode_response
from quorumlog.wire.errors import ClusterError, ErrorCode

JOIN_GROUP = 11
HEARTBEAT = 12
LEAVE_GROUP = 13
SYNC_GROUP = 14
CONSUMER_GROUP_HEARTBEAT = 68
CONSUMER_GROUP_DESCRIBE = 69
STATES = {0: "stable", 1: "unrevoked", 2: "unreleased", 127: "unknown"}
NOWHERE = Map[int, PartitionState]()


def topic_id(name: str) -> UUID:
    return UUID(bytes=name.encode().ljust(16, b"\0")[:16])


def image_of(topics: Mapping[str, int], index: int = 1) -> Image:
    """Topics by name, with their counts of partitions."""
    made = {name: Topic(name, topic_id(name), _partitions(name, count)) for name, count in topics.items()}
    names = {topic.topic_id: name for name, topic in made.items()}
    return Image("cluster", index=index, topics=Map(made), topic_names=Map(names))


def _partitions(name: str, count: int) -> Map[int, PartitionState]:
    return Map({index: PartitionState(topic_id(name), index, (1,), (1,), (), 1, 0, 0) for index in range(count)})


class Stage:
    """`log` is all that was logged, `trace` what was logged and answered since it was last read."""

    def __init__(self, topics: Mapping[str, int] | None = None, config: GroupConfig | None = None) -> None:
        self.config = config or GroupConfig()
        self.image = image_of(topics or {})
        self.now = 0.0
        self.log: list[LogRecord] = []
        self.trace: list[str] = []
        self.uuids = 0
        self.name = ""  # of a member that a test speaks of
        self.waiters = 0
        self.asked: dict[int, tuple[int, int]] = {}  # by waiter: api key and version
        self.shard = self._new_shard()

    def _new_shard(self) -> GroupShard:
        return GroupShard(self.image, config_of=lambda _: self.config, new_uuid=self._new_uuid)

    def _new_uuid(self) -> UUID:
        self.uuids += 1
        return UUID(int=self.uuids)

    # --- what may happen

    def beat(self, member: str, epoch: int, version: int = 1, group: str = "g", **fields: Any) -> Body:
        """A heartbeat; the body of its answer, with `error_code` if it was refused."""
        owned = fields.pop("owned", None)
        if owned is not None:
            fields["topic_partitions"] = [
                {"topic_id": topic_id(name), "partitions": list(partitions)} for name, partitions in owned.items()
            ]
        body = {"group_id": group, "member_id": member, "member_epoch": epoch, **fields}
        return self.heartbeat(body, version)

    def join(self, member: str, *names: str, version: int = 1, **fields: Any) -> Body:
        if names or "subscribed_topic_regex" not in fields:
            fields["subscribed_topic_names"] = list(names)
        return self.beat(member, 0, version, **{"rebalance_timeout_ms": 30_000, "owned": {}, **fields})

    def heartbeat(self, body: Body, version: int) -> Body:
        return self._ask(CONSUMER_GROUP_HEARTBEAT, version, body, self.shard.consumer_heartbeat)

    # --- what members of the classic protocol do

    def classic_join(
        self, member: str, *names: str, owned: Mapping[str, Iterable[int]] | None = None, **fields: Any
    ) -> Body | None:
        """The answer to JoinGroup; None if it comes later."""
        metadata = subscription_bytes(names, owned or {})
        body = {
            "group_id": "g",
            "member_id": member,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": [{"name": name, "metadata": metadata} for name in ("range", "roundrobin")],
            **fields,
        }
        return self._ask(JOIN_GROUP, 9, body, lambda request, now: self.shard.join(request, now, self.wall_ms))

    def classic_sync(self, member: str, generation: int, **fields: Any) -> Body | None:
        body = {"group_id": "g", "member_id": member, "generation_id": generation, **fields}
        body = {"protocol_type": "consumer", "protocol_name": "range", **body}
        return self._ask(SYNC_GROUP, 5, body, lambda request, now: self.shard.sync(request, now, self.wall_ms))

    def classic_beat(self, member: str, generation: int, **fields: Any) -> Body:
        body = {"group_id": "g", "member_id": member, "generation_id": generation, **fields}
        return self._ask(HEARTBEAT, 4, body, self.shard.heartbeat)

    def classic_leave(self, *members: Body) -> Body:
        body = {"group_id": "g", "members": list(members)}
        return self._ask(LEAVE_GROUP, 5, body, lambda request, now: self.shard.leave(request, now, self.wall_ms))

    @property
    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def _ask(self, api_key: int, version: int, body: Body, ask: Callable[[Request, float], Result]) -> Any:
        self.waiters += 1
        message = decode_request(api_key, version, encode_request(api_key, version, body))
        try:
            result = ask(Request(self.waiters, version, message, "client", "/10.0.0.1"), self.now)
        except ClusterError as error:
            self.trace.append(f"=> {error.code.name.upper()}")
            return {"error_code": error.code, "error_message": error.message}
        self.asked[self.waiters] = api_key, version
        return self._note(result).get(self.waiters)

    def wait(self, seconds: float) -> None:
        """Time passes, and what it alone decides happens when it is due."""
        end = self.now + seconds
        while (deadline := self.shard.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            self._note(self.shard.tick(self.now, self.wall_ms))
        self.now = end

    def change_topics(self, topics: Mapping[str, int]) -> None:
        old, self.image = self.image, image_of(topics, self.image.index + 1)
        context = self.shard._context
        context.image = self.image
        self.shard._consumer.on_image(old, self.image, self.now)

    def fail_over(self) -> None:
        """The shard moves: another node replays the log."""
        self.shard = self.replayed(self.log)
        self.shard._consumer.on_loaded(self.now)

    def describe(self, group: str = "g") -> Body:
        body = {"groups": [self.shard.describe_consumer(group)]}
        encoded = encode_response(CONSUMER_GROUP_DESCRIBE, 1, body)
        (described,) = decode_response(CONSUMER_GROUP_DESCRIBE, 1, encoded).as_dict()["groups"]
        assert isinstance(described, dict)
        return described

    # --- what can be seen

    def group(self, group_id: str = "g") -> ConsumerGroup:
        group = self.shard._context.groups[group_id]
        assert isinstance(group, ConsumerGroup)
        return group

    def read_trace(self) -> str:
        trace, self.trace = self.trace, []
        return "\n".join(trace)

    def replayed(self, log: list[LogRecord]) -> GroupShard:
        shard = self._new_shard()
        for record in log:
            shard.replay(record.key, record.value)
        return shard

    def check_log(self) -> None:
        """The live state is that of the log, and that of the log once it is compacted."""
        compacted = {record.key: record for record in self.log}
        last = [record for record in self.log if compacted[record.key] is record]
        live = shown(self.shard)
        assert shown(self.replayed(self.log)) == live
        assert shown(self.replayed(last)) == live

    # --- within

    def _note(self, result: Result) -> dict[int, Body]:
        """The answers, by whom they are for."""
        self.log += result.records
        for logged in result.records:
            record = decode_record(logged.key, logged.value)
            assert record is not None
            self.trace.append(_told(record))
        answers: dict[int, Body] = {}
        for reply in result.replies:
            api_key, version = self.asked.pop(reply.waiter)
            encoded = encode_response(api_key, version, reply.body)
            answers[reply.waiter] = decode_response(api_key, version, encoded).as_dict()
            earlier = "" if reply.waiter == self.waiters else f"{reply.waiter} "
            self.trace.append(f"{earlier}=> {_answer(api_key, answers[reply.waiter])}")
        return answers


def shown(shard: GroupShard) -> dict[str, Any]:
    """All that is known of consumer groups, to be compared."""
    skipped = {"checked_topics"}
    return {
        group_id: {name: value for name, value in vars(group).items() if name not in skipped}
        if isinstance(group, ConsumerGroup)
        else group.type_name
        for group_id, group in sorted(shard._context.groups.items())
    }


# --- in a few words


def _told(record: Record) -> str:
    match record:
        case ConsumerGroupMetadata():
            return "no group" if record.epoch is None else f"group {record.epoch}"
        case PartitionMetadata():
            return "partition metadata" if record.exists else "no partition metadata"
        case GroupMember():
            return f"member {record.member_id}" if record.subscription else f"no member {record.member_id}"
        case TargetEpoch():
            return "no targets" if record.epoch is None else f"targets {record.epoch}"
        case TargetAssignment():
            if record.partitions is None:
                return f"no target {record.member_id}"
            return " ".join((f"target {record.member_id}", *_topics(record.partitions)))
        case CurrentAssignment():
            at = record.position
            if at is None:
                return f"no position {record.member_id}"
            left = [f"-{item}" for item in _topics(at.revoking)]
            return " ".join((f"{record.member_id}@{at.epoch}", STATES[at.state], *_topics(at.assigned), *left))
        case ResolvedRegex():
            return (
                f"no regex {record.regex}" if record.resolved is None else f"regex {record.regex} {list(record.resolved.topics)}"
            )
        case GroupMetadata():
            return _told_classic(record)
        case _:
            return type(record).__name__


def _told_classic(record: GroupMetadata) -> str:
    state = record.state
    if state is None:
        return "no classic group"
    members = [f"{one.member_id} {_by_name(read_assignment(one.assignment).partitions)}".rstrip() for one in state.members]
    return ", ".join((f"classic group {state.generation}", *members))


def _by_name(partitions: Mapping[str, tuple[int, ...]]) -> str:
    return " ".join(f"{name}[{' '.join(map(str, held))}]" for name, held in partitions.items())


def _topics(partitions: Mapping[UUID, Any]) -> list[str]:
    return [f"{_name(topic)}[{' '.join(map(str, indexes))}]" for topic, indexes in sorted(partitions.items())]


def _name(topic: UUID) -> str:
    return topic.bytes.rstrip(b"\0").decode()


def _answer(api_key: int, answer: Body) -> str:
    if answer["error_code"] != ErrorCode.none:
        return " ".join((ErrorCode(answer["error_code"]).name.upper(), answer.get("member_id") or "")).rstrip()
    if api_key == JOIN_GROUP:
        return f"{answer['member_id']}@{answer['generation_id']} {answer['protocol_name']}"
    if api_key == SYNC_GROUP:
        return f"assigned {_by_name(synced(answer))}".rstrip()
    if api_key == LEAVE_GROUP:
        return " ".join(ErrorCode(member["error_code"]).name for member in answer["members"])
    if api_key == HEARTBEAT:
        return "ok"
    told = f"{answer['member_id']}@{answer['member_epoch']}"
    return told if answer["assignment"] is None else " ".join((told, *(_topics(assigned(answer)) or ["(nothing)"])))


def synced(answer: Body) -> dict[str, tuple[int, ...]]:
    return read_assignment(answer["assignment"]).partitions


def subscription_bytes(names: Iterable[str], owned: Mapping[str, Iterable[int]]) -> bytes:
    """What a consumer of the classic protocol says of itself, version 3."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(2, "big") + value.encode()

    def int32(value: int) -> bytes:
        return value.to_bytes(4, "big", signed=True)

    listed = list(names)
    held = [text(name) + int32(len([*indexes])) + b"".join(map(int32, indexes)) for name, indexes in owned.items()]
    topics = int32(len(listed)) + b"".join(map(text, listed))
    return b"\0\3" + topics + int32(-1) + int32(len(held)) + b"".join(held) + int32(-1) + b"\xff\xff"


def assigned(answer: Body) -> dict[UUID, tuple[int, ...]]:
    return {item["topic_id"]: tuple(item["partitions"]) for item in answer["assignment"]["topic_partitions"]}
