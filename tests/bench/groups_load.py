"""A coordinator's node dies: how long until all its groups are served by the nodes that take over, on a real cluster.

1,000 groups have 5,000 committed offsets each: the third of them that one node coordinates has to be read from the logs of some
17 shards. All shards are asked again and again, by one request at a time to each node; before each the node is asked for nothing
but its versions, and the slowest of those answers shows for how long a node that loads hears nobody. In the end each group is
asked for an offset, which must be the one that was committed.
"""

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from confluent_kafka.admin import AdminClient

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.bench.groups_peers import cluster_on, median_and_worst, output_option, peer_option, show, told
from tests.clients.stage import java_hash
from tests.cluster.leaders import leaders_of, wait_in_sync
from tests.cluster.raw import RawConnection
from tests.events import create_topic

OFFSETS_TOPIC = "__consumer_offsets"
TOPIC_PARTITIONS = 500
COMMITTED_AT_ONCE = 500
PACE_S = 0.01
PATIENCE_S = 120.0
COMMIT_VERSION, FETCH_VERSION = 8, 8
LOADED = re.compile(r"__consumer_offsets-\d+: loaded \d+ offsets of its log in ([0-9.]+) s")


def groups_named(count: int) -> list[str]:
    return [f"consumer-group-{number}" for number in range(count)]


def shard_of(group: str, shards: int) -> int:
    return java_hash(group) % shards


def offset_of(group: str, partition: int) -> int:
    return len(group) * 1_000 + partition


class Nodes:
    """A connection to each node that lives."""

    def __init__(self, bootstrap: str) -> None:
        brokers = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=20).brokers
        self._addresses = {node: f"{broker.host}:{broker.port}" for node, broker in brokers.items()}
        self._stack = ExitStack()
        self._open = {node: self._stack.enter_context(RawConnection(address)) for node, address in self._addresses.items()}

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, node: int) -> RawConnection:
        return self._open[node]

    def without(self, node: int) -> list[RawConnection]:
        return [connection for other, connection in sorted(self._open.items()) if other != node]

    def reconnect(self, node: int) -> None:
        self._open[node] = self._stack.enter_context(RawConnection(self._addresses[node]))


def begin_coordinating(node: RawConnection, bootstrap: str) -> None:
    """The first who looks for a coordinator has the topic created."""
    deadline = time.monotonic() + PATIENCE_S
    while not leaders_of(bootstrap, OFFSETS_TOPIC):
        assert time.monotonic() < deadline, f"there is no {OFFSETS_TOPIC}"
        node.ask("find_coordinator", 4, key_type=0, coordinator_keys=["first"])
    wait_in_sync(bootstrap, OFFSETS_TOPIC, timeout_s=PATIENCE_S)


def commit_all(nodes: Nodes, leaders: dict[int, int], groups: Sequence[str], offsets: int) -> None:
    """Each group's offsets of all topics, 500 a request, to its coordinator; the node's answers are read one behind."""
    waiting: dict[int, int] = dict.fromkeys(leaders.values(), 0)
    for group in groups:
        node = leaders[shard_of(group, len(leaders))]
        for first in range(0, offsets, COMMITTED_AT_ONCE):
            nodes[node].send(
                "offset_commit", COMMIT_VERSION, **_commit_body(group, first, min(offsets, first + COMMITTED_AT_ONCE))
            )
            waiting[node] += 1
            while waiting[node] > 2:
                _check_committed(nodes[node].receive())
                waiting[node] -= 1
    for node, count in waiting.items():
        for _ in range(count):
            _check_committed(nodes[node].receive())


def _commit_body(group: str, first: int, end: int) -> dict[str, Any]:
    partitions = [
        {"partition_index": index % TOPIC_PARTITIONS, "committed_offset": offset_of(group, index), "committed_metadata": ""}
        for index in range(first, end)
    ]
    topic = {"name": topic_of(first), "partitions": partitions}
    return {"group_id": group, "generation_id_or_member_epoch": -1, "member_id": "", "topics": [topic]}


def topic_of(index: int) -> str:
    return f"orders-{index // TOPIC_PARTITIONS}"


def _check_committed(answer: Any) -> None:
    codes = {partition.error_code for topic in answer.topics for partition in topic.partitions}
    assert codes == {ErrorCode.none}, codes


def _asked(connection: RawConnection, group: str) -> tuple[int, int]:
    """Error code and committed offset of its first partition."""
    request = {"group_id": group, "topics": [{"name": topic_of(0), "partition_indexes": [0]}]}
    answer = connection.ask("offset_fetch", FETCH_VERSION, groups=[request]).groups[0]
    if answer.error_code != ErrorCode.none:
        return answer.error_code, -1
    return ErrorCode.none, answer.topics[0].partitions[0].committed_offset


