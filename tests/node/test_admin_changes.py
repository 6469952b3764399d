"""What handlers refuse or say by themselves before, or instead of, asking the controller or a coordinator."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.metadata.image import Endpoint, Image, Topic
from quorumlog.metadata.requests import AlterConfigs, AlterConfigsReply, CreatedTopic, CreateTopicsReply, ResourceResult
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.alter_replica_log_dirs import handle_alter_replica_log_dirs
from quorumlog.node.handlers.create_topics import handle_create_topics
from quorumlog.node.handlers.delete_records import handle_delete_records
from quorumlog.node.handlers.find_coordinator import handle_find_coordinator
from quorumlog.node.handlers.incremental_alter_configs import handle_incremental_alter_configs
from quorumlog.node.handlers.init_producer_id import handle_init_producer_id
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID, TopicPartition

SET = 0


def ask(handle: Any, services: Any, version: int = 0, **message: Any) -> Any:
    """The answer of a handler, whether it waits for something or not."""
    answer = handle(services, Call(version, SimpleNamespace(**message), None, ""))
    return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


# --- CreateTopics


class Controller:
    """Answers with what it was given, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def request(self, request: Any, *, timeout_s: float) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, ClusterError):
            raise self.answer
        return self.answer


REFUSED = CreatedTopic("orders", NO_TOPIC_ID, ErrorCode.topic_already_exists, "there is one", -1, -1)


@pytest.mark.parametrize("answer", [ClusterError(ErrorCode.request_timed_out, "nobody"), CreateTopicsReply((REFUSED,))])
def test_a_topic_that_was_not_created_has_no_settings_rather_than_null(answer: Any) -> None:
    """As Kafka answers: null would say that the client may not see them (KIP-525)."""
    services = SimpleNamespace(controller=Controller(answer))
    topic = SimpleNamespace(name="orders", num_partitions=1, replication_factor=1, assignments=(), configs=())
    (told,) = ask(handle_create_topics, services, 7, topics=[topic], validate_only=False, timeout_ms=1000)["topics"]
    assert (told["error_code"] != ErrorCode.none, told["configs"]) == (True, [])


# --- DeleteRecords


class Partition:
    def __init__(self, leads: bool) -> None:
        self._leads = leads

    def check_leads(self) -> None:
        if not self._leads:
            raise ClusterError(ErrorCode.not_leader_or_follower, "another node leads")

    def delete_records(self, before_offset: int) -> int:
        return before_offset


@pytest.mark.parametrize(
    ("policy", "leads", "code"),
    [
        ("compact", True, ErrorCode.policy_violation),
        ("compact", False, ErrorCode.not_leader_or_follower),
        ("compact,delete", True, ErrorCode.none),
        ("delete", True, ErrorCode.none),
        ("", True, ErrorCode.none),
    ],
)
def test_records_of_a_topic_that_is_only_compacted_stay(policy: str, leads: bool, code: ErrorCode) -> None:
    """Kafka refuses to cut off what keeps the last of each key."""
    image = Image(
        "test", topics=Map({"a": Topic("a", UUID(int=1), Map())}), topic_configs=Map({"a": Map({"cleanup.policy": policy})})
    )
    services = SimpleNamespace(
        image=image,
        config=SimpleNamespace(broker_defaults={}),
        replicas=SimpleNamespace(get=lambda tp, image: Partition(leads), on_log_start=lambda partition: None),
    )
    topic = SimpleNamespace(name="a", partitions=[SimpleNamespace(partition_index=0, offset=3)])
    ((told,),) = (one["partitions"] for one in ask(handle_delete_records, services, topics=[topic])["topics"])
    assert (told["error_code"], told["low_watermark"]) == (code, 3 if code is ErrorCode.none else -1)


# --- AlterReplicaLogDirs


def test_replicas_are_where_they_can_be() -> None:
    """A move to the one directory is done; codes are Kafka's for other directories, other nodes' replicas, and no partition."""

    def get(tp: TopicPartition, image: Any) -> None:
        if tp != TopicPartition("a", 0):
            code = ErrorCode.not_leader_or_follower if tp.topic == "a" else ErrorCode.unknown_topic_or_partition
            raise ClusterError(code, "not here")

    services = SimpleNamespace(image=None, config=SimpleNamespace(data_dir="/data"), replicas=SimpleNamespace(get=get))

    def directory(path: str, topic: str, *partitions: int) -> Any:
        return SimpleNamespace(path=path, topics=[SimpleNamespace(name=topic, partitions=partitions)])

    dirs = [directory("/else", "a", 0, 2), directory("/data", "a", 0, 1), directory("/data", "b", 0)]
    told = ask(handle_alter_replica_log_dirs, services, 2, dirs=dirs)["results"]
    assert {(one["topic_name"], each["partition_index"]): each["error_code"] for one in told for each in one["partitions"]} == {
        ("a", 0): ErrorCode.none,  # the last directory counts
        ("a", 1): ErrorCode.replica_not_available,
        ("a", 2): ErrorCode.log_dir_not_found,
        ("b", 0): ErrorCode.unknown_topic_or_partition,
    }


