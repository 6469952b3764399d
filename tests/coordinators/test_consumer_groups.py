"""Consumer groups over time: sessions and revocations that run out, topics that change, fail-over, what others ask of them."""

import pytest

from quorumlog.coordinators.codec import encode_record
from quorumlog.coordinators.consumer_records import CurrentAssignment, PartitionMetadata, Position
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.wire.errors import ClusterError, ErrorCode

from .consumer_stage import Stage, topic_id


def check(stage: Stage, expected: str) -> None:
    """All that was logged and answered since the last look, and that it is what is known."""
    stage.check_log()
    assert stage.read_trace().splitlines() == [line.strip() for line in expected.strip().splitlines()]


def two_members() -> Stage:
    """a has t[0 1], b has t[2 3], in epoch 3."""
    stage = Stage({"t": 4})
    stage.join("a", "t")
    stage.join("b", "t")
    stage.beat("a", 2, owned={"t": [0, 1]})
    stage.beat("b", 3)
    stage.read_trace()
    return stage


# --- what is logged


def test_a_partition_is_given_when_its_last_owner_has_given_it_up() -> None:
    stage = Stage({"t": 4})
    stage.join("a", "t")
    stage.join("b", "t")
    stage.beat("a", 2, owned={"t": range(4)})
    stage.beat("b", 3)
    stage.beat("a", 2, owned={"t": range(2)})
    stage.beat("b", 3)
    check(
        stage,
        """
        member a
        group 2
        target a t[0 1 2 3]
        targets 2
        a@2 stable t[0 1 2 3]
        => a@2 t[0 1 2 3]
        member b
        group 3
        target a t[0 1]
        target b t[2 3]
        targets 3
        b@3 unreleased
        => b@3 (nothing)
        a@2 unrevoked t[0 1] -t[2 3]
        => a@2 t[0 1]
        => b@3
        a@3 stable t[0 1]
        => a@3
        b@3 stable t[2 3]
        => b@3 t[2 3]
        """,
    )


def test_a_heartbeat_that_changes_nothing_logs_nothing() -> None:
    stage = two_members()
    stage.beat("a", 3)
    check(stage, "=> a@3")


def test_an_answer_tells_the_interval_of_heartbeats() -> None:
    stage = Stage({"t": 1}, GroupConfig(group_consumer_heartbeat_interval_ms=1_234))
    assert stage.join("a", "t")["heartbeat_interval_ms"] == 1_234


# --- time


def test_a_member_that_is_silent_for_its_session_is_out_and_the_next_heartbeat_gives_away_what_it_had() -> None:
    stage = two_members()
    stage.wait(44)
    stage.beat("b", 3)
    stage.read_trace()
    stage.wait(1)
    check(stage, "no position a\nno target a\nno member a\ngroup 4")
    assert stage.group().state_name == "Assigning"
    stage.beat("b", 3)
    check(stage, "target b t[0 1 2 3]\ntargets 4\nb@4 stable t[0 1 2 3]\n=> b@4 t[0 1 2 3]")
    assert stage.beat("a", 3)["error_code"] == ErrorCode.unknown_member_id


def test_who_does_not_give_up_in_time_is_out_though_it_sends_heartbeats() -> None:
    stage = Stage({"t": 2})
    stage.join("a", "t", rebalance_timeout_ms=10_000)
    stage.join("b", "t")
    stage.beat("a", 2, owned={"t": [0, 1]})
    stage.wait(9)
    stage.beat("a", 2, owned={"t": [0, 1]})
    stage.read_trace()
    stage.wait(1)
    check(stage, "no position a\nno target a\nno member a\ngroup 4")


def test_who_gave_up_in_time_stays() -> None:
    stage = Stage({"t": 2})
    stage.join("a", "t", rebalance_timeout_ms=10_000)
    stage.join("b", "t")
    stage.beat("a", 2, owned={"t": [0, 1]})
    stage.beat("a", 2, owned={"t": [0]})
    stage.wait(30)
    assert set(stage.group().members) == {"a", "b"}


