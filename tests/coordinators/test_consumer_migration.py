"""Groups that change their protocol while they work. What is answered was held against Apache Kafka 4.3.1."""

import pytest

from quorumlog.coordinators.classic_group import ClassicGroup
from quorumlog.coordinators.consumer_protocol import read_assignment, read_subscription, write_assignment
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.errors import ErrorCode

from .consumer_stage import Stage, subscription_bytes, topic_id


def check(stage: Stage, expected: str) -> None:
    stage.check_log()
    assert stage.read_trace().splitlines() == [line.strip() for line in expected.strip().splitlines()]


def classic_stage(config: GroupConfig | None = None, topics: tuple[str, ...] = ("t",)) -> Stage:
    """One classic member, static c of instance c1, has t[0 1] in generation 1."""
    stage = Stage({"t": 2}, config)
    stage.classic_join("", *topics, group_instance_id="c1")
    stage.wait(3)
    member = next(iter(classic_group(stage).members))
    assignment = write_assignment({"t": (0, 1)}, 3)
    stage.classic_sync(member, 1, group_instance_id="c1", assignments=[{"member_id": member, "assignment": assignment}])
    stage.name = member
    stage.read_trace()
    return stage


def classic_group(stage: Stage) -> ClassicGroup:
    group = stage.shard._context.groups["g"]
    assert isinstance(group, ClassicGroup)
    return group


def mixed_stage(policy: str = "bidirectional") -> Stage:
    """k speaks KIP-848, c (static) and d the classic protocol; d gave nothing up yet."""
    stage = Stage({"t": 2}, GroupConfig(group_consumer_migration_policy=policy))
    stage.join("k", "t")
    stage.classic_join("d", "t")
    stage.read_trace()
    return stage


# --- upgrade


def test_a_classic_group_is_upgraded_when_a_member_of_the_new_protocol_joins_and_nobody_stops_before_it_must() -> None:
    stage = classic_stage()
    c = stage.name
    stage.join("k", "t")
    stage.classic_beat(c, 1, group_instance_id="c1")
    stage.classic_join(c, "t", owned={"t": [0, 1]}, group_instance_id="c1")
    stage.classic_sync(c, 1, group_instance_id="c1")
    stage.classic_beat(c, 1, group_instance_id="c1")
    stage.classic_join(c, "t", owned={"t": [0]}, group_instance_id="c1")
    stage.classic_sync(c, 2, group_instance_id="c1")
    stage.classic_beat(c, 2, group_instance_id="c1")
    stage.beat("k", 2)
    check(
        stage,
        f"""
        no classic group
        member {c}
        target {c} t[0 1]
        targets 1
        {c}@1 stable t[0 1]
        group 1
        member k
        group 2
        target {c} t[0]
        target k t[1]
        targets 2
        k@2 unreleased
        => k@2 (nothing)
        => REBALANCE_IN_PROGRESS
        member {c}
        {c}@1 unrevoked t[0] -t[1]
        => {c}@1 range
        => assigned t[0]
        => REBALANCE_IN_PROGRESS
        member {c}
        {c}@2 stable t[0]
        => {c}@2 range
        => assigned t[0]
        => ok
        k@2 stable t[1]
        => k@2 t[1]
        """,
    )


def test_who_waits_for_a_rebalance_of_the_classic_group_is_told_to_join_again() -> None:
    stage = Stage({"t": 2})
    assert stage.classic_join("", "t", group_instance_id="c1") is None
    stage.read_trace()
    answer = stage.join("k", "t")
    assert answer["error_code"] == ErrorCode.none
    assert "1 => REBALANCE_IN_PROGRESS" in stage.read_trace()
    stage.check_log()


def test_an_empty_classic_group_becomes_a_consumer_group_and_back() -> None:
    stage = classic_stage()
    stage.classic_leave({"member_id": stage.name, "group_instance_id": "c1"})
    stage.join("k", "t")
    assert stage.group().epoch == 2
    stage.beat("k", -1)
    stage.read_trace()
    assert stage.classic_join("", "t", group_instance_id="c1") is None
    assert stage.read_trace().splitlines() == ["no targets", "no group", "classic group 0"]
    stage.check_log()


@pytest.mark.parametrize(
    ("config", "topics"),
    [
        (GroupConfig(group_consumer_migration_policy="disabled"), ("t",)),
        (GroupConfig(group_consumer_migration_policy="downgrade"), ("t",)),
        (GroupConfig(group_consumer_max_size=0), ("t",)),
    ],
)
def test_an_upgrade_that_is_not_allowed_leaves_the_group_as_it_is(config: GroupConfig, topics: tuple[str, ...]) -> None:
    stage = classic_stage(config, topics)
    assert stage.join("k", "t")["error_code"] == ErrorCode.group_id_not_found
    check(stage, "=> GROUP_ID_NOT_FOUND")
    assert stage.classic_beat(stage.name, 1, group_instance_id="c1")["error_code"] == ErrorCode.none


