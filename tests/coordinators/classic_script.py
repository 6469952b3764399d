"""Conversations with a classic group as text: commands above the line, the full trace below.

    join NAME [v=9] [session=S] [rebalance=S] [protocols=p,q] [reads=topic] [instance=I] [type=T] [id=ID] [group=G]
    sync NAME [v=5] [assign=NAME:part+part,...] [generation=N] [protocol=P] [type=T] [id=ID] [instance=I]
    heartbeat NAME [generation=N] [id=ID] [instance=I]
    leave NAME... [v=5] [instance=I]
    pass SECONDS | config SETTING=N | reload | describe

A client NAME remembers the id and the generation that it was told, and sends them with its next request.
"""

import re
import struct
from pathlib import Path

from quorumlog.coordinators.codec import decode_record
from quorumlog.coordinators.records import GroupMetadata
from quorumlog.coordinators.results import LogRecord
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.message import Struct

from .classic_bench import HEARTBEAT, JOIN, LEAVE, SYNC, Answer, Bench

NAMES = {JOIN: "join", SYNC: "sync", HEARTBEAT: "heartbeat", LEAVE: "leave"}
LINE = "----"
UUID = re.compile(r"00000000-0000-0000-0000-0*(\d+)")


def subscription(topics: list[str]) -> bytes:
    """As a consumer of version 0 says what it reads."""
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


