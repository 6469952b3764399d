"""Tests of committed offsets: who may commit, what is answered, what is logged, and when it all goes away."""

from typing import Any

import pytest
from immutables import Map

from quorumlog.coordinators.codec import Record, decode_record
from quorumlog.coordinators.records import CommittedOffset, GroupMetadata, OffsetCommit
from quorumlog.coordinators.results import Body, Request
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image
from quorumlog.wire.codec import decode_request, decode_response, encode_request, encode_response
from quorumlog.wire.errors import ClusterError, ErrorCode

from .consumer_stage import image_of, topic_id

OFFSET_COMMIT, JOIN_GROUP, SYNC_GROUP, OFFSET_DELETE = 8, 11, 14, 47
MINUTE_MS = 60_000
WALL_MS = 1_700_000_000_000
NOBODY: Body = {"generation_id_or_member_epoch": -1, "member_id": ""}


class Desk:
    """A shard, asked in bytes of the protocol. `log` is what it logged, decoded."""

    def __init__(self, **config: Any) -> None:
        self.config = GroupConfig(group_initial_rebalance_delay_ms=0, **config)
        self.image = image_of({"t": 3, "u": 1})
        self.now = 0.0
        self.log: list[Record] = []
        self._bytes: list[tuple[bytes, bytes | None]] = []
        self.shard = self._new_shard()
        self._take(self.shard.on_loaded(self.image, self.now, WALL_MS))

    def _new_shard(self) -> GroupShard:
        return GroupShard(self.image, config_of=lambda _: self.config, new_uuid=lambda: topic_id("unused"))

    @property
    def wall_ms(self) -> int:
        return WALL_MS + int(self.now * 1000)

    def reload(self) -> None:
        """Another shard, from the log alone."""
        self.shard = self._new_shard()
        for key, value in self._bytes:
            self.shard.replay(key, value)
        self._take(self.shard.on_loaded(self.image, self.now, self.wall_ms))

    def commit(self, topics: Body, version: int = 8, group: str = "g", **fields: Any) -> list[tuple[str, int, str]]:
        """Each partition's answer. `topics` is {topic: {partition: offset or (offset, metadata)}}."""
        body = {"group_id": group, **NOBODY, "topics": [_topic(name, parts, version) for name, parts in topics.items()], **fields}
        answer = self._ask(OFFSET_COMMIT, version, body, lambda request: self.shard.commit(request, self.now, self.wall_ms))
        return [
            (topic.name or str(topic.topic_id), one.partition_index, ErrorCode(one.error_code).name)
            for topic in answer.topics
            for one in topic.partitions
        ]

    def fetch(self, topics: dict[str, list[int]] | None, group: str = "g", version: int = 9) -> dict[tuple[str, int], Any]:
        """(offset, epoch, metadata) by topic and partition."""
        body = {"group_id": group, "topics": None, "member_id": None, "member_epoch": -1}
        if topics is not None:
            body["topics"] = [
                {"name": name, "topic_id": topic_id(name), "partition_indexes": parts} for name, parts in topics.items()
            ]
        message = decode_request(9, version, encode_request(9, version, {"groups": [body]})).groups[0]
        result = self.shard.fetch_offsets(Request(1, version, message), self.now)
        frame = encode_response(9, version, {"groups": [result.replies[0].body]})
        (answer,) = decode_response(9, version, frame).groups
        return {
            (topic.name or str(topic.topic_id), one.partition_index): _seen(one)
            for topic in answer.topics
            for one in topic.partitions
        }

    def delete(self, topics: dict[str, list[int]]) -> list[tuple[str, int, str]]:
        named = [{"name": name, "partitions": [{"partition_index": index} for index in parts]} for name, parts in topics.items()]
        body = {"group_id": "g", "topics": named}
        answer = self._ask(OFFSET_DELETE, 0, body, lambda request: self.shard.delete_offsets(request, self.now))
        return [(t.name, one.partition_index, ErrorCode(one.error_code).name) for t in answer.topics for one in t.partitions]

    def join(self, *topics: str, protocol_type: str = "consumer", session_timeout_ms: int = 10_000) -> str:
        """One member, alone in the group and stable in it; its id."""
        metadata = b"\0\0" + len(topics).to_bytes(4, "big") + b"".join(len(t).to_bytes(2, "big") + t.encode() for t in topics)
        body = {
            "group_id": "g",
            "session_timeout_ms": session_timeout_ms,
            "rebalance_timeout_ms": 10_000,
            "member_id": "",
            "protocol_type": protocol_type,
            "protocols": [{"name": "range", "metadata": metadata}],
        }
        joined = self._ask(JOIN_GROUP, 3, body, lambda request: self.shard.join(request, self.now, self.wall_ms))
        sync = {"group_id": "g", "generation_id": joined.generation_id, "member_id": joined.member_id, "assignments": []}
        self._ask(SYNC_GROUP, 2, sync, lambda request: self.shard.sync(request, self.now, self.wall_ms))
        return str(joined.member_id)

    def pass_time(self, seconds: float) -> None:
        """All deadlines up to then, one after the other."""
        end = self.now + seconds
        while (at := self.shard.next_deadline()) <= end:
            self.now = max(self.now, at)
            self._take(self.shard.tick(self.now, self.wall_ms))
        self.now = end

    def show(self, image: Image, *deleted: str) -> None:
        self.image = image
        self._take(self.shard.on_image(image, self.now, deleted=deleted))

    def _ask(self, api_key: int, version: int, body: Body, operation: Any) -> Any:
        message = decode_request(api_key, version, encode_request(api_key, version, body))
        result = operation(Request(1, version, message, "client", "/10.0.0.1"))
        self._take(result)
        if not result.replies:
            result = self.shard.tick(self.now, self.wall_ms)
            self._take(result)
        return decode_response(api_key, version, encode_response(api_key, version, result.replies[0].body))

    def _take(self, result: Any) -> None:
        for record in result.records:
            decoded = decode_record(record.key, record.value)
            assert decoded is not None
            self.log.append(decoded)
            self._bytes.append((record.key, record.value))


