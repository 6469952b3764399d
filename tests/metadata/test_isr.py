"""Given this partition, a leader proposes another in-sync set or a replica reports damage: expect exactly this."""

from dataclasses import replace
from typing import Any

import pytest

from quorumlog.metadata.image import NO_LEADER
from quorumlog.metadata.records import PartitionChange
from quorumlog.metadata.requests import AlterIsr, AlterIsrReply, IsrProposal, IsrResult, ReportDamage, ReportDamageReply
from quorumlog.wire.errors import ClusterError, ErrorCode

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state, uuid

SHRUNK = state((1, 2, 3), (1, 2), leader_epoch=5, partition_epoch=9)


def proposal(new_isr: tuple[int, ...], **fields: Any) -> IsrProposal:
    return replace(IsrProposal(TOPIC_ID, 0, leader_epoch=5, partition_epoch=9, new_isr=new_isr), **fields)


def test_a_follower_is_taken_in(controller_of: ControllerOf) -> None:
    """The reply carries the resulting state, so that the leader needs not wait for its image."""
    controller = controller_of(image_of(partitions=[SHRUNK], min_isr=2))
    decision = controller.decide(AlterIsr(1, 1, (proposal((3, 1, 2), broker_epochs=(3, 1, 2)),)), 0.1)
    assert decision.records == (PartitionChange(TOPIC_ID, 0, 10, isr=(1, 2, 3)),)
    grown = replace(SHRUNK, isr=(1, 2, 3), partition_epoch=10)
    assert decision.reply == AlterIsrReply((IsrResult(TOPIC_ID, 0, ErrorCode.none, None, grown),))


def test_shrinking_under_min_isr_keeps_the_leaver_eligible(controller_of: ControllerOf) -> None:
    """Nothing is committed while the ISR is too small; growing to the least size ends the ELR."""
    controller = controller_of(image_of(partitions=[SHRUNK], min_isr=2))
    shrink = controller.decide(AlterIsr(1, 1, (proposal((1,)),)), 0.1)
    assert shrink.records == (PartitionChange(TOPIC_ID, 0, 10, isr=(1,), elr=(2,)),)
    grow = controller.decide(AlterIsr(1, 1, (proposal((1, 3), partition_epoch=10),)), 0.2)
    assert grow.records == (PartitionChange(TOPIC_ID, 0, 11, isr=(1, 3), elr=()),)


def test_the_set_that_is_held_already_changes_nothing(controller_of: ControllerOf) -> None:
    """A retry after a lost reply with the newest epoch is answered with the state, without a record."""
    controller = controller_of(image_of(partitions=[SHRUNK], min_isr=2))
    decision = controller.decide(AlterIsr(1, 1, (proposal((1, 2)),)), 0.1)
    assert decision.records == ()
    assert decision.reply == AlterIsrReply((IsrResult(TOPIC_ID, 0, ErrorCode.none, None, SHRUNK),))


@pytest.mark.parametrize(
    ("asked", "node_id", "code"),
    [
        (proposal((1,), topic_id=uuid(9)), 1, ErrorCode.unknown_topic_id),
        (proposal((1,), partition=7), 1, ErrorCode.unknown_topic_or_partition),
        (proposal((1,), leader_epoch=4), 1, ErrorCode.fenced_leader_epoch),
        (proposal((1,), leader_epoch=6), 1, ErrorCode.unknown_leader_epoch),
        (proposal((1, 2)), 2, ErrorCode.not_leader_or_follower),
        (proposal((1,), partition_epoch=8), 1, ErrorCode.invalid_update_version),
        (proposal(()), 1, ErrorCode.invalid_request),
        (proposal((2,)), 1, ErrorCode.invalid_request),
        (proposal((1, 1)), 1, ErrorCode.invalid_request),
        (proposal((1, 4)), 1, ErrorCode.invalid_request),
        (proposal((1, 2), broker_epochs=(1,)), 1, ErrorCode.invalid_request),
        (proposal((1, 2, 3), broker_epochs=(1, 2, 99)), 1, ErrorCode.ineligible_replica),
    ],
)
def test_what_does_not_fit_is_refused_alone(
    controller_of: ControllerOf, asked: IsrProposal, node_id: int, code: ErrorCode
) -> None:
    """Stale epochs, foreign members, a replica that registered anew: refused, while the neighbour in the request succeeds."""
    neighbour = replace(SHRUNK, partition=1, replicas=(node_id, 3), isr=(node_id,), leader=node_id)
    controller = controller_of(image_of([1, 2, 3, 4], [SHRUNK, neighbour], min_isr=1))
    good = proposal(tuple(sorted((node_id, 3))), partition=1)
    decision = controller.decide(AlterIsr(node_id, node_id, (asked, good)), 0.1)
    assert isinstance(decision.reply, AlterIsrReply)
    refused, accepted = decision.reply.partitions
    assert (refused.error_code, refused.state) == (code, None) and refused.error_message
    assert accepted.error_code is ErrorCode.none
    assert decision.records == (PartitionChange(TOPIC_ID, 1, 10, isr=good.new_isr),)