class Script:
    """One conversation, from its first command to its last."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.trace: list[str] = []
        self._ids: dict[str, str] = {}
        self._generations: dict[str, int] = {}
        self._clients: dict[int, str] = {}

    def run(self, commands: list[str]) -> list[str]:
        for command in commands:
            self.trace.append(f"> {command}")
            logged, answered = len(self.bench.log), len(self.bench.answers)
            verb, *words = command.split()
            named = dict(word.split("=", 1) for word in words if "=" in word)
            getattr(self, f"_{verb}")([word for word in words if "=" not in word], named)
            self.trace += [f"  log {_logged(record)}" for record in self.bench.log[logged:]]
            for answer in self.bench.answers[answered:]:
                self._hear(answer)
        return [UUID.sub(r"\1", line) for line in self.trace]

    def _hear(self, answer: Answer) -> None:
        client, message = self._clients[answer.waiter], answer.message
        if answer.api_key == JOIN and message.error_code in (ErrorCode.none, ErrorCode.member_id_required):
            self._ids[client], self._generations[client] = message.member_id, message.generation_id
        self.trace.append(f"  {client}: {NAMES[answer.api_key]} {_answered(answer.api_key, message)}")

    def _ask(self, client: str, api_key: int, version: int, **fields: object) -> None:
        before = len(self.bench.answers)
        waiter = self.bench.ask(api_key, version, client, **fields)
        self._clients[waiter] = client
        if waiter not in [answer.waiter for answer in self.bench.answers[before:]]:
            self.trace.append(f"  {client} waits")

    def _identity(self, client: str, named: dict[str, str]) -> dict[str, object]:
        known = self._ids.get(client, "")
        return {"member_id": named.get("id", known), "group_instance_id": named.get("instance")}

    def _join(self, words: list[str], named: dict[str, str]) -> None:
        (client,) = words
        reads = subscription(named.get("reads", "t").split(","))
        names = [name for name in named.get("protocols", "range").split(",") if name]
        self._ask(
            client,
            JOIN,
            int(named.get("v", 9)),
            group_id=named.get("group", "g"),
            session_timeout_ms=int(float(named.get("session", 10)) * 1000),
            rebalance_timeout_ms=int(float(named.get("rebalance", 60)) * 1000),
            protocol_type=named.get("type", "consumer"),
            protocols=[{"name": name, "metadata": reads} for name in names],
            **self._identity(client, named),
        )

    def _sync(self, words: list[str], named: dict[str, str]) -> None:
        (client,) = words
        pairs = [pair.split(":") for pair in named.get("assign", "").split(",") if pair]
        self._ask(
            client,
            SYNC,
            int(named.get("v", 5)),
            generation_id=int(named.get("generation", self._generations.get(client, -1))),
            protocol_type=named.get("type", "consumer"),
            protocol_name=named.get("protocol", "range"),
            assignments=[{"member_id": self._ids[name], "assignment": parts.encode()} for name, parts in pairs],
            **self._identity(client, named),
        )

    def _heartbeat(self, words: list[str], named: dict[str, str]) -> None:
        (client,) = words
        generation = int(named.get("generation", self._generations.get(client, -1)))
        self._ask(client, HEARTBEAT, int(named.get("v", 4)), generation_id=generation, **self._identity(client, named))

    def _leave(self, words: list[str], named: dict[str, str]) -> None:
        version = int(named.get("v", 5))
        if version < 3:
            self._ask(words[0], LEAVE, version, member_id=self._ids.get(words[0], ""))
            return
        members = [self._identity(client, {"instance": named["instance"]} if "instance" in named else {}) for client in words]
        members += [{"member_id": "", "group_instance_id": named["removed"]}] if "removed" in named else []
        self._ask(words[0] if words else "admin", LEAVE, version, members=members)

    def _pass(self, words: list[str], _: dict[str, str]) -> None:
        self.bench.passes(float(words[0]))

    def _config(self, _: list[str], named: dict[str, str]) -> None:
        self.bench.configure(**{name: int(value) for name, value in named.items()})

    def _reload(self, _: list[str], __: dict[str, str]) -> None:
        self.bench.reload()

    def _describe(self, _: list[str], __: dict[str, str]) -> None:
        body = self.bench.groups.describe("g")
        self.trace.append(
            f"  {body['group_state']} type={body.get('protocol_type', '')} protocol={body.get('protocol_data', '')}"
        )
        for member in body.get("members", []):
            instance = f" instance={member['group_instance_id']}" if member["group_instance_id"] else ""
            metadata, assignment = len(member["member_metadata"]), member["member_assignment"].decode()
            self.trace.append(f"    {member['member_id']}{instance} metadata={metadata} bytes assignment={assignment}")


def _logged(record: LogRecord) -> str:
    group = decode_record(record.key, record.value)
    assert isinstance(group, GroupMetadata)
    if group.state is None:
        return f"{group.group_id} gone"
    state = group.state
    members = " ".join(f"{member.member_id}[{member.assignment.decode()}]" for member in state.members)
    named = f"protocol={state.protocol} leader={state.leader} since={state.current_state_timestamp_ms}"
    return f"{group.group_id} generation={state.generation} type={state.protocol_type} {named} members: {members}".rstrip(" :")


def _answered(api_key: int, message: Struct) -> str:
    error = "" if message.error_code == 0 else ErrorCode(message.error_code).name.upper()
    if api_key == JOIN:
        return _joined(message, error)
    if api_key == SYNC:
        return error or f"{message.protocol_type}/{message.protocol_name} {message.assignment.decode() or 'nothing'}"
    if api_key == LEAVE:
        return " ".join([error, *(_left(member) for member in message.members)]).strip() or "ok"
    return error or "ok"


def _joined(message: Struct, error: str) -> str:
    if error:
        return f"{error} id={message.member_id}"
    followers = " ".join(member.member_id for member in message.members)
    skip = " skip_assignment" if message.skip_assignment else ""
    told = f" members: {followers}" if followers else ""
    generation = f"generation={message.generation_id} protocol={message.protocol_name}"
    return f"{generation} id={message.member_id} leader={message.leader}{skip}{told}"


def _left(member: Struct) -> str:
    code = ErrorCode(member.error_code).name.upper()
    return f"{member.member_id or member.group_instance_id}:{'ok' if code == 'NONE' else code}"


def expected_and_traced(path: Path) -> tuple[str, str]:
    """The file as it stands, and as it would be written from its commands."""
    text = path.read_text()
    head, _, _ = text.partition(f"\n{LINE}\n")
    commands = [line for line in head.splitlines() if line and not line.startswith("#")]
    return text, f"{head}\n{LINE}\n" + "\n".join(Script().run(commands)) + "\n"
