"""Random walks of clients around classic groups: whatever they do, the log tells the same story as the memory.

A walk is replayed by its seed. At each step a twin replays what was logged; at the end time passes until nobody is left.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from quorumlog.coordinators.classic_group import ClassicGroup, State
from quorumlog.coordinators.codec import decode_record
from quorumlog.coordinators.records import GroupMetadata, GroupState
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.wire.errors import ErrorCode

from .classic_bench import HEARTBEAT, JOIN, LEAVE, SYNC, Answer, Bench

STEPS = 120
PARTITIONS = tuple("abcdef")


@dataclass(slots=True)
class Client:
    """What a program knows of its membership. It believes what it is told, and is told late sometimes."""

    name: str
    instance_id: str | None = None
    member_id: str = ""
    generation: int = -1
    followers: tuple[str, ...] = ()
    wants: int = JOIN

    def hear(self, answer: Answer) -> None:
        message = answer.message
        if message.error_code in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id):
            self.member_id, self.generation, self.wants = "", -1, JOIN
        elif answer.api_key == JOIN and message.error_code in (ErrorCode.none, ErrorCode.member_id_required):
            self.member_id, self.generation = message.member_id, message.generation_id
            self.followers = tuple(member.member_id for member in message.members)
            self.wants = SYNC if message.error_code == ErrorCode.none else JOIN
        elif answer.api_key in (SYNC, HEARTBEAT):
            self.wants = HEARTBEAT if message.error_code == ErrorCode.none else JOIN


@dataclass(slots=True)
class Walk:
    rng: Random
    bench: Bench = field(default_factory=lambda: Bench(GroupConfig(group_initial_rebalance_delay_ms=500)))
    clients: list[Client] = field(default_factory=list)
    asked: dict[int, Client] = field(default_factory=dict)
    synced_generation: dict[int, int] = field(default_factory=dict)
    owners: dict[tuple[int, str], str] = field(default_factory=dict)
    heard_count: int = 0
    replayed_count: int = 0
    twin: Bench = field(default_factory=Bench)
    visited: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.clients = [Client(f"c{index}") for index in range(4)] + [Client("s", "i1"), Client("s", "i1"), Client("s", "i2")]

    def step(self) -> None:
        client = self.rng.choice(self.clients)
        if self.rng.random() < 0.9:
            self.go_on(client)
        else:
            self.stray(client)
        self.hear()
        self.check()

    def go_on(self, client: Client) -> None:
        """As a well-behaved program does, which waits for its answers."""
        if any(self.asked[waiter] is client for waiter in self.bench.open):
            self.bench.passes(0.7)
        else:
            {JOIN: self.join, SYNC: self.sync, HEARTBEAT: self.heartbeat}[client.wants](client)

    def stray(self, client: Client) -> None:
        actions = [self.join, self.sync, self.heartbeat, self.leave, self.restart, self.passes, self.shift]
        self.rng.choices(actions, weights=[4, 4, 4, 1, 1, 4, 1])[0](client)

    def join(self, client: Client) -> None:
        names = self.rng.choice((["range"], ["range", "sticky"], ["sticky", "range"]))
        self.ask(
            client,
            JOIN,
            self.rng.choice((1, 3, 4, 5, 9)) if client.instance_id is None else self.rng.choice((5, 9)),
            member_id=client.member_id,
            session_timeout_ms=self.rng.choice((6_000, 10_000)),
            rebalance_timeout_ms=self.rng.choice((-5, 0, 5_000, 20_000)),
            group_instance_id=client.instance_id,
            protocol_type="consumer",
            protocols=[{"name": name, "metadata": self.rng.choice((b"", b"t"))} for name in names],
        )

    def sync(self, client: Client) -> None:
        deal = {member_id: "".join(PARTITIONS[n :: len(client.followers)]) for n, member_id in enumerate(client.followers)}
        waiter = self.ask(
            client,
            SYNC,
            3,
            member_id=client.member_id,
            generation_id=client.generation,
            group_instance_id=client.instance_id,
            assignments=[{"member_id": member_id, "assignment": parts.encode()} for member_id, parts in deal.items()],
        )
        self.synced_generation[waiter] = client.generation

    def heartbeat(self, client: Client) -> None:
        fields = {"member_id": client.member_id, "generation_id": client.generation, "group_instance_id": client.instance_id}
        self.ask(client, HEARTBEAT, 3, **fields)

    def leave(self, client: Client) -> None:
        self.ask(client, LEAVE, 4, members=[{"member_id": client.member_id, "group_instance_id": client.instance_id}])

    def restart(self, client: Client) -> None:
        client.member_id, client.generation = "", -1

    def passes(self, _: Client) -> None:
        self.bench.passes(self.rng.choice((0.5, 3.0, 7.0)))

    def shift(self, _: Client) -> None:
        self.bench.configure(group_max_size=self.rng.choice((3, 100, 100)))
        self.bench.reload()

    def ask(self, client: Client, api_key: int, version: int, **fields: object) -> int:
        self.visited[self.state] += 1
        waiter = self.bench.ask(api_key, version, client.name, **fields)
        self.asked[waiter] = client
        return waiter

    @property
    def state(self) -> str:
        group = self.bench.context.groups.get("g")
        return group.state_name if group is not None else "none"

    def hear(self) -> None:
        for answer in self.bench.answers[self.heard_count :]:
            client = self.asked[answer.waiter]
            client.hear(answer)
            if answer.api_key == SYNC and answer.message.error_code == ErrorCode.none:
                self.check_exclusive(self.synced_generation[answer.waiter], client, answer.message.assignment.decode())
        self.heard_count = len(self.bench.answers)

    def check_exclusive(self, generation: int, client: Client, partitions: str) -> None:
        """A static member may own what its earlier life owned."""
        for partition in partitions:
            owner = client.instance_id or client.member_id
            assert self.owners.setdefault((generation, partition), owner) == owner, (generation, partition)

    def check(self) -> None:
        for record in self.bench.log[self.replayed_count :]:
            decoded = decode_record(record.key, record.value)
            assert isinstance(decoded, GroupMetadata)
            self.twin.groups.replay(decoded)
            assert hard(self.twin.group()) == decoded.state
        self.replayed_count = len(self.bench.log)
        if "g" not in self.bench.context.groups:
            return
        live, replayed = self.bench.group(), self.twin.group()
        check_counts(live)
        if live.state in (State.STABLE, State.EMPTY):
            assert (live.state, hard(live)) == (replayed.state, hard(replayed))


def hard(group: ClassicGroup) -> GroupState:
    return group.saved(group.state_since_ms, {member.member_id: member.assignment for member in group.members.values()})


def check_counts(group: ClassicGroup) -> None:
    """What is counted on the way is what counting anew gives."""
    members = group.members
    assert group.joined_count == sum(member.join_waiter is not None for member in members.values())
    assert group.static_members == {member.instance_id: key for key, member in members.items() if member.instance_id is not None}
    assert group.pending_syncs <= members.keys()
    assert not group.pending_joins & members.keys()
    assert (group.leader in members) == bool(members)
    if members:
        shared = set.intersection(*({name for name, _ in member.protocols} for member in members.values()))
        assert group.select_protocol() in shared
    waiting_for_sync = any(member.sync_waiter is not None for member in members.values())
    assert not waiting_for_sync or group.state is State.COMPLETING


@pytest.mark.parametrize("seed", range(12))
def test_a_walk_ends_with_nothing_left(seed: int) -> None:
    """All are answered once, every session ends, and no timer stays."""
    walk = Walk(Random(seed))
    for _ in range(STEPS):
        walk.step()
    walk.bench.passes(2_000)
    walk.hear()
    walk.check()
    assert walk.bench.open == {}
    assert len(walk.bench.context.timers) == 0
    assert walk.state == "Empty"


def test_walks_come_everywhere() -> None:
    """Each state is met by requests, or the walks above would show little."""
    walk = Walk(Random(2))
    for _ in range(10 * STEPS):
        walk.step()
    assert set(walk.visited) == {"none", "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}
    assert min(walk.visited[state.value] for state in State) > 5
    assert len(walk.owners) > 60
