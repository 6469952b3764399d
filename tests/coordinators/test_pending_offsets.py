"""Offsets that are committed in transactions: they count from the end of those on, and not before (KIP-98, KIP-447)."""

from typing import Any

import pytest

from quorumlog.coordinators.results import Body, Request, Writer
from quorumlog.wire.codec import decode_request, encode_request
from tests.coordinators.test_offsets import Desk

NONE = (-1, -1, "")


class Transacting(Desk):
    """A desk to which producers come too. Their records and the ends of their transactions are in its log."""

    def commit_as(self, producer_id: int, topics: Body, **fields: Any) -> list[tuple[str, int, str]]:
        body = {
            "transactional_id": f"x{producer_id}",
            "group_id": "g",
            "producer_id": producer_id,
            "producer_epoch": 0,
            "topics": [
                {
                    "name": name,
                    "partitions": [
                        {"partition_index": index, "committed_offset": offset, "committed_leader_epoch": 4}
                        for index, offset in parts.items()
                    ],
                }
                for name, parts in topics.items()
            ],
            **fields,
        }
        message = decode_request(28, 3, encode_request(28, 3, body))
        writer = Writer(producer_id, 0, None)
        result = self.shard.commit_in_transaction(Request(1, 3, message), writer, self.wall_ms)
        assert result.writer is writer or not result.records
        self.events += [(producer_id, record) for record in result.records]
        return [
            (topic["name"], one["partition_index"], one["error_code"].name)
            for topic in result.replies[0].body["topics"]
            for one in topic["partitions"]
        ]

    def end(self, producer_id: int, *, commit: bool) -> None:
        self.events.append((producer_id, commit))
        self.shard.replay_end(producer_id, is_commit=commit)

    def stable(self, topics: dict[str, list[int]] | None, group: str = "g") -> list[str]:
        """The code of each partition, asked for stable offsets."""
        named = topics and [{"name": name, "partition_indexes": parts} for name, parts in topics.items()]
        body = {"group_id": group, "topics": named, "member_id": None, "member_epoch": -1}
        message = decode_request(9, 9, encode_request(9, 9, {"groups": [body], "require_stable": True})).groups[0]
        result = self.shard.fetch_offsets(Request(1, 9, message), self.now, requires_stable=True)
        return [one["error_code"].name for topic in result.replies[0].body["topics"] for one in topic["partitions"]]

    def _take(self, result: Any) -> None:
        self.events = [*getattr(self, "events", []), *((-1, record) for record in result.records)]
        super()._take(result)

    def reload(self) -> None:
        """Another shard, from all that was logged, in its order."""
        events, self.events = self.events, []
        self.shard = self._new_shard()
        for producer_id, event in events:
            if isinstance(event, bool):
                self.shard.replay_end(producer_id, is_commit=event)
            elif producer_id < 0:
                self.shard.replay(event.key, event.value)
            else:
                self.shard.replay_for(producer_id, event.key, event.value)
        self._take(self.shard.on_loaded(self.image, self.now, self.wall_ms))
        self.events = events + self.events


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("reload_at", [0, 1, 2])
def test_offsets_of_a_transaction_count_when_it_has_ended_well(commit: bool, reload_at: int) -> None:
    """Before that who requires stable ones is told to come again; it is the same after a change of coordinators at any time."""
    desk = Transacting()
    desk.commit({"t": {0: 5}})
    desk.commit_as(7, {"t": {0: 9, 1: 3}})
    if reload_at == 1:
        desk.reload()
    assert desk.fetch({"t": [0, 1]}) == {("t", 0): (5, 4, ""), ("t", 1): NONE}
    assert desk.stable({"t": [0, 1, 2]}) == ["unstable_offset_commit", "unstable_offset_commit", "none"]
    assert desk.stable(None) == ["unstable_offset_commit"]
    desk.end(7, commit=commit)
    if reload_at == 2:
        desk.reload()
    expected = {("t", 0): (9, 4, ""), ("t", 1): (3, 4, "")} if commit else {("t", 0): (5, 4, ""), ("t", 1): NONE}
    assert desk.fetch({"t": [0, 1]}) == expected
    assert desk.stable({"t": [0, 1]}) == ["none", "none"]


def test_of_several_offsets_the_one_that_was_logged_last_counts() -> None:
    """Not the one whose transaction ended last; a plain one outdoes what is pending."""
    desk = Transacting()
    desk.commit_as(1, {"t": {0: 10, 1: 10}})
    desk.commit_as(2, {"t": {0: 20}})
    desk.commit({"t": {1: 30}})
    desk.end(2, commit=True)
    desk.end(1, commit=True)
    assert desk.fetch({"t": [0, 1]}) == {("t", 0): (20, 4, ""), ("t", 1): (30, 4, "")}
    again = desk.fetch({"t": [0, 1]})
    desk.reload()
    assert desk.fetch({"t": [0, 1]}) == again


def test_what_is_pending_keeps_its_group_and_goes_with_it() -> None:
    """A group is not forgotten while a transaction may commit for it; deleted, nothing of that comes back."""
    desk = Transacting(offsets_retention_minutes=1, offsets_retention_check_interval_ms=60_000)
    desk.commit_as(7, {"t": {0: 9}})
    desk.pass_time(300)
    assert [group["group_id"] for group in desk.shard.groups()] == ["g"]
    desk._take(desk.shard.delete_group("g", 1))
    desk.end(7, commit=True)
    assert desk.fetch({"t": [0]}) == {("t", 0): NONE}


def test_a_transaction_commits_for_a_member_or_for_nobody_in_particular() -> None:
    """Producers of old say nothing of a member; those that do are held to it."""
    desk = Transacting()
    assert desk.commit_as(7, {"t": {0: 1}}, generation_id=3, member_id="m") == [("t", 0, "illegal_generation")]
    assert desk.commit_as(7, {"t": {0: 1, 9: 1}}) == [("t", 0, "none"), ("t", 9, "unknown_topic_or_partition")]
    member_id = desk.join("t")
    assert desk.commit_as(7, {"t": {0: 2}}) == [("t", 0, "none")]
    assert desk.commit_as(7, {"t": {0: 2}}, generation_id=1, member_id=member_id) == [("t", 0, "none")]
    assert desk.commit_as(7, {"t": {0: 2}}, generation_id=0, member_id=member_id) == [("t", 0, "illegal_generation")]
    assert desk.commit_as(7, {"t": {0: 2}}, generation_id=1, member_id="nobody") == [("t", 0, "unknown_member_id")]