def test_fenced_followers_are_not_taken_in(controller_of: ControllerOf) -> None:
    """A leader that has not heard yet of a fencing cannot undo it."""
    controller = controller_of(image_of([1, 2, broker_record(3, 3, fenced=True)], [SHRUNK], min_isr=2))
    reply = controller.decide(AlterIsr(1, 1, (proposal((1, 2, 3)),)), 0.1).reply
    assert isinstance(reply, AlterIsrReply) and reply.partitions[0].error_code is ErrorCode.ineligible_replica


def test_an_old_process_changes_no_set(controller_of: ControllerOf) -> None:
    """The broker epoch of the requester counts for the whole request."""
    controller = controller_of(image_of(partitions=[SHRUNK], min_isr=2))
    with pytest.raises(ClusterError) as refused:
        controller.decide(AlterIsr(1, 99, (proposal((1,)),)), 0.1)
    assert refused.value.code is ErrorCode.stale_broker_epoch


@pytest.mark.parametrize(
    ("before", "change"),
    [
        # The leader: another member leads, and nothing makes the damaged one eligible.
        (state((1, 2), (1, 2)), PartitionChange(TOPIC_ID, 0, 1, isr=(2,), leader=2, leader_epoch=1)),
        # The leader alone in the ISR: an eligible replica leads.
        (state((1, 2), (1,), elr=(2,)), PartitionChange(TOPIC_ID, 0, 1, isr=(2,), elr=(), leader=2, leader_epoch=1)),
        # A follower.
        (state((2, 1), (1, 2)), PartitionChange(TOPIC_ID, 0, 1, isr=(2,))),
        # An eligible one.
        (state((2, 1), (2,), elr=(1,)), PartitionChange(TOPIC_ID, 0, 1, elr=())),
        # The other eligible one is away: better nobody leads than a damaged replica.
        (state((1, 3), (1,), elr=(3,)), PartitionChange(TOPIC_ID, 0, 1, isr=(), leader=NO_LEADER, leader_epoch=1)),
        # Not complete before.
        (state((2, 1), (2,)), None),
    ],
)
def test_a_damaged_replica_leaves_the_sets(controller_of: ControllerOf, before: object, change: PartitionChange | None) -> None:
    """It is neither in sync nor eligible, as long as another is, and may refetch."""
    image = image_of([1, 2, broker_record(3, 3, fenced=True)], [before], min_isr=2)  # type: ignore[list-item]
    controller = controller_of(image)
    decision = controller.decide(ReportDamage(1, 1, TOPIC_ID, 0), 0.1)
    assert decision.records == ((change,) if change else ())
    after = controller.image.partition("events", 0)
    assert after is not None and decision.reply == ReportDamageReply(excluded=True, state=after)


def test_the_last_complete_replica_stays_though_damaged(controller_of: ControllerOf) -> None:
    """Nobody else has the records: it keeps what it can serve, and is told so."""
    only = state((1, 2), (1,))
    controller = controller_of(image_of([1, 2], [only], min_isr=1))
    decision = controller.decide(ReportDamage(1, 1, TOPIC_ID, 0), 0.1)
    assert (decision.records, decision.reply) == ((), ReportDamageReply(excluded=False, state=only))
    with pytest.raises(ClusterError, match="no topic"):
        controller.decide(ReportDamage(1, 1, uuid(9), 0), 0.1)
