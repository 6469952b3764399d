"""What idle groups cost: processor time of the nodes while members do nothing but heartbeat, and without them.

The members are sockets of this process, which speak the protocol by hand: real clients of that number would be the load.
"""

import heapq
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.bench.groups_load import OFFSETS_TOPIC, begin_coordinating, shard_of
from tests.bench.groups_peers import cluster_on, output_option, show
from tests.cluster.leaders import leaders_of
from tests.cluster.raw import RawConnection
from tests.events import create_topic

TOPIC = "idle"
JOIN_VERSION, SYNC_VERSION, BEAT_VERSION, CONSUMER_VERSION = 5, 3, 3, 1
INTERVAL_S = {"classic": 3.0, "consumer": 5.0}
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Member:
    """With a connection of its own, as real ones have."""

    connection: RawConnection
    group: str
    member_id: str
    epoch: int = 0

    def beat(self, protocol: str) -> None:
        if protocol == "classic":
            body = {"group_id": self.group, "generation_id": self.epoch, "member_id": self.member_id}
            self.connection.send("heartbeat", BEAT_VERSION, **body)
        else:
            body = {"group_id": self.group, "member_id": self.member_id, "member_epoch": self.epoch, "topic_partitions": None}
            self.connection.send("consumer_group_heartbeat", CONSUMER_VERSION, **body)

    def hear(self, protocol: str) -> None:
        answer = self.connection.receive()
        assert answer.error_code == ErrorCode.none, (self.group, answer)
        if protocol == "consumer":
            self.epoch = answer.member_epoch


def join_classic(members: list[Member]) -> None:
    """All members of one group, through one rebalance."""
    metadata = b"\0\1\0\0\0\1\0\4idle\0\0\0\0\0\0\0\0"
    for member in members:
        answer = _join(member, metadata)
        assert answer.error_code == ErrorCode.member_id_required, answer
        member.member_id = answer.member_id
    for member in members:
        member.connection.send("join_group", JOIN_VERSION, **_join_body(member, metadata))
    answers = [member.connection.receive() for member in members]
    assert len({answer.generation_id for answer in answers}) == 1, "they did not come together"
    for member, answer in zip(members, answers, strict=True):
        member.epoch = answer.generation_id
        is_leader = answer.leader == member.member_id
        given = [{"member_id": one.member_id, "assignment": b""} for one in members] if is_leader else []
        body = {"group_id": member.group, "generation_id": member.epoch, "member_id": member.member_id, "assignments": given}
        member.connection.send("sync_group", SYNC_VERSION, **body)
    for member in members:
        answer = member.connection.receive()
        assert answer.error_code == ErrorCode.none, answer


def _join(member: Member, metadata: bytes) -> Any:
    return member.connection.ask("join_group", JOIN_VERSION, **_join_body(member, metadata))


def _join_body(member: Member, metadata: bytes) -> dict[str, Any]:
    return {
        "group_id": member.group,
        "session_timeout_ms": 600_000,  # the first wait until the last have joined
        "rebalance_timeout_ms": 300_000,
        "member_id": member.member_id,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": metadata}],
    }


def join_consumer(members: list[Member]) -> None:
    for member in members:
        body = {"group_id": member.group, "member_id": member.member_id, "member_epoch": 0, "rebalance_timeout_ms": 300_000}
        body |= {"subscribed_topic_names": [TOPIC], "topic_partitions": []}
        answer = member.connection.ask("consumer_group_heartbeat", CONSUMER_VERSION, **body)
        assert answer.error_code == ErrorCode.none, answer
        member.epoch = answer.member_epoch


JOIN: dict[str, Callable[[list[Member]], None]] = {"classic": join_classic, "consumer": join_consumer}


def heartbeat_for(members: list[Member], protocol: str, seconds: float) -> int:
    """Each member at its interval, spread evenly over it; how many heartbeats."""
    started, interval = time.monotonic(), INTERVAL_S[protocol]
    due = [(started + interval * number / len(members), number) for number in range(len(members))]
    heapq.heapify(due)
    beats = 0
    while due[0][0] < started + seconds:
        at, number = due[0]
        time.sleep(max(0.0, at - time.monotonic()))
        members[number].beat(protocol)
        members[number].hear(protocol)
        heapq.heapreplace(due, (at + interval, number))
        beats += 1
    return beats


def cpu_seconds(cluster: LocalCluster) -> float:
    """Of all nodes, user and system."""
    return sum(_cpu_of(cluster.pid(node.node_id)) for node in cluster.nodes)


def _cpu_of(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def measure(cluster: LocalCluster, protocol: str, *, groups: int, members_each: int, seconds: float) -> dict[str, object]:
    bootstrap = cluster.bootstrap_servers
    create_topic(bootstrap, TOPIC, partitions=members_each)
    names = [f"idle-{number}" for number in range(groups)]
    address = {node.node_id: node.kafka for node in cluster.nodes}
    with ExitStack() as stack:
        begin_coordinating(stack.enter_context(RawConnection(cluster.nodes[0].kafka)), bootstrap)
        leaders = leaders_of(bootstrap, OFFSETS_TOPIC)
        before = cpu_seconds(cluster)
        time.sleep(seconds)
        without_s = cpu_seconds(cluster) - before
        members: list[Member] = []
        for number, name in enumerate(names):
            node = address[leaders[shard_of(name, len(leaders))]]
            ids = [
                str(UUID(int=number * members_each + one + 1)) if protocol == "consumer" else "" for one in range(members_each)
            ]
            together = [Member(stack.enter_context(RawConnection(node)), name, member_id) for member_id in ids]
            JOIN[protocol](together)
            members += together
        heartbeat_for(members, protocol, 2 * INTERVAL_S[protocol])  # until nobody moves any more
        before = cpu_seconds(cluster)
        beats = heartbeat_for(members, protocol, seconds)
        with_s = cpu_seconds(cluster) - before
    return {
        "heartbeats": beats,
        "cluster_cpu_percent_without": round(100 * without_s / seconds, 1),
        "cluster_cpu_percent_with": round(100 * with_s / seconds, 1),
        "cpu_us_a_heartbeat": round((with_s - without_s) * 1e6 / beats),
    }


@click.command("idle")
@click.option("--groups", default=200, show_default=True)
@click.option("--members", default=3, show_default=True, help="Of each group.")
@click.option("--protocol", type=click.Choice(["classic", "consumer"]), default="consumer", show_default=True)
@click.option("--seconds", default=30.0, show_default=True)
@output_option
def command(groups: int, members: int, protocol: str, seconds: float, output: str) -> None:
    """Processor time of nodes with idle groups."""
    with cluster_on("quorumlog", {"group.initial.rebalance.delay.ms": 100}) as cluster:
        result = measure(cluster, protocol, groups=groups, members_each=members, seconds=seconds)
    show(output, f"{groups} idle {protocol} groups of {members} members", result)