def _seen(one: Any) -> Any:
    return ErrorCode(one.error_code).name if one.error_code else (one.committed_offset, one.committed_leader_epoch, one.metadata)


def _topic(name: str, partitions: Body, version: int) -> Body:
    items = []
    for index, given in partitions.items():
        offset, metadata = given if isinstance(given, tuple) else (given, None)
        one = {"partition_index": index, "committed_offset": offset, "committed_metadata": metadata}
        items.append(one | ({"committed_leader_epoch": 4} if version >= 6 else {}))
    return {"name": name, "topic_id": topic_id(name), "partitions": items}


# --- committing and fetching


def test_what_was_committed_is_fetched_also_from_the_log_alone() -> None:
    desk = Desk()
    assert desk.commit({"t": {0: (5, "note"), 2: 7}}) == [("t", 0, "none"), ("t", 2, "none")]
    expected = {("t", 0): (5, 4, "note"), ("t", 1): (-1, -1, ""), ("t", 2): (7, 4, "")}
    assert desk.fetch({"t": [0, 1, 2]}) == expected
    desk.reload()
    assert desk.fetch({"t": [0, 1, 2]}) == expected
    assert desk.log == [
        OffsetCommit("g", "t", 0, CommittedOffset(5, 4, "note", WALL_MS, -1)),
        OffsetCommit("g", "t", 2, CommittedOffset(7, 4, "", WALL_MS, -1)),
    ]


def test_all_topics_of_a_group_are_fetched_without_naming_one() -> None:
    desk = Desk()
    desk.commit({"u": {0: 1}, "t": {1: 2}})
    desk.commit({"t": {0: 9}}, group="other")
    assert desk.fetch(None) == {("t", 1): (2, 4, ""), ("u", 0): (1, 4, "")}
    assert desk.fetch(None, group="nobody") == {}


def test_each_partition_that_does_not_exist_is_refused_by_itself() -> None:
    desk = Desk()
    answer = desk.commit({"t": {0: 1, 3: 1}, "nothing": {0: 1}})
    assert answer == [
        ("t", 0, "none"),
        ("t", 3, "unknown_topic_or_partition"),
        ("nothing", 0, "unknown_topic_or_partition"),
    ]
    assert desk.fetch(None) == {("t", 0): (1, 4, "")}