@pytest.mark.parametrize("assignment", [b"\0\1nonsense", write_assignment({"t": (0,)}, 0)[:-4] + b"\0\0\0\4data"])
def test_members_whose_assignor_is_a_stranger_are_not_upgraded(assignment: bytes) -> None:
    stage = classic_stage()
    for member in classic_group(stage).members.values():
        member.assignment = assignment
    assert stage.join("k", "t")["error_code"] == ErrorCode.group_id_not_found


def test_a_group_of_another_kind_is_not_upgraded() -> None:
    stage = Stage({"t": 2})
    stage.classic_join("", "t", protocol_type="connect", group_instance_id="c1")
    assert stage.join("k", "t")["error_code"] == ErrorCode.group_id_not_found


def test_a_member_is_upgraded_under_its_own_name() -> None:
    stage = mixed_stage()
    assert stage.join("d", "t")["member_epoch"] == 3
    assert [member["member_type"] for member in stage.describe()["members"]] == [1, 1]
    assert stage.classic_beat("d", 3)["error_code"] == ErrorCode.unknown_member_id


# --- classic members among others


def test_a_classic_member_is_asked_for_an_id_first_and_for_a_protocol_that_all_have() -> None:
    stage = mixed_stage()
    assert stage.classic_join("", "t")["error_code"] == ErrorCode.member_id_required
    for wrong in ({"protocol_type": "connect"}, {"protocols": [{"name": "mine", "metadata": subscription_bytes("t", {})}]}):
        assert stage.classic_join("e", "t", **wrong)["error_code"] == ErrorCode.inconsistent_group_protocol
    malformed = {"protocols": [{"name": "range", "metadata": b"\0"}]}
    assert stage.classic_join("e", "t", **malformed)["error_code"] == ErrorCode.inconsistent_group_protocol
    assert stage.classic_join("e", "t", session_timeout_ms=1)["error_code"] == ErrorCode.invalid_session_timeout
    assert set(stage.group().members) == {"k", "d"}


def test_a_classic_member_of_another_generation_or_protocol_is_refused() -> None:
    stage = mixed_stage()
    assert stage.classic_beat("d", 9)["error_code"] == ErrorCode.illegal_generation
    assert stage.classic_sync("d", 9)["error_code"] == ErrorCode.illegal_generation
    assert stage.classic_sync("d", 3, protocol_name="other")["error_code"] == ErrorCode.inconsistent_group_protocol
    assert stage.classic_sync("k", 2)["error_code"] == ErrorCode.unknown_member_id
    assert stage.classic_beat("x", 3)["error_code"] == ErrorCode.unknown_member_id


def keep_alive(stage: Stage) -> None:
    """A minute of heartbeats: k does what it is told, and so does m; d only says that it is there."""
    for _ in range(7):
        stage.wait(8.5)
        for name in ("k", "m"):
            if (member := stage.group().members.get(name)) is not None:
                owned = {"t": list(member.position.assigned.get(topic_id("t"), {}))}
                stage.beat(name, member.position.epoch, owned=owned)
        if "d" in stage.group().members:
            stage.classic_beat("d", 3)
    stage.wait(1)


def test_a_classic_member_that_does_not_fetch_its_assignment_is_out() -> None:
    """In spite of its heartbeats: within its rebalance timeout, 60 s."""
    stage = mixed_stage(policy="disabled")
    keep_alive(stage)
    assert set(stage.group().members) == {"k"}
    stage.check_log()


def test_a_classic_member_that_does_not_join_when_it_is_asked_to_is_out() -> None:
    stage = mixed_stage(policy="disabled")
    stage.classic_sync("d", 3)
    stage.join("m", "t")
    keep_alive(stage)
    assert set(stage.group().members) == {"k", "d", "m"}  # it was asked with its first heartbeat, after 8.5 s
    stage.wait(9)
    assert set(stage.group().members) == {"k", "m"}


def test_an_operator_removes_a_static_member_by_its_instance() -> None:
    stage = mixed_stage()
    stage.classic_join("", "t", group_instance_id="c1")
    stage.read_trace()
    stage.classic_leave(
        {"member_id": "", "group_instance_id": "c1"}, {"member_id": "x"}, {"member_id": "", "group_instance_id": "q"}
    )
    assert stage.read_trace().splitlines()[-1] == "=> none unknown_member_id unknown_member_id"
    assert set(stage.group().members) == {"k", "d"}