def test_a_static_member_that_does_not_come_back_within_its_session_is_out() -> None:
    stage = Stage({"t": 2})
    stage.join("a", "t", instance_id="i")
    stage.beat("a", -2, instance_id="i")
    stage.wait(44)
    assert set(stage.group().members) == {"a"}
    stage.wait(1)
    assert stage.group().state_name == "Empty"


def test_after_a_fail_over_everybody_has_a_full_session_and_as_long_to_give_up() -> None:
    stage = Stage({"t": 2})
    stage.join("a", "t", rebalance_timeout_ms=10_000)
    stage.join("b", "t")
    stage.beat("a", 2, owned={"t": [0, 1]})
    stage.wait(9)
    stage.fail_over()
    stage.wait(9)
    assert set(stage.group().members) == {"a", "b"}
    stage.wait(1)
    assert set(stage.group().members) == {"b"}
    stage.wait(35)
    assert stage.group().is_empty


# --- topics


def test_new_partitions_are_given_at_the_next_heartbeat_of_anybody() -> None:
    stage = two_members()
    stage.change_topics({"t": 6})
    check(stage, "")
    stage.beat("b", 3)
    check(stage, "group 4\ntarget a t[0 1 4]\ntarget b t[2 3 5]\ntargets 4\nb@4 stable t[2 3 5]\n=> b@4 t[2 3 5]")


def test_a_topic_that_nobody_reads_does_not_disturb_the_group() -> None:
    stage = two_members()
    stage.change_topics({"t": 4, "other": 9})
    stage.beat("b", 3)
    check(stage, "=> b@3")


def test_a_topic_that_is_deleted_is_taken_away_and_its_successor_is_another_one() -> None:
    stage = two_members()
    stage.change_topics({})
    stage.beat("b", 3, owned={"t": [2, 3]})
    check(stage, "group 4\ntarget a\ntarget b\ntargets 4\nb@3 unrevoked -t[2 3]\n=> b@3 (nothing)")
    stage.change_topics({"t": 1})
    stage.beat("b", 3, owned={})
    check(stage, "group 5\ntarget a t[0]\ntargets 5\nb@5 stable\n=> b@5")


def test_a_topic_that_comes_later_is_read_by_those_who_named_it_or_whose_expression_matches_it() -> None:
    stage = Stage({"t": 1})
    stage.join("a", "later")
    stage.join("b", subscribed_topic_regex="la.*")
    stage.read_trace()
    stage.change_topics({"t": 1, "later": 2})
    stage.beat("a", 2)
    check(
        stage,
        """
        regex la.* ['later']
        group 4
        target a later[0]
        target b later[1]
        targets 4
        a@4 stable later[0]
        => a@4 later[0]
        """,
    )


def test_internal_topics_are_matched_like_others() -> None:
    """As Kafka's coordinator does: it is clients that leave them out."""
    stage = Stage({"__consumer_offsets": 1, "t": 1})
    stage.join("a", subscribed_topic_regex=".*")
    assert stage.group().subscribed_topics() == {"__consumer_offsets", "t"}


def test_an_expression_that_nobody_uses_any_more_is_forgotten() -> None:
    stage = Stage({"t": 1, "u": 1})
    stage.join("a", subscribed_topic_regex="t|u")
    stage.read_trace()
    stage.beat("a", 2, subscribed_topic_regex="", subscribed_topic_names=["t"], owned={"u": [0], "t": [0]})
    check(
        stage,
        """
        member a
        no regex t|u
        group 3
        target a t[0]
        targets 3
        a@2 unrevoked t[0] -u[0]
        => a@2 t[0]
        """,
    )


# --- records of other versions


def test_the_partition_metadata_of_kafka_4_0_is_deleted_with_the_next_epoch() -> None:
    stage = two_members()
    older = encode_record(PartitionMetadata("g", exists=True))
    stage.log.append(older)
    stage.fail_over()
    stage.join("c", "t")
    assert "no partition metadata" in stage.read_trace()
    stage.check_log()