def test_metadata_is_taken_up_to_its_limit_as_java_counts_it() -> None:
    desk = Desk(offset_metadata_max_bytes=4)
    answer = desk.commit(
        {"t": {0: (1, "four"), 1: (1, "five!"), 2: (1, "\U0001f600\U0001f600")}, "u": {0: (1, "a\U0001f600\U0001f600")}}
    )
    assert answer == [
        ("t", 0, "none"),
        ("t", 1, "offset_metadata_too_large"),
        ("t", 2, "none"),
        ("u", 0, "offset_metadata_too_large"),
    ]


def test_topics_go_by_their_ids_in_version_10() -> None:
    desk = Desk()
    answer = desk.commit({"t": {0: 1}, "nothing": {0: 1}}, version=10)
    assert answer == [(str(topic_id("t")), 0, "none"), (str(topic_id("nothing")), 0, "unknown_topic_id")]
    fetched = desk.fetch({"t": [0], "nothing": [0]}, version=10)
    assert fetched == {(str(topic_id("t")), 0): (1, 4, ""), (str(topic_id("nothing")), 0): "unknown_topic_id"}
    assert desk.fetch(None, version=10) == {(str(topic_id("t")), 0): (1, 4, "")}
    assert desk.fetch({"t": [0]}) == {("t", 0): (1, 4, "")}


@pytest.mark.parametrize(("version", "code"), [(8, "illegal_generation"), (9, "group_id_not_found")])
def test_a_member_of_a_group_that_does_not_exist_commits_nothing(version: int, code: str) -> None:
    desk = Desk()
    answer = desk.commit({"t": {0: 1}}, version=version, generation_id_or_member_epoch=3, member_id="m")
    assert (answer, desk.log) == ([("t", 0, code)], [])


def test_only_members_of_the_generation_commit_for_a_group_that_has_some() -> None:
    desk = Desk()
    member = desk.join("t")
    assert desk.commit({"t": {0: 1}}) == [("t", 0, "unknown_member_id")]
    assert desk.commit({"t": {0: 1}}, generation_id_or_member_epoch=7, member_id=member) == [("t", 0, "illegal_generation")]
    assert desk.commit({"t": {0: 1}}, generation_id_or_member_epoch=1, member_id=member) == [("t", 0, "none")]


def test_a_member_that_commits_is_alive() -> None:
    desk = Desk()
    member = desk.join("t", session_timeout_ms=10_000)
    for _ in range(4):
        desk.pass_time(6)
        assert desk.commit({"t": {0: 1}}, generation_id_or_member_epoch=1, member_id=member) == [("t", 0, "none")]
    desk.pass_time(11)
    assert desk.commit({"t": {0: 1}}, generation_id_or_member_epoch=1, member_id=member) == [("t", 0, "unknown_member_id")]


# --- deleting


def test_offsets_of_a_topic_that_members_read_stay() -> None:
    desk = Desk()
    desk.commit({"t": {0: 1}, "u": {0: 1}})
    desk.join("t")
    assert desk.delete({"t": [0], "u": [0, 1]}) == [
        ("t", 0, "group_subscribed_to_topic"),
        ("u", 0, "none"),
        ("u", 1, "unknown_topic_or_partition"),
    ]
    assert desk.fetch(None) == {("t", 0): (1, 4, "")}
    desk.reload()
    assert desk.fetch(None) == {("t", 0): (1, 4, "")}


def test_offsets_are_not_deleted_from_a_group_that_is_not_there_or_not_understood() -> None:
    desk = Desk()
    with pytest.raises(ClusterError, match="group_id_not_found"):
        desk.delete({"t": [0]})
    desk.join(protocol_type="connect")
    with pytest.raises(ClusterError, match="non_empty_group"):
        desk.delete({"t": [0]})


def test_a_group_goes_with_its_offsets_once_it_is_empty() -> None:
    desk = Desk()
    desk.join("t", session_timeout_ms=10_000)
    with pytest.raises(ClusterError, match="non_empty_group"):
        desk.shard.delete_group("g", 1)
    desk.pass_time(30)
    desk.commit({"t": {0: 1, 1: 1}})
    desk.log.clear()
    desk._take(desk.shard.delete_group("g", 1))
    assert desk.log == [OffsetCommit("g", "t", 0, None), OffsetCommit("g", "t", 1, None), GroupMetadata("g", None)]
    with pytest.raises(ClusterError, match="group_id_not_found"):
        desk.shard.delete_group("g", 1)
    desk.reload()
    assert desk.shard.groups() == []