# --- FindCoordinator


@pytest.mark.parametrize(("version", "word"), [(1, "NONE"), (3, "NONE"), (4, ""), (6, "")])
def test_a_found_coordinator_comes_with_kafkas_words(version: int, word: str) -> None:
    """Old versions say NONE where nothing is wrong, newer ones nothing; neither says null."""

    async def nothing_new() -> None:
        return

    async def find(group_id: str) -> Any:
        return SimpleNamespace(node_id=2, kafka=Endpoint("host", 9092))

    services = SimpleNamespace(suspects=SimpleNamespace(news=nothing_new), groups=SimpleNamespace(find=find))
    answer = ask(handle_find_coordinator, services, version, key="readers", key_type=0, coordinator_keys=["readers"])
    told = answer["coordinators"][0] if version >= 4 else answer
    assert (told["error_code"], told["error_message"], told["node_id"]) == (ErrorCode.none, word, 2)


# --- IncrementalAlterConfigs


@pytest.mark.parametrize(
    ("name", "code"),
    [("", ErrorCode.invalid_request), (" x", ErrorCode.invalid_topic_exception), (".", ErrorCode.invalid_topic_exception)],
)
def test_what_no_topic_can_be_called_has_no_settings(name: str, code: ErrorCode) -> None:
    """It is told apart from a topic that is not there; what else was asked for goes on."""
    controller = Controller(AlterConfigsReply((ResourceResult("topic", "orders", ErrorCode.none, None),)))  # type: ignore[arg-type]
    change = SimpleNamespace(name="retention.ms", config_operation=SET, value="1")
    resources = [SimpleNamespace(resource_type=2, resource_name=one, configs=[change]) for one in (name, "orders")]
    message = {"resources": resources, "validate_only": False}
    told = ask(handle_incremental_alter_configs, SimpleNamespace(controller=controller), **message)["responses"]
    assert [(one["resource_name"], one["error_code"]) for one in told] == [(name, code), ("orders", ErrorCode.none)]
    assert [[one.name for one in asked.resources] for asked in controller.asked if isinstance(asked, AlterConfigs)] == [
        ["orders"]
    ]


# --- InitProducerId


@pytest.mark.parametrize(
    ("transactional_id", "producer_id", "producer_epoch", "code"),
    [
        (None, -1, -1, ErrorCode.none),
        (None, 5, 1, ErrorCode.none),
        (None, 5, -1, ErrorCode.invalid_request),
        (None, -1, 3, ErrorCode.invalid_request),
        ("", -1, -1, ErrorCode.invalid_request),
        ("orders", 5, 1, ErrorCode.producer_fenced),
    ],
)
def test_half_an_identity_is_no_identity(
    transactional_id: str | None, producer_id: int, producer_epoch: int, code: ErrorCode
) -> None:
    """A producer names the id and the epoch that it had, or neither (KIP-360); an empty transactional id is none."""

    async def take(timeout_s: float) -> int:
        return 77

    async def fence(transactional_id: str, timeout_ms: int, expected: Producer | None) -> ClusterError:
        assert (transactional_id, timeout_ms, expected) == ("orders", 60, (5, 1))
        return ClusterError(ErrorCode.producer_fenced, "there is another")

    services = SimpleNamespace(producer_ids=SimpleNamespace(take=take), transactions=SimpleNamespace(init_producer=fence))
    message: dict[str, Any] = {"transactional_id": transactional_id, "producer_id": producer_id, "producer_epoch": producer_epoch}
    message["transaction_timeout_ms"] = 60
    told = ask(handle_init_producer_id, services, 4, **message)
    given = (77, 0) if code is ErrorCode.none else (-1, -1)
    assert (told.get("error_code", ErrorCode.none), told["producer_id"], told["producer_epoch"]) == (code, *given)
