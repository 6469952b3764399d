"""Tests that every version of every group API is answered in its own shape, whether the coordinator says yes or no."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.node.api_table import API_TABLE
from quorumlog.node.group_coordinator_replies import Answer
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.coordinators.consumer_stage import image_of, topic_id
from tests.node import asking

IMAGE = image_of({"t": 2})
MEMBER = {"group_id": "g", "member_id": "m"}
NAMED_TOPIC = {"name": "t", "topic_id": topic_id("t")}
COMMITTED = {"partition_index": 0, "committed_offset": 5, "committed_metadata": "note"}
FETCHED = {**NAMED_TOPIC, "partition_indexes": [0, 1]}
COMMIT, FETCH, HEARTBEAT, DESCRIBE, LIST, DELETE_GROUPS = 8, 9, 12, 15, 16, 42
KEYS = (8, 9, 11, 12, 13, 14, 15, 16, 42, 47, 68, 69)


def requests_of(key: int, version: int) -> list[dict[str, Any]]:
    """What may be asked: group g has a committed offset, and no members."""
    match key:
        case 8:
            return [{"group_id": "g", "member_id": "", "topics": [{**NAMED_TOPIC, "partitions": [COMMITTED]}]}]
        case 9 if version >= 8:
            asked = [{"group_id": group, "topics": topics} for group in ("g", "nobody") for topics in ([FETCHED], None)]
            return [{"groups": asked}]
        case 9:
            named = {"name": "t", "partition_indexes": [0, 1]}
            return [{"group_id": "g", "topics": [named]}, *([{"group_id": "g", "topics": None}] if version >= 2 else [])]
        case 11:
            join = {"session_timeout_ms": 10_000, "protocol_type": "consumer", "protocols": [{"name": "range", "metadata": b""}]}
            return [{**MEMBER, **join}, {**MEMBER, **join, "session_timeout_ms": 1}]
        case 13:
            return [{"group_id": "g", "members": [{"member_id": "m"}]} if version >= 3 else MEMBER]
        case 14:
            return [{**MEMBER, "assignments": []}]
        case 15:
            return [{"groups": ["g", "nobody"]}]
        case 16:
            return [{}]
        case 42:
            return [{"groups_names": ["g", "nobody", "nobody"]}]
        case 47:
            topics = [{"name": name, "partitions": [{"partition_index": 0}]} for name in ("t", "nothing")]
            return [{"group_id": "g", "topics": topics}, {"group_id": "", "topics": topics}]
        case 68:
            join = {"member_epoch": 0, "rebalance_timeout_ms": 1000, "subscribed_topic_names": ["t"], "topic_partitions": []}
            return [{**MEMBER, "group_id": "new", **join}, {**MEMBER, "member_epoch": 7}]
        case 69:
            return [{"group_ids": ["g", "nobody", ""]}]
        case _:
            return [MEMBER]


class Groups:
    """A coordinator of one shard that has committed everything at once, or refuses everything."""

    def __init__(self, refusal: ErrorCode | None = None) -> None:
        self.shard = GroupShard(IMAGE, config_of=lambda _: GroupConfig(), new_uuid=lambda: UUID(int=1))
        self.shard.on_loaded(IMAGE, 0.0, 0)
        self.refusal = refusal

    def ask(self, _group_id: str, operation: Callable[[GroupShard, Waiter], Result], *, logs: bool = True) -> Answer:
        answer: Answer = asyncio.get_running_loop().create_future()
        try:
            if self.refusal is not None:
                raise ClusterError(self.refusal, "no")
            replies = operation(self.shard, 1).replies
            assert not logs or self.shard.is_settled
            answer.set_result(replies[0].body if replies else ClusterError(ErrorCode.rebalance_in_progress, "waits"))
        except ClusterError as error:
            answer.set_result(error)
        return answer

    read_offsets = ask

    def ask_all(self, operation: Callable[[GroupShard, Waiter], Result]) -> list[Answer]:
        if self.refusal is not None:
            raise ClusterError(self.refusal, "no")
        return [self.ask("", operation, logs=False)]


def ask(groups: Groups, key: int, version: int, body: dict[str, Any]) -> Any:
    services = SimpleNamespace(groups=groups, clock=SimpleNamespace(now=lambda: 0.0, wall_ms=lambda: 7))
    return asking.ask(services, key, version, body)


def with_offset() -> Groups:
    groups = Groups()
    committed = ask(groups, COMMIT, 8, requests_of(COMMIT, 8)[0])
    assert committed.topics[0].partitions[0].error_code == ErrorCode.none
    return groups


ALL = [(key, version) for key in KEYS for version in API_TABLE[key].versions]


@pytest.mark.parametrize(("key", "version"), ALL)
def test_every_version_is_answered_in_its_shape(key: int, version: int) -> None:
    for body in requests_of(key, version):
        ask(with_offset(), key, version, body)


@pytest.mark.parametrize(("key", "version"), ALL)
def test_every_version_says_no_in_its_shape(key: int, version: int) -> None:
    for body in requests_of(key, version):
        codes = codes_in(ask(Groups(ErrorCode.not_coordinator), key, version, body).as_dict())
        assert codes & {ErrorCode.not_coordinator, ErrorCode.invalid_group_id}, codes


def codes_in(value: Any) -> set[int]:
    if isinstance(value, dict):
        own = {int(value["error_code"])} if value.get("error_code") else set()
        return own.union(*(codes_in(one) for one in value.values()))
    return set().union(*(codes_in(one) for one in value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("version", API_TABLE[FETCH].versions)
def test_offsets_are_told_in_every_version(version: int) -> None:
    for body in requests_of(FETCH, version):
        answer = ask(with_offset(), FETCH, version, body)
        topics = answer.topics if version < 8 else answer.groups[0].topics
        found = topics[0].partitions[0]
        assert (found.committed_offset, found.metadata, found.error_code) == (5, "note", ErrorCode.none)


def test_a_coordinator_that_is_not_available_is_looked_for_again_by_who_reads_offsets() -> None:
    """Consumers before 3.9 know no other code in this answer that makes them ask again, says Kafka."""
    (body,) = requests_of(FETCH, 8)
    answer = ask(Groups(ErrorCode.coordinator_not_available), FETCH, 8, body)
    assert {group.error_code for group in answer.groups} == {ErrorCode.not_coordinator}


def test_a_heartbeat_is_taken_while_the_group_is_loaded() -> None:
    assert ask(Groups(ErrorCode.coordinator_load_in_progress), HEARTBEAT, 4, MEMBER).error_code == ErrorCode.none


def test_each_group_is_deleted_once() -> None:
    answer = ask(with_offset(), DELETE_GROUPS, 2, requests_of(DELETE_GROUPS, 2)[0])
    assert [(one.group_id, one.error_code) for one in answer.results] == [
        ("g", ErrorCode.none),
        ("nobody", ErrorCode.group_id_not_found),
    ]


def test_a_group_that_is_not_there_is_dead_and_since_version_6_an_error() -> None:
    for version, code in ((5, ErrorCode.none), (6, ErrorCode.group_id_not_found)):
        found = ask(with_offset(), DESCRIBE, version, {"groups": ["nobody"]}).groups[0]
        assert (found.group_state, found.error_code) == ("Dead", code)


def test_what_may_be_done_with_a_group_is_told_to_who_asks() -> None:
    """READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS; the least number of 32 bits where nobody asked."""
    for asked, operations in ((True, 0b1101_0100_1000), (False, -(2**31))):
        body = {"groups": ["g"], "include_authorized_operations": asked}
        assert ask(with_offset(), DESCRIBE, 5, body).groups[0].authorized_operations == operations


@pytest.mark.parametrize(
    ("states", "types", "expected"),
    [([], [], ["g"]), (["EMPTY"], [], ["g"]), (["Stable"], [], []), ([], ["classic"], ["g"]), ([], ["Consumer"], [])],
)
def test_groups_are_listed_by_state_and_type(states: list[str], types: list[str], expected: list[str]) -> None:
    answer = ask(with_offset(), LIST, 5, {"states_filter": states, "types_filter": types})
    assert [group.group_id for group in answer.groups] == expected