def test_offsets_of_a_deleted_topic_are_dropped() -> None:
    desk = Desk()
    desk.commit({"t": {0: 1}, "u": {0: 1}})
    desk.commit({"t": {1: 1}}, group="other")
    desk.log.clear()
    desk.show(image_of({"u": 1}), "t")
    assert desk.log == [OffsetCommit("g", "t", 0, None), OffsetCommit("other", "t", 1, None)]
    assert desk.fetch(None) == {("u", 0): (1, 4, "")}


def test_offsets_of_a_topic_that_was_deleted_while_nobody_coordinated_are_dropped() -> None:
    desk = Desk()
    desk.commit({"t": {0: 1}, "u": {0: 1}})
    desk.image = image_of({"u": 1})
    desk.reload()
    assert desk.fetch(None) == {("u", 0): (1, 4, "")}
    assert desk.log[-1] == OffsetCommit("g", "t", 0, None)


# --- retention


def test_offsets_without_members_expire_by_the_time_of_their_commit() -> None:
    desk = Desk(offsets_retention_minutes=10, offsets_retention_check_interval_ms=MINUTE_MS)
    desk.commit({"t": {0: 1}})
    desk.pass_time(5 * 60)
    desk.commit({"t": {1: 1}})
    desk.pass_time(6 * 60)
    assert desk.fetch(None) == {("t", 1): (1, 4, "")}
    desk.pass_time(5 * 60)
    assert desk.fetch(None) == {}
    assert desk.log[-2:] == [OffsetCommit("g", "t", 1, None), GroupMetadata("g", None)]


def test_offsets_of_a_group_are_kept_while_it_has_members_and_then_for_the_whole_retention() -> None:
    desk = Desk(offsets_retention_minutes=10, offsets_retention_check_interval_ms=MINUTE_MS)
    member = desk.join("t", session_timeout_ms=30 * MINUTE_MS)
    desk.commit({"t": {0: 1}}, generation_id_or_member_epoch=1, member_id=member)
    desk.pass_time(39 * 60)  # the session ends within, and a new count begins
    assert desk.fetch(None) == {("t", 0): (1, 4, "")}
    desk.pass_time(3 * 60)
    assert desk.fetch(None) == {}
    assert desk.shard.groups() == []


def test_members_keep_only_what_they_still_read() -> None:
    desk = Desk(offsets_retention_minutes=10, offsets_retention_check_interval_ms=MINUTE_MS)
    desk.commit({"t": {0: 1}, "u": {0: 1}})
    desk.join("t", session_timeout_ms=30 * MINUTE_MS)
    desk.pass_time(12 * 60)
    assert desk.fetch(None) == {("t", 0): (1, 4, "")}


def test_a_client_of_old_has_its_own_retention() -> None:
    desk = Desk(offsets_retention_minutes=60, offsets_retention_check_interval_ms=MINUTE_MS)
    desk.commit({"t": {0: 1}}, version=4, retention_time_ms=2 * MINUTE_MS)
    desk.commit({"t": {1: 1}}, version=4, retention_time_ms=-1)
    desk.pass_time(3 * 60)
    assert list(desk.fetch(None)) == [("t", 1)]


def test_many_offsets_expire_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorumlog.coordinators.offsets.EXPIRED_MAX", 3)
    desk = Desk(offsets_retention_minutes=10, offsets_retention_check_interval_ms=MINUTE_MS)
    for number in range(5):
        desk.commit({"t": {0: 1, 1: 1}}, group=f"g{number}")
    steps = []
    end = 11 * 60.0
    while (at := desk.shard.next_deadline()) <= end:
        desk.now = at
        result = desk.shard.tick(desk.now, desk.wall_ms)
        desk._take(result)
        steps.append(len(result.records))
    assert [step for step in steps if step] == [6, 6, 3]
    assert desk.shard.groups() == []


def test_a_group_whose_topics_nobody_knows_is_not_touched_by_the_image() -> None:
    desk = Desk()
    desk.commit({"t": {0: 1}})
    desk.log.clear()
    desk.show(Image("cluster", index=2, topics=Map({"t": desk.image.topics["t"]}), topic_names=Map({topic_id("t"): "t"})))
    assert desk.log == []
