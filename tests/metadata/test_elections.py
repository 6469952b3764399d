"""Given these replicas, an operator asks for elections: expect exactly these records."""

from quorumlog.metadata.image import NO_LEADER, Image
from quorumlog.metadata.records import PartitionChange
from quorumlog.metadata.requests import ElectLeaders, ElectLeadersReply, TopicPartitions
from quorumlog.wire.errors import ErrorCode

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state


def held() -> Image:
    """Partition 0 as preferred, 1 led by another, 2 with its preferred replica out of sync, 3 offline, 4 with no live replica."""
    partitions = [
        state((1, 2)),
        state((1, 2), leader=2, partition=1),
        state((1, 2), (2,), leader=2, partition=2),
        state((2, 3), (3,), leader=NO_LEADER, partition=3),
        state((3,), (3,), leader=NO_LEADER, partition=4),
    ]
    return image_of([1, 2, broker_record(3, 3, fenced=True)], partitions, min_isr=1)


def codes(reply: object) -> dict[int, ErrorCode]:
    assert isinstance(reply, ElectLeadersReply)
    assert all((result.error_message is None) == (result.error_code is ErrorCode.none) for result in reply.partitions)
    return {result.partition: result.error_code for result in reply.partitions}


def test_preferred_replicas_lead_where_they_can(controller_of: ControllerOf) -> None:
    """Each named partition is answered; one that is led as preferred needs no election."""
    controller = controller_of(held())
    decision = controller.decide(ElectLeaders(True, (TopicPartitions("events", (0, 1, 2, 9)), TopicPartitions("no", (0,)))), 0.1)
    assert decision.records == (PartitionChange(TOPIC_ID, 1, 1, leader=1, leader_epoch=1),)
    assert isinstance(decision.reply, ElectLeadersReply)
    assert [result.error_code for result in decision.reply.partitions] == [
        ErrorCode.election_not_needed,
        ErrorCode.none,
        ErrorCode.preferred_leader_not_available,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.unknown_topic_or_partition,
    ]


def test_all_partitions_leave_out_what_needs_nothing(controller_of: ControllerOf) -> None:
    """Asking for all is answered for those where something was done or was wrong."""
    unavailable = ErrorCode.preferred_leader_not_available
    expected = {1: ErrorCode.none, 2: unavailable, 3: unavailable, 4: unavailable}
    assert codes(controller_of(held()).decide(ElectLeaders(True), 0.1).reply) == expected


def test_unclean_election_is_for_the_leaderless(controller_of: ControllerOf) -> None:
    """Any live replica leads, alone in sync; where none lives nothing can be done."""
    decision = controller_of(held()).decide(ElectLeaders(False), 0.1)
    assert decision.records == (PartitionChange(TOPIC_ID, 3, 1, isr=(2,), leader=2, leader_epoch=1),)
    assert codes(decision.reply) == {3: ErrorCode.none, 4: ErrorCode.eligible_leaders_not_available}
