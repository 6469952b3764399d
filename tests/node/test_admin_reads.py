"""What admin clients are told of topics, quorum, directories, producers and telemetry: handlers over an image made by hand."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.host.ports import PeerGone
from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.describe_log_dirs import handle_describe_log_dirs
from quorumlog.node.handlers.describe_producers import handle_describe_producers
from quorumlog.node.handlers.describe_quorum import handle_describe_quorum
from quorumlog.node.handlers.describe_topic_partitions import handle_describe_topic_partitions
from quorumlog.node.handlers.get_telemetry_subscriptions import handle_get_telemetry_subscriptions
from quorumlog.node.handlers.list_config_resources import handle_list_config_resources
from quorumlog.node.handlers.push_telemetry import handle_push_telemetry
from quorumlog.node.quorum_view import NotLeader, QuorumState, QuorumView, VoterState, read_state
from quorumlog.partitions.producers import ProducerBatch, ProducerState
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID, TopicPartition

CLIENT = UUID(int=99)


def ask(handle: Any, services: Any, version: int = 0, **message: Any) -> Any:
    return handle(services, Call(version, SimpleNamespace(**message), None, ""))


def broker(node_id: int, *, fenced: bool = False) -> Broker:
    endpoint = Endpoint("host", 9092)
    return Broker(node_id, node_id, UUID(int=1), UUID(int=2), endpoint, endpoint, None, fenced, False)


def image_with(**partition_counts: int) -> Image:
    topics = {}
    for number, (name, count) in enumerate(partition_counts.items()):
        topic_id = UUID(int=number + 1)
        states = {p: PartitionState(topic_id, p, (1, 2), (1,), (2,), 1, 3, 4) for p in range(count)}
        topics[name] = Topic(name, topic_id, Map(states))
    brokers = Map({1: broker(1), 2: broker(2, fenced=True), 3: broker(3)})
    return Image("test", topics=Map(topics), brokers=brokers, group_configs=Map({"readers": Map({"a": "1"})}))


# --- DescribeTopicPartitions


def page(image: Image, *names: str, cursor: tuple[str, int] | None = None, room: int = 2000) -> dict[str, Any]:
    answer: dict[str, Any] = ask(
        handle_describe_topic_partitions,
        SimpleNamespace(image=image),
        topics=[SimpleNamespace(name=name) for name in names],
        cursor=None if cursor is None else SimpleNamespace(topic_name=cursor[0], partition_index=cursor[1]),
        response_partition_limit=room,
    )
    return answer


@pytest.mark.parametrize("room", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("names", [(), ("b", "missing", "a")])
def test_pages_together_show_everything_once(room: int, names: tuple[str, ...]) -> None:
    """Whatever the size of a page: each partition, in order, and each topic that does not exist."""
    image, cursor = image_with(b=3, a=2, c=1), None
    seen: list[tuple[str, int | None]] = []
    for _ in range(20):
        answer = page(image, *names, cursor=cursor, room=room)
        assert sum(len(topic["partitions"]) for topic in answer["topics"]) <= room
        for topic in answer["topics"]:
            seen += [(topic["name"], one["partition_index"]) for one in topic["partitions"]] or [(topic["name"], None)]
        if answer["next_cursor"] is None:
            break
        cursor = (answer["next_cursor"]["topic_name"], answer["next_cursor"]["partition_index"])
    every: list[tuple[str, int | None]] = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    assert seen == every + ([("missing", None)] if names else [("c", 0)])


def test_a_partition_is_shown_with_who_may_lead_it() -> None:
    """The eligible replicas of KIP-966 among them, which is what this API came with."""
    (topic,) = page(image_with(a=1))["topics"]
    (partition,) = topic["partitions"]
    assert (topic["error_code"], topic["topic_id"], topic["is_internal"]) == (ErrorCode.none, UUID(int=1), False)
    assert (partition["leader_id"], partition["leader_epoch"]) == (1, 3)
    shown = [tuple(partition[name]) for name in ("replica_nodes", "isr_nodes", "eligible_leader_replicas", "offline_replicas")]
    assert shown == [(1, 2), (1,), (2,), (2,)]


def test_a_cursor_to_nowhere_is_refused() -> None:
    """It must be of a topic that is asked for; where all are, one that was deleted meanwhile leads to the next."""
    image = image_with(a=2, b=1)
    for cursor in (("c", 0), ("a", -1)):
        refused = page(image, "a", "b", cursor=cursor)["topics"]
        assert [(topic["name"], topic["error_code"]) for topic in refused] == [
            ("a", ErrorCode.invalid_request),
            ("b", ErrorCode.invalid_request),
        ]
    assert [topic["name"] for topic in page(image, cursor=("aa", 1))["topics"]] == ["b"]
    assert [len(topic["partitions"]) for topic in page(image, cursor=("aa", 1))["topics"]] == [1]


def test_names_that_no_topic_could_have_are_told_apart() -> None:
    """As Metadata does."""
    found = [(topic["name"], topic["error_code"]) for topic in page(image_with(), "gone", "no name")["topics"]]
    assert found == [("gone", ErrorCode.unknown_topic_or_partition), ("no name", ErrorCode.invalid_topic_exception)]


# --- ListConfigResources


def test_what_has_settings_is_listed_by_type() -> None:
    """v0 knows client metrics only, of which there are none; live brokers, topics, and groups that have some."""
    services = SimpleNamespace(image=image_with(b=1, a=1))
    assert ask(handle_list_config_resources, services)["config_resources"] == []
    everything = [(2, "a"), (2, "b"), (4, "1"), (4, "3"), (32, "readers")]
    for types, expected in (((), everything), ((32, 2), [*everything[:2], everything[4]]), ((8, 16), [])):
        answer = ask(handle_list_config_resources, services, 1, resource_types=types)
        assert [(one["resource_type"], one["resource_name"]) for one in answer["config_resources"]] == expected
    assert ask(handle_list_config_resources, services, 1, resource_types=(2, 3)) == {"error_code": ErrorCode.unsupported_version}


# --- telemetry


def test_clients_are_told_that_no_metrics_are_wanted() -> None:
    """A new client gets an id, a known one keeps its own; when to ask again is in minutes."""
    services = SimpleNamespace(new_uuid=lambda: CLIENT)
    for client_id in (NO_TOPIC_ID, CLIENT):
        answer = ask(handle_get_telemetry_subscriptions, services, client_instance_id=client_id)
        assert (answer["client_instance_id"], answer["requested_metrics"]) == (CLIENT, [])
        assert answer["push_interval_ms"] == 300_000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, ErrorCode.none),
        ({"client_instance_id": NO_TOPIC_ID}, ErrorCode.invalid_request),
        ({"subscription_id": 5}, ErrorCode.unknown_subscription_id),
        ({"compression_type": 5}, ErrorCode.unsupported_compression_type),
        ({"metrics": bytes((1 << 20) + 1)}, ErrorCode.telemetry_too_large),
    ],
)
def test_pushed_metrics_are_judged_and_fall(change: dict[str, Any], code: ErrorCode) -> None:
    """A client that ends may push once; one with an old subscription asks anew."""
    message: dict[str, Any] = {
        "client_instance_id": CLIENT,
        "subscription_id": 0,
        "compression_type": 4,
        "metrics": b"x",
        "terminating": True,
    }
    assert ask(handle_push_telemetry, None, **(message | change)) == {"error_code": code}


# --- DescribeLogDirs, DescribeProducers


def replica(name: str, number: int, *, size: int = 7, end: int = 10, mark: int = 8) -> Any:
    state = ProducerState(epoch=2, last_heard_ms=77, batches=[ProducerBatch(0, 4, 100, -1)])
    return SimpleNamespace(
        tp=TopicPartition(name, number),
        size=size,
        log_end_offset=end,
        high_watermark=mark,
        known_producers=lambda: [(5, state), (6, ProducerState(epoch=0, last_heard_ms=1, coordinator_epoch=3))],
        transaction_start={6: 40}.get,
    )


def test_the_one_directory_is_shown_with_its_replicas() -> None:
    """All, or those that were asked for; the lag is of what is committed elsewhere and not here yet."""
    replicas = {one.tp: one for one in (replica("b", 1), replica("b", 0), replica("a", 0, size=9, end=5))}
    services = SimpleNamespace(
        volume=lambda: (1000, 400), config=SimpleNamespace(data_dir="/data"), replicas=SimpleNamespace(partitions=replicas)
    )
    (directory,) = ask(handle_describe_log_dirs, services, 4, topics=None)["results"]
    assert (directory["log_dir"], directory["total_bytes"], directory["usable_bytes"]) == ("/data", 1000, 400)
    shown = {
        (topic["name"], one["partition_index"]): (one["partition_size"], one["offset_lag"])
        for topic in directory["topics"]
        for one in topic["partitions"]
    }
    assert shown == {("a", 0): (9, 3), ("b", 0): (7, 0), ("b", 1): (7, 0)}
    wanted = [SimpleNamespace(topic="b", partitions=(1, 9)), SimpleNamespace(topic="zzz", partitions=(0,))]
    (directory,) = ask(handle_describe_log_dirs, services, 4, topics=wanted)["results"]
    assert [(topic["name"], len(topic["partitions"])) for topic in directory["topics"]] == [("b", 1)]


def test_producers_are_shown_partition_by_partition() -> None:
    """Each with the last sequence that it has come to; a partition that is not here is refused by itself."""

    def get(tp: TopicPartition, _image: object) -> Any:
        if tp.partition:
            raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no {tp}")
        return replica(*tp)

    services = SimpleNamespace(replicas=SimpleNamespace(get=get), image=None)
    (topic,) = ask(handle_describe_producers, services, topics=[SimpleNamespace(name="a", partition_indexes=(0, 3, 0))])["topics"]
    here, gone = topic["partitions"]
    known = [(one["producer_id"], one["producer_epoch"], one["last_sequence"]) for one in here["active_producers"]]
    assert (here["error_code"], known) == (ErrorCode.none, [(5, 2, 4), (6, 0, -1)])
    transactions = [(one["coordinator_epoch"], one["current_txn_start_offset"]) for one in here["active_producers"]]
    assert transactions == [(-1, -1), (3, 40)], "a marker of one coordinator or none, and what is open"
    assert (gone["partition_index"], gone["error_code"]) == (3, ErrorCode.unknown_topic_or_partition)


# --- DescribeQuorum


STATE = QuorumState(leader=1, term=4, commit_index=20, voters=(VoterState(1, 21), VoterState(2, 21), VoterState(5, 0)))


async def quorum_answer(state: Any, *topics: tuple[str, tuple[int, ...]]) -> Any:
    services = SimpleNamespace(
        quorum=SimpleNamespace(state=state),
        image=image_with(),
        clock=SimpleNamespace(wall_ms=lambda: 1234),
        config=SimpleNamespace(voter_addresses={1: Endpoint("one", 19192)}),
    )
    wanted = [
        SimpleNamespace(topic_name=name, partitions=[SimpleNamespace(partition_index=number) for number in numbers])
        for name, numbers in topics
    ]
    return await ask(handle_describe_quorum, services, 2, topics=wanted)


def test_the_quorum_is_shown_as_its_leader_sees_it() -> None:
    """Ends are offsets: one more than the last index; -1 is a voter or an observer of which nothing is known."""

    async def state(**_: float) -> QuorumState:
        return STATE

    answer = asyncio.run(quorum_answer(state, ("__cluster_metadata", (0,))))
    (partition,) = answer["topics"][0]["partitions"]
    assert (partition["leader_id"], partition["leader_epoch"], partition["high_watermark"]) == (1, 4, 21)
    voters = [(one["replica_id"], one["log_end_offset"], one["last_caught_up_timestamp"]) for one in partition["current_voters"]]
    assert voters == [(1, 22, 1234), (2, 22, 1234), (5, -1, -1)]
    assert [(one["replica_id"], one["log_end_offset"]) for one in partition["observers"]] == [(3, -1)]
    assert [(node["node_id"], node["listeners"][0]["port"]) for node in answer["nodes"]] == [(1, 19192)]


def test_other_topics_are_no_quorum() -> None:
    """Nobody is asked for them."""
    answer = asyncio.run(quorum_answer(None, ("orders", (0, 1))))
    assert [one["error_code"] for one in answer["topics"][0]["partitions"]] == [ErrorCode.unknown_topic_or_partition] * 2


def test_without_a_leader_the_answer_says_so() -> None:
    """At the top, where tools look first."""

    async def state(**_: float) -> QuorumState:
        raise ClusterError(ErrorCode.request_timed_out, "nobody")

    answer = asyncio.run(quorum_answer(state, ("__cluster_metadata", (0,))))
    assert answer == {"error_code": ErrorCode.request_timed_out, "error_message": "nobody"}


class Voters:
    """Three voters on one loop, of which `leader` answers; calls that fail are counted."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.views: dict[int, QuorumView] = {}
        self.calls: list[int] = []

    def view(self, node_id: int, targets: list[int]) -> QuorumView:
        status = SimpleNamespace(
            active=node_id == self.leader, term=4, commit_index=20, last_log_index=21, matched=((2, 21), (5, 0))
        )
        controller = SimpleNamespace(target=lambda: targets[0], on_wrong_target=lambda _hint: targets.pop(0))
        cluster = SimpleNamespace(wait_for_change=lambda pause_s: asyncio.sleep(0))
        view = QuorumView(node_id, SimpleNamespace(status=lambda: status), cluster, controller, self)  # type: ignore[arg-type]
        self.views[node_id] = view
        return view

    async def call(self, target: int, _method: str, request: bytes, _timeout_s: float) -> bytes:
        self.calls.append(target)
        if target not in self.views:
            raise PeerGone(f"node {target}")
        return await self.views[target]._on_call(0, request)


def test_the_leader_asks_nobody() -> None:
    """It knows."""
    voters = Voters(leader=1)
    assert asyncio.run(voters.view(1, [1]).state(timeout_s=5)) == STATE
    assert voters.calls == []


def test_a_follower_asks_on_until_the_leader_answers() -> None:
    """One that is gone and one that does not lead are passed."""
    voters = Voters(leader=1)
    voters.view(1, [1])
    voters.view(5, [5])
    assert asyncio.run(voters.view(2, [7, 5, 1]).state(timeout_s=5)) == STATE
    assert voters.calls == [7, 5, 1]


@pytest.mark.parametrize("data", [b"x", bytes(19), bytes(25)])
def test_bytes_that_are_no_answer_are_a_peer_gone(data: bytes) -> None:
    """And none at all come from one that does not lead."""
    with pytest.raises(PeerGone):
        read_state(data)
    with pytest.raises(NotLeader):
        read_state(b"")
