"""Tests of classic groups request by request: what others ask a group, limits, and what must not be kept."""

from uuid import UUID

import pytest

from quorumlog.coordinators import classic_join
from quorumlog.coordinators.classic_group import ClassicGroup
from quorumlog.coordinators.classic_timers import join_key
from quorumlog.coordinators.codec import decode_record
from quorumlog.coordinators.records import GroupMetadata, GroupState
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

from .classic_bench import HEARTBEAT, JOIN, LEAVE, SYNC, WALL_AHEAD_MS, Bench
from .classic_script import subscription


def join(bench: Bench, name: str = "a", *, version: int = 3, **fields: object) -> int:
    defaults: dict[str, object] = {
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 60_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": subscription(["t"])}],
    }
    return bench.ask(JOIN, version, name, **{**defaults, **fields})


def sync(bench: Bench, member_id: str, assignments: dict[str, bytes], generation: int = 1) -> int:
    assigned = [{"member_id": key, "assignment": value} for key, value in assignments.items()]
    return bench.ask(SYNC, 3, member_id=member_id, generation_id=generation, assignments=assigned)


def answered(bench: Bench, waiter: int) -> Struct:
    answer = bench.answer(waiter)
    assert answer is not None, f"{waiter} still waits"
    return answer


def stable(**fields: object) -> tuple[Bench, str]:
    """A group with one member, in generation 1."""
    bench = Bench()
    waiter = join(bench, **fields)
    bench.passes(3)
    member_id: str = answered(bench, waiter).member_id
    sync(bench, member_id, {member_id: b"p0"})
    return bench, member_id


def last_state(bench: Bench) -> GroupState:
    record = decode_record(bench.log[-1].key, bench.log[-1].value)
    assert isinstance(record, GroupMetadata)
    assert record.state is not None
    return record.state


def refusal(group: ClassicGroup, member_id: str = "", instance_id: str | None = None, generation: int = -1) -> ErrorCode:
    """With which a commit is refused, or none."""
    try:
        group.check_commit(member_id=member_id, instance_id=instance_id, generation=generation, version=8)
    except ClusterError as error:
        return error.code
    return ErrorCode.none


def test_commits_are_taken_from_members_and_from_anyone_while_empty() -> None:
    """In the order in which Kafka checks."""
    bench, member_id = stable(group_instance_id="i1", version=5)
    group = bench.group()
    assert refusal(group, member_id, "i1", 1) is ErrorCode.none
    assert refusal(group) is ErrorCode.unknown_member_id
    assert refusal(group, "stranger", None, 1) is ErrorCode.unknown_member_id
    assert refusal(group, "stranger", "i1", 1) is ErrorCode.fenced_instance_id
    assert refusal(group, member_id, "i2", 1) is ErrorCode.unknown_member_id
    assert refusal(group, member_id, "i1", 0) is ErrorCode.illegal_generation
    assert refusal(group, member_id, None, -1) is ErrorCode.illegal_generation
    assert refusal(ClassicGroup("simple")) is ErrorCode.none
    assert refusal(ClassicGroup("simple"), "stranger", None, 4) is ErrorCode.unknown_member_id


def test_commits_wait_while_the_leader_assigns() -> None:
    """They are taken while members rejoin, so that what was consumed before a rebalance is not consumed again."""
    bench, member_id = stable()
    assert answered(bench, join(bench, member_id=member_id)).generation_id == 2
    assert refusal(bench.group(), member_id, None, 2) is ErrorCode.rebalance_in_progress
    sync(bench, member_id, {}, generation=2)
    join(bench, "b")
    assert bench.group().state_name == "PreparingRebalance"
    assert refusal(bench.group(), member_id, None, 2) is ErrorCode.none


def test_a_group_knows_what_its_members_read() -> None:
    """As of the last generation; nothing is known of other protocol types, or of bytes that are no subscription."""
    assert stable()[0].group().subscribed_topics() == {"t"}
    for metadata in (b"\x00\x00\x7f", b"\xff\xff" + subscription(["t"])[2:]):
        assert stable(protocols=[{"name": "range", "metadata": metadata}])[0].group().subscribed_topics() is None
    assert stable(protocol_type="connect")[0].group().subscribed_topics() is None
    bench, member_id = stable()
    bench.ask(LEAVE, 0, member_id=member_id)
    assert bench.group().subscribed_topics() == frozenset()
    bench.reload()
    assert bench.group().subscribed_topics() == frozenset()


def test_an_empty_group_knows_since_when() -> None:
    """Retention of its offsets begins there, also after the shard has moved."""
    bench, member_id = stable()
    assert bench.group().empty_since_ms() is None
    bench.passes(2)
    bench.ask(LEAVE, 0, member_id=member_id)
    for _ in range(2):
        assert bench.group().empty_since_ms() == WALL_AHEAD_MS + 5_000
        assert bench.group().has_protocol
        bench.reload()
    assert ClassicGroup("simple").empty_since_ms() is None
    assert not ClassicGroup("simple").has_protocol


def test_a_group_of_offsets_alone_becomes_one_of_members() -> None:
    """It exists, hence its first member makes no record; an id that it never gave out is still unknown."""
    bench = Bench()
    bench.context.groups["g"] = ClassicGroup("g")
    assert answered(bench, join(bench, member_id="a-1")).error_code == ErrorCode.unknown_member_id
    waiter = join(bench)
    bench.passes(3)
    member_id = answered(bench, waiter).member_id
    assert bench.log == []
    sync(bench, member_id, {member_id: b"p0"})
    assert (last_state(bench).generation, last_state(bench).protocol_type) == (1, "consumer")


