"""The Kafka side of moves and elections: what is asked of the controller, and what is answered in every version."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.metadata.image import Image
from quorumlog.metadata.requests import (
    AlterReassignments,
    AlterReassignmentsReply,
    Done,
    ElectionResult,
    ElectLeaders,
    ElectLeadersReply,
    Reassignment,
    ReassignmentResult,
    Reply,
    Request,
    TopicPartitions,
    UnregisterBroker,
)
from quorumlog.node.api_table import API_TABLE
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.bounds import PARTITIONS_MAX
from quorumlog.wire.codec import encode_response
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.metadata.given import broker_record, image_of, state

ELECT, ALTER, LIST, UNREGISTER = 43, 45, 46, 64
MOVING = replace(state((4, 1), (1,), leader=1), adding=(4,), removing=(1,))


class Controller:
    """Remembers what it was asked, and answers what it was told to."""

    def __init__(self, answer: Reply | ClusterError) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    async def request(self, request: Request, *, timeout_s: float) -> Reply:
        self.asked.append(request)
        if isinstance(self.answer, ClusterError):
            raise self.answer
        return self.answer


def ask(key: int, version: int, message: Any, *, controller: Controller | None = None, image: Image | None = None) -> Any:
    """The handler's answer, which the codec must be able to write in this version."""
    services: Any = SimpleNamespace(controller=controller, image=image)
    answer = API_TABLE[key].handle(services, Call(version, SimpleNamespace(timeout_ms=1000, **message), None, ""))
    if asyncio.iscoroutine(answer):
        answer = asyncio.run(answer)
    assert encode_response(key, version, answer)
    return answer


def partitions(*found: Any) -> list[SimpleNamespace]:
    return [SimpleNamespace(partition_index=index, replicas=replicas) for index, replicas in found]


@pytest.mark.parametrize("version", [0, 1])
def test_moves_are_asked_of_the_controller(version: int) -> None:
    """A target, and a null that takes a move back; each partition has its code, grouped by topic."""
    reply = AlterReassignmentsReply(
        (
            ReassignmentResult("a", 0, ErrorCode.none, None),
            ReassignmentResult("a", 1, ErrorCode.no_reassignment_in_progress, "is not being moved"),
            ReassignmentResult("b", 0, ErrorCode.none, None),
        )
    )
    controller = Controller(reply)
    topics = [
        SimpleNamespace(name="a", partitions=partitions((0, (3, 4)), (1, None))),
        SimpleNamespace(name="b", partitions=partitions((0, ()))),
    ]
    answer = ask(ALTER, version, {"topics": topics, "allow_replication_factor_change": False}, controller=controller)
    wanted = (Reassignment("a", 0, (3, 4)), Reassignment("a", 1, None), Reassignment("b", 0, ()))
    assert controller.asked == [AlterReassignments(wanted, allow_replication_factor_change=version == 0)]
    assert answer["error_code"] is ErrorCode.none
    assert [(topic["name"], [one["error_code"] for one in topic["partitions"]]) for topic in answer["responses"]] == [
        ("a", [ErrorCode.none, ErrorCode.no_reassignment_in_progress]),
        ("b", [ErrorCode.none]),
    ]


def test_a_move_that_no_controller_answers_says_so_everywhere() -> None:
    """In the code of the whole, and of each partition."""
    controller = Controller(ClusterError(ErrorCode.request_timed_out, "no controller"))
    topics = [SimpleNamespace(name="a", partitions=partitions((0, (1,))))]
    answer = ask(ALTER, 1, {"topics": topics, "allow_replication_factor_change": True}, controller=controller)
    assert answer["error_code"] is answer["responses"][0]["partitions"][0]["error_code"] is ErrorCode.request_timed_out