def test_a_member_in_a_state_of_a_newer_version_must_give_up_everything() -> None:
    stage = two_members()
    stage.log.append(encode_record(CurrentAssignment("g", "a", Position(3, 3, 127, {topic_id("t"): {0: 3, 1: 3}}))))
    stage.fail_over()
    assert stage.beat("a", 3)["error_code"] == ErrorCode.fenced_member_epoch
    assert stage.join("a", "t")["member_epoch"] == 3


# --- what others ask


def test_offsets_are_committed_by_members_in_their_epoch() -> None:
    group = two_members().group()
    group.check_commit(member_id="a", instance_id=None, generation=3, version=9)
    refusals = {
        ("a", 2, 9): ErrorCode.stale_member_epoch,
        ("a", 4, 9): ErrorCode.stale_member_epoch,
        ("x", 3, 9): ErrorCode.unknown_member_id,
        ("", -1, 9): ErrorCode.unknown_member_id,
        ("a", 3, 8): ErrorCode.unsupported_version,
    }
    for (member_id, epoch, version), code in refusals.items():
        with pytest.raises(ClusterError) as refused:
            group.check_commit(member_id=member_id, instance_id=None, generation=epoch, version=version)
        assert refused.value.code is code, (member_id, epoch, version)


def test_a_tool_commits_offsets_of_a_group_without_members() -> None:
    stage = Stage({"t": 1})
    stage.join("a", "t")
    stage.beat("a", -1)
    stage.group().check_commit(member_id="", instance_id=None, generation=-1, version=9)


def test_offsets_are_read_by_tools_and_by_members_in_their_epoch() -> None:
    group = two_members().group()
    group.check_fetch(member_id=None, member_epoch=-1)
    group.check_fetch(member_id="a", member_epoch=3)
    for member_id, epoch, code in (("a", 2, ErrorCode.stale_member_epoch), ("x", 3, ErrorCode.unknown_member_id)):
        with pytest.raises(ClusterError) as refused:
            group.check_fetch(member_id=member_id, member_epoch=epoch)
        assert refused.value.code is code


def test_a_group_is_described_with_what_its_members_have_and_shall_have() -> None:
    stage = two_members()
    stage.join("c", "t", server_assignor="range", instance_id="i", rack_id="r", subscribed_topic_regex="u")
    described = stage.describe()
    assert {name: described[name] for name in ("group_state", "group_epoch", "assignment_epoch", "assignor_name")} == {
        "group_state": "Reconciling",
        "group_epoch": 4,
        "assignment_epoch": 4,
        "assignor_name": "range",
    }
    first, _, third = described["members"]
    assert first["assignment"]["topic_partitions"] == [{"topic_id": topic_id("t"), "topic_name": "t", "partitions": [0, 1]}]
    assert (third["instance_id"], third["rack_id"], third["subscribed_topic_regex"]) == ("i", "r", "u")
    assert (third["member_type"], third["client_id"], third["client_host"]) == (1, "client", "/10.0.0.1")


def test_what_a_member_is_to_give_up_it_has_still_when_it_is_described() -> None:
    stage = two_members()
    stage.join("c", "t")
    stage.beat("b", 3, owned={"t": [2, 3]})
    member = stage.describe()["members"][1]
    assert member["assignment"]["topic_partitions"][0]["partitions"] == [2, 3]
    assert len(member["target_assignment"]["topic_partitions"][0]["partitions"]) == 1


def test_a_group_that_there_is_not_is_told_in_the_description() -> None:
    assert Stage().describe("none")["error_code"] == ErrorCode.group_id_not_found


def test_an_empty_group_is_taken_out_of_the_log_by_its_tombstones() -> None:
    stage = Stage({"t": 1})
    stage.join("a", subscribed_topic_regex="t")
    stage.beat("a", -1)
    group = stage.group()
    stage.log += [encode_record(record) for record in group.tombstones()]
    assert not stage.replayed(stage.log)._context.groups
    live = {record.key: record.value for record in stage.log}
    assert not any(live.values())