def test_a_refused_first_member_leaves_no_group() -> None:
    """Neither in memory nor in the log."""
    bench = Bench()
    assert answered(bench, join(bench, protocols=[])).error_code == ErrorCode.inconsistent_group_protocol
    assert answered(bench, join(bench, protocol_type="")).error_code == ErrorCode.inconsistent_group_protocol
    assert (bench.log, bench.context.groups) == ([], {})


def test_a_deleted_group_leaves_no_timers() -> None:
    """An id was given out, so there is a deadline without a member."""
    bench, member_id = stable()
    bench.ask(LEAVE, 0, member_id=member_id)
    assert answered(bench, join(bench, version=9)).error_code == ErrorCode.member_id_required
    assert len(bench.context.timers) == 1
    for record in bench.group().tombstones():
        bench.groups.replay(record)
    assert (len(bench.context.timers), bench.context.groups) == (0, {})
    assert bench.groups.describe("g") == {"group_id": "g", "group_state": "Dead"}


def test_an_assignment_that_the_log_cannot_take_is_refused() -> None:
    """Who waits is told, and the group tries anew; with less it goes on."""
    bench, member_id = stable()
    bench.context.record_bytes_max = 2_000
    bench.ask(LEAVE, 0, member_id=member_id)
    first, second = join(bench), join(bench, "b")
    bench.passes(6)
    leader, follower = answered(bench, first).member_id, answered(bench, second).member_id
    waits = sync(bench, follower, {}, generation=3)
    logged = len(bench.log)
    assert answered(bench, sync(bench, leader, {leader: bytes(3_000)}, generation=3)).error_code == ErrorCode.unknown_server_error
    assert answered(bench, waits).error_code == ErrorCode.unknown_server_error
    assert len(bench.log) == logged
    join(bench, member_id=leader)
    again = join(bench, member_id=follower)
    assert answered(bench, again).generation_id == 4
    assert answered(bench, sync(bench, leader, {leader: b"p0"}, generation=4)).error_code == ErrorCode.none


def test_a_returning_static_member_that_the_log_cannot_take_rejoins_with_all() -> None:
    """Its metadata has grown too large for the record of the group."""
    bench, _ = stable(group_instance_id="i1", version=5)
    bench.context.record_bytes_max = 2_000
    large = [{"name": "range", "metadata": bytes(3_000)}]
    waiter = join(bench, group_instance_id="i1", version=5, protocols=large)
    assert answered(bench, waiter).generation_id == 2
    assert last_state(bench).generation == 1


def test_static_members_without_patience_do_not_stop_the_clock() -> None:
    """With a rebalance timeout of 0 and nobody there, the group waits a second at a time until the session ends."""
    bench, _ = stable(group_instance_id="i1", version=5)
    join(bench, group_instance_id="i1", version=5, rebalance_timeout_ms=0)
    bench.configure(group_max_size=0)
    bench.reload()
    assert bench.group().state_name == "PreparingRebalance"
    bench.passes(0.5)
    assert bench.context.timers.deadline(join_key("g")) == bench.now + 0.5
    bench.passes(20)
    assert (bench.group().state_name, last_state(bench).generation) == ("Empty", 2)


def test_ids_of_members_are_not_given_out_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes one id after the other and uses none is refused, until the first have expired; others go on."""
    monkeypatch.setattr(classic_join, "DEADLINES_MAX", 5)
    bench = Bench()
    told = [answered(bench, join(bench, version=9)).error_code for _ in range(7)]
    assert told == [ErrorCode.member_id_required] * 5 + [ErrorCode.group_max_size_reached] * 2
    bench.passes(11)
    assert answered(bench, join(bench, version=9)).error_code == ErrorCode.member_id_required


def test_a_huge_client_id_makes_a_member_id_that_can_be_told() -> None:
    """A text on the wire has at most 32767 bytes, and the id is made of the client's."""
    bench = Bench()
    told = answered(bench, join(bench, "x" * 32_767, version=4))
    assert told.error_code == ErrorCode.member_id_required
    assert told.member_id == "x" * 1_000 + f"-{UUID(int=1)}"


@pytest.mark.parametrize(("version", "rebalance_ms"), [(0, 10_000), (1, 60_000)])
def test_before_version_1_the_session_timeout_is_both(version: int, rebalance_ms: int) -> None:
    """And so it is saved."""
    bench, _ = stable(version=version)
    assert last_state(bench).members[0].rebalance_timeout_ms == rebalance_ms


def test_a_sync_of_version_5_names_its_protocol() -> None:
    """KIP-559: without type or name it is refused, before anything else is looked at."""
    bench, member_id = stable()
    for fields in ({"protocol_type": "consumer"}, {"protocol_name": "range"}, {}):
        waiter = bench.ask(SYNC, 5, member_id=member_id, generation_id=9, **fields)
        assert answered(bench, waiter).error_code == ErrorCode.inconsistent_group_protocol


@pytest.mark.parametrize("api_key", [HEARTBEAT, SYNC, LEAVE, JOIN])
def test_a_group_has_a_name(api_key: int) -> None:
    """INVALID_GROUP_ID, whatever is asked."""
    bench = Bench()
    assert answered(bench, bench.ask(api_key, 2, group_id="")).error_code == ErrorCode.invalid_group_id