def measure_round(cluster: Any, nodes: Nodes, victim: int, groups: Sequence[str]) -> dict[str, object]:
    leaders = leaders_of(cluster.bootstrap_servers, OFFSETS_TOPIC)
    orphans = [group for group in groups if leaders[shard_of(group, len(leaders))] == victim]
    one_of = {shard_of(group, len(leaders)): group for group in orphans}
    logs = _log_sizes(cluster)
    killed_at = time.monotonic()
    cluster.kill(victim)
    served, slowest_s = _poll(nodes.without(victim), one_of, killed_at)
    for group in orphans:
        answers = [_asked(connection, group) for connection in nodes.without(victim)]
        assert (ErrorCode.none, offset_of(group, 0)) in answers, (group, answers)
    result: dict[str, object] = {
        "victim": victim,
        "shards": len(one_of),
        "groups": len(orphans),
        "first_shard_s": round(min(served.values()), 3),
        "median_shard_s": round(statistics.median(served.values()), 3),
        "last_shard_s": round(max(served.values()), 3),
        "slowest_answer_s": round(slowest_s, 3),
        "loading_a_shard_s": max(_load_times(cluster, logs), default=0.0),
    }
    cluster.start(victim)
    wait_in_sync(cluster.bootstrap_servers, OFFSETS_TOPIC, timeout_s=120)
    nodes.reconnect(victim)
    return result


def _poll(survivors: Sequence[RawConnection], one_of: dict[int, str], killed_at: float) -> tuple[dict[int, float], float]:
    """Shard -> seconds until it was served, and the longest that a survivor took to answer anything."""
    served: dict[int, float] = {}
    slowest_s = 0.0
    while len(served) < len(one_of):
        assert time.monotonic() - killed_at < PATIENCE_S, f"{len(one_of) - len(served)} shards are not served"
        for shard in sorted(one_of.keys() - served.keys()):
            for connection in survivors:
                slowest_s = max(slowest_s, _time_to_answer(connection))
                code, _ = _asked(connection, one_of[shard])
                if code == ErrorCode.none:
                    served[shard] = time.monotonic() - killed_at
                    break
        time.sleep(PACE_S)
    return served, slowest_s


def _time_to_answer(connection: RawConnection) -> float:
    asked_at = time.monotonic()
    connection.ask("api_versions", 0)
    return time.monotonic() - asked_at


def _log_sizes(cluster: Any) -> dict[Path, int]:
    return {node.log_file: node.log_file.stat().st_size for node in cluster.nodes} if isinstance(cluster, LocalCluster) else {}


def _load_times(cluster: Any, since: dict[Path, int]) -> Iterator[float]:
    """As the nodes tell it of each shard, others being served in between."""
    for path, size in since.items():
        with path.open(errors="replace") as log:
            log.seek(size)
            yield from (float(found[1]) for found in map(LOADED.search, log) if found)


def resident_mb(cluster: Any, node_id: int) -> float:
    status = Path(f"/proc/{cluster.pid(node_id)}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@click.command("load")
@click.option("--groups", "group_count", default=1_000, show_default=True)
@click.option("--offsets", default=5_000, show_default=True, help="Committed offsets of each group.")
@click.option("--rounds", default=3, show_default=True, help="Nodes that are killed, one after the other.")
@click.option("--worst-max", type=float, help="Exit with 1 if a shard was served later after the kill, in seconds.")
@peer_option
@output_option
def command(group_count: int, offsets: int, rounds: int, worst_max: float | None, peer: str, output: str) -> None:
    """kill -9 of a node that coordinates a third of 1,000 groups of 5,000 offsets: how long until all are served."""
    groups = groups_named(group_count)
    with cluster_on(peer, {}) as cluster:
        bootstrap = cluster.bootstrap_servers
        for first in range(0, offsets, TOPIC_PARTITIONS):
            create_topic(bootstrap, topic_of(first), partitions=TOPIC_PARTITIONS, replicas=1, config={"segment.bytes": "1048576"})
        with Nodes(bootstrap) as nodes:
            begin_coordinating(nodes[1], bootstrap)
            before_mb = resident_mb(cluster, 1)
            started = time.monotonic()
            commit_all(nodes, leaders_of(bootstrap, OFFSETS_TOPIC), groups, offsets)
            commit_s, after_mb = time.monotonic() - started, resident_mb(cluster, 1)
            results = told(output, (measure_round(cluster, nodes, 1 + number % 3, groups) for number in range(rounds)))
    summary: dict[str, object] = {
        "groups": group_count,
        "offsets": group_count * offsets,
        "committed_per_second": round(group_count * offsets / commit_s),
        "node_mb_before_and_after": (round(before_mb), round(after_mb)),
    }
    worsts = median_and_worst(results, "first_shard_s", "last_shard_s", "loading_a_shard_s", "slowest_answer_s")
    show(output, f"{peer}, groups of a dead coordinator", summary | worsts, results)
    if worst_max is not None and worsts["last_shard_worst_s"] > worst_max:
        raise SystemExit(1)