def test_too_many_partitions_do_not_reach_the_controller() -> None:
    """One more than a request may name."""
    controller = Controller(Done())
    many = [SimpleNamespace(name="a", partitions=partitions(*((index, (1,)) for index in range(PARTITIONS_MAX + 1))))]
    answer = ask(ALTER, 1, {"topics": many, "allow_replication_factor_change": True}, controller=controller)
    assert (answer["error_code"], controller.asked) == (ErrorCode.policy_violation, [])


def test_what_moves_is_listed() -> None:
    """All, or what was asked for and moves; unknown names and partitions are passed over."""
    image = image_of((1, 4), [MOVING, state((1,), partition=1)])
    moving = {"partition_index": 0, "replicas": (4, 1), "adding_replicas": (4,), "removing_replicas": (1,)}
    expected = [{"name": "events", "partitions": [moving]}]
    assert ask(LIST, 0, {"topics": None}, image=image)["topics"] == expected
    asked = [SimpleNamespace(name=name, partition_indexes=(0, 1, 7)) for name in ("other", "events")]
    assert ask(LIST, 0, {"topics": asked}, image=image)["topics"] == expected
    settled = [SimpleNamespace(name="events", partition_indexes=(1,))]
    assert ask(LIST, 0, {"topics": settled}, image=image)["topics"] == []


@pytest.mark.parametrize(("version", "kind", "preferred"), [(0, 0, True), (1, 0, True), (2, 1, False)])
def test_elections_are_asked_of_the_controller(version: int, kind: int, preferred: bool) -> None:
    """v0 knows preferred ones only."""
    reply = ElectLeadersReply((ElectionResult("a", 0, ErrorCode.none, None), ElectionResult("a", 2, ErrorCode.none, None)))
    controller = Controller(reply)
    topics = [SimpleNamespace(topic="a", partitions=(0, 2))]
    answer = ask(ELECT, version, {"topic_partitions": topics, "election_type": kind}, controller=controller)
    assert controller.asked == [ElectLeaders(preferred, (TopicPartitions("a", (0, 2)),))]
    (topic,) = answer["replica_election_results"]
    assert [one["partition_id"] for one in topic["partition_result"]] == [0, 2]


def test_null_elects_everywhere() -> None:
    """As the tools do with --all-topic-partitions."""
    controller = Controller(ElectLeadersReply(()))
    answer = ask(ELECT, 2, {"topic_partitions": None, "election_type": 0}, controller=controller)
    assert controller.asked == [ElectLeaders(preferred=True, partitions=None)]
    assert answer == {"error_code": ErrorCode.none, "replica_election_results": []}


def test_an_unknown_kind_of_election_is_refused() -> None:
    """For the whole and for each partition."""
    topics = [SimpleNamespace(topic="a", partitions=(0,))]
    answer = ask(ELECT, 1, {"topic_partitions": topics, "election_type": 7}, controller=Controller(Done()))
    (partition,) = answer["replica_election_results"][0]["partition_result"]
    assert answer["error_code"] is partition["error_code"] is ErrorCode.invalid_request


def test_a_broker_that_stopped_can_be_forgotten_and_a_live_one_cannot() -> None:
    """A live one would come back at once as one of which nobody knows what it holds."""
    image = image_of((1, broker_record(2, 2, fenced=True)))
    controller = Controller(Done())
    assert ask(UNREGISTER, 0, {"broker_id": 2}, controller=controller, image=image)["error_code"] is ErrorCode.none
    assert controller.asked == [UnregisterBroker(2)]
    refused = ask(UNREGISTER, 0, {"broker_id": 1}, controller=controller, image=image)
    assert refused["error_code"] is ErrorCode.invalid_request and "broker 1 is live" in refused["error_message"]
    unknown = Controller(ClusterError(ErrorCode.broker_id_not_registered, "broker 9 is not registered"))
    answer = ask(UNREGISTER, 0, {"broker_id": 9}, controller=unknown, image=image)
    assert answer["error_code"] is ErrorCode.broker_id_not_registered
