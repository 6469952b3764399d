"""What is wrong with a coordinator's memory is told, and nothing else."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from quorumlog.coordinators.codec import encode_record
from quorumlog.coordinators.consumer_group import ConsumerGroup
from quorumlog.coordinators.consumer_records import (
    ConsumerGroupMetadata,
    CurrentAssignment,
    GroupMember,
    Position,
    Subscription,
    TargetEpoch,
)
from quorumlog.coordinators.records import CommittedOffset, GroupMetadata, GroupState, MemberMetadata, OffsetCommit
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image
from quorumlog.node.group_coordinator_log import batches_of
from quorumlog.node.group_coordinator_shard import LedShard

from .shards import check_group, check_replayed
from .sight import Violation

TOPIC = UUID(int=1)


def group_of(**positions: Position) -> ConsumerGroup:
    group = ConsumerGroup("g")
    group.replay(ConsumerGroupMetadata("g", 5))
    group.replay(TargetEpoch("g", 5))
    for name, position in positions.items():
        group.replay(GroupMember("g", name, Subscription()))
        group.replay(CurrentAssignment("g", name, position))
    return group


def having(*partitions: int, epoch: int = 5) -> Position:
    return Position(epoch, assigned={TOPIC: dict.fromkeys(partitions, epoch)})


def test_partitions_of_one_owner_each_are_well() -> None:
    check_group("g", group_of(a=having(0, 1), b=having(2, epoch=4)))


def test_two_owners_are_told() -> None:
    """Also one that has it and one that is giving it up."""
    giving_up = Position(4, revoking={TOPIC: {1: 4}})
    for other in (having(1, 2), giving_up):
        with pytest.raises(Violation, match="one-owner-at-a-time: g: a and b both have"):
            check_group("g", group_of(a=having(0, 1), b=other))


def test_a_member_ahead_of_its_group_is_told() -> None:
    with pytest.raises(Violation, match="epochs-follow: g: epoch 5, that of the targets 5, of a 6"):
        check_group("g", group_of(a=having(0, epoch=6)))


def test_targets_ahead_of_their_group_are_told() -> None:
    group = group_of(a=having(0))
    group.replay(TargetEpoch("g", 6))
    with pytest.raises(Violation, match="epochs-follow"):
        check_group("g", group)


# --- a shard and its log


@dataclass
class FakeLog:
    """A partition that holds these records, a batch each."""

    records: list[Any]
    log_start_offset: int = 0

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    def read(self, offset: int, **_: Any) -> Any:
        (batch,) = batches_of([encode_record(self.records[offset])], wall_ms=0, bytes_max=1 << 20)
        return SimpleNamespace(buffers=[batch], next_offset=offset + 1)


def new_shard() -> GroupShard:
    return GroupShard(Image(cluster_id="c"), config_of=lambda _: GroupConfig(), new_uuid=lambda: TOPIC)


def check(held: list[Any], logged: list[Any]) -> None:
    """A shard that holds what these records say, beside a log of those."""
    shard = new_shard()
    for record in held:
        encoded = encode_record(record)
        shard.replay(encoded.key, encoded.value)
    led = SimpleNamespace(partition=FakeLog(logged), _shard=shard, _make_shard=lambda _: new_shard())
    check_replayed("here", cast(LedShard, led))


def commit(offset: int, metadata: str = "") -> OffsetCommit:
    return OffsetCommit("g", "t", 0, CommittedOffset(offset, 0, metadata, 1, -1))


def classic(generation: int, instance_id: str | None = None) -> GroupMetadata:
    member = MemberMetadata("m", instance_id, "c", "h", 1, 1, b"", b"")
    return GroupMetadata("g", GroupState("consumer", generation, "range", "m", 0, (member,)))


RECORDS = [
    (commit(1), commit(2)),
    (classic(1), classic(2)),
    (classic(1, "i"), classic(1)),
    (ConsumerGroupMetadata("g", 5), ConsumerGroupMetadata("g", 6)),
]


@pytest.mark.parametrize(("one", "other"), RECORDS)
def test_a_shard_that_is_not_its_log_is_told(one: Any, other: Any) -> None:
    """It holds something else, more, or less."""
    check([one], [one])
    check([other, one], [other, one])
    for held, logged in (([one], [other]), ([one], []), ([], [one])):
        with pytest.raises(Violation, match=r"shards-are-their-logs: here: (offsets of|group) g is"):
            check(held, logged)


def test_offsets_are_the_same_however_they_are_kept() -> None:
    """Without metadata the second one of a topic is kept in short."""
    check([commit(1), commit(2)], [commit(1), commit(2)])
    check([commit(1, "x"), commit(2)], [commit(2)])
    with pytest.raises(Violation, match="shards-are-their-logs"):
        check([commit(1), commit(2)], [commit(1), commit(3)])