def test_when_a_classic_member_leaves_the_heartbeat_of_another_one_gives_away_what_it_had() -> None:
    """A group that may not go back to the classic protocol, and has classic members only."""
    stage = mixed_stage(policy="upgrade")
    stage.beat("k", -1)
    stage.classic_sync("d", 3)
    assert stage.classic_beat("d", 3)["error_code"] == ErrorCode.rebalance_in_progress
    stage.classic_join("d", "t")
    stage.read_trace()
    stage.classic_sync("d", 4)
    check(stage, "=> assigned t[0 1]")


def test_metadata_of_a_protocol_that_does_not_count_may_be_anything() -> None:
    """In a classic group nobody looks at it; the group is upgraded, served and downgraded all the same."""
    stage = Stage({"t": 2})
    protocols = [{"name": "mine", "metadata": b""}, {"name": "range", "metadata": subscription_bytes(["t"], {})}]
    stage.classic_join("", protocols=protocols, group_instance_id="c1")
    stage.wait(3)
    (group,) = stage.shard._context.groups.values()
    assert isinstance(group, ClassicGroup)
    (c,) = group.members
    group.protocol = "range"
    assert stage.join("k", "t")["error_code"] == ErrorCode.none
    fields = {"group_instance_id": "c1", "protocol_name": "mine"}
    answer = stage.classic_sync(c, 1, **fields)
    assert answer is not None
    assert answer["error_code"] == ErrorCode.rebalance_in_progress
    stage.beat("k", -1)
    assert isinstance(stage.shard._context.groups["g"], ClassicGroup)


# --- downgrade


def test_when_the_last_member_of_the_new_protocol_leaves_the_group_is_a_classic_one_again() -> None:
    stage = mixed_stage()
    stage.beat("k", -1)
    check(
        stage,
        """
        no position d
        no position k
        no target d
        no target k
        no targets
        no member d
        no member k
        no group
        classic group 3, d t[1]
        => k@-1
        """,
    )
    assert stage.classic_beat("d", 3)["error_code"] == ErrorCode.rebalance_in_progress
    assert [name for name, _ in classic_group(stage).members["d"].protocols] == ["range", "roundrobin"]
    stage.wait(31)
    assert classic_group(stage).is_empty


def test_the_same_when_its_session_is_over() -> None:
    stage = mixed_stage()
    stage.classic_sync("d", 3)
    for _ in range(5):
        stage.wait(10)
        stage.classic_beat("d", 3)
    assert isinstance(stage.shard._context.groups["g"], ClassicGroup)
    stage.check_log()


@pytest.mark.parametrize("policy", ["disabled", "upgrade"])
def test_a_downgrade_that_is_not_allowed_leaves_the_group_as_it_is(policy: str) -> None:
    stage = mixed_stage(policy)
    stage.beat("k", -1)
    assert set(stage.group().members) == {"d"}


def test_the_last_static_member_that_comes_back_as_a_classic_one_disturbs_nobody() -> None:
    stage = Stage({"t": 2})
    stage.join("k", "t", instance_id="k1")
    stage.read_trace()
    answer = stage.classic_join("", "t", group_instance_id="k1")
    assert answer is not None
    member = answer["member_id"]
    assert answer["generation_id"] == 2
    stage.classic_sync(member, 2, group_instance_id="k1")
    stage.classic_beat(member, 2, group_instance_id="k1")
    assert stage.read_trace().splitlines()[-2:] == ["=> assigned t[0 1]", "=> ok"]
    stage.check_log()


# --- what members of the classic protocol say


def test_subscriptions_of_all_versions_are_read() -> None:
    newest = subscription_bytes(["t"], {"t": [0, 2]})
    assert read_subscription(newest).owned == {"t": (0, 2)}
    assert read_subscription(b"\0\0" + newest[2:]).owned == {}
    assert read_subscription(b"\0\1" + newest[2:]).topics == ("t",)
    assert read_subscription(b"\0\7" + newest[2:] + b"more").version == 7
    assert read_subscription(newest[:-2] + b"\0\1r").rack_id == "r"


def test_assignments_are_read_as_they_were_written() -> None:
    for version in (0, 1, 3, 9):
        written = write_assignment({"t": (0, 1), "u": ()}, version)
        assert written[:2] == min(version, 3).to_bytes(2, "big")
        assert read_assignment(written).partitions == {"t": (0, 1), "u": ()}
    assert read_assignment(b"").partitions == {}


@pytest.mark.parametrize("bad", [b"\0", b"\xff\xff\0\0\0\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\1\0\1"])
def test_what_is_no_subscription_is_told_so(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        read_subscription(bad)
