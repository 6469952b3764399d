"""Given this partition, its replicas are to be elsewhere: expect exactly these records."""

from dataclasses import replace

import pytest

from quorumlog.metadata.codec import decode_records
from quorumlog.metadata.controller import Controller
from quorumlog.metadata.image import NO_LEADER, Image, PartitionState
from quorumlog.metadata.machine import dump_image, load_image
from quorumlog.metadata.records import CorruptRecord, PartitionChange, PartitionRecord, Record
from quorumlog.metadata.replay import check_partition
from quorumlog.metadata.requests import (
    AlterIsr,
    AlterIsrReply,
    AlterReassignments,
    AlterReassignmentsReply,
    CreatePartitions,
    DeleteTopics,
    IsrProposal,
    NewPartitions,
    Reassignment,
    ReassignmentResult,
    TopicReference,
    UnregisterBroker,
)
from quorumlog.proto import metadata_pb2
from quorumlog.wire.errors import ErrorCode

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state

NODES = (1, 2, 3, 4, 5, 6)
MOVING = replace(state((4, 5, 6, 1, 2, 3), (1, 2, 3), leader=1), adding=(4, 5, 6), removing=(1, 2, 3))


def image(held: PartitionState, **config: object) -> Image:
    return image_of(NODES, [held], **config)  # type: ignore[arg-type]


def alter(
    controller: Controller, target: tuple[int, ...] | None, *, partition: int = 0, allow_factor: bool = True
) -> tuple[tuple[Record, ...], ReassignmentResult]:
    request = AlterReassignments((Reassignment("events", partition, target),), allow_replication_factor_change=allow_factor)
    decision = controller.decide(request, 0.1)
    assert isinstance(decision.reply, AlterReassignmentsReply)
    (result,) = decision.reply.partitions
    return decision.records, result


def propose(controller: Controller, leader: int, isr: tuple[int, ...]) -> tuple[Record, ...]:
    """The leader, which has registered with its own number as epoch, proposes on the newest state."""
    held = partition_of(controller)
    proposal = IsrProposal(TOPIC_ID, 0, leader_epoch=held.leader_epoch, partition_epoch=held.partition_epoch, new_isr=isr)
    decision = controller.decide(AlterIsr(leader, leader, (proposal,)), 0.1)
    assert isinstance(decision.reply, AlterIsrReply) and decision.reply.partitions[0].error_code is ErrorCode.none, decision.reply
    return decision.records


def partition_of(controller: Controller) -> PartitionState:
    held = controller.image.partition("events", 0)
    assert held is not None
    return held


# --- moving


def test_a_move_begins_with_the_union_of_both_places(controller_of: ControllerOf) -> None:
    """The new replicas come first, so that the new preferred leader is one of them; leader, ISR and leader epoch stay."""
    controller = controller_of(image(state((1, 2, 3))))
    records, result = alter(controller, (4, 5, 6))
    assert records == (PartitionChange(TOPIC_ID, 0, 1, replicas=(4, 5, 6, 1, 2, 3), adding=(4, 5, 6), removing=(1, 2, 3)),)
    assert result == ReassignmentResult("events", 0, ErrorCode.none, None)
    assert partition_of(controller) == replace(MOVING, partition_epoch=1)


def test_a_move_ends_in_the_record_that_completes_the_in_sync_set(controller_of: ControllerOf) -> None:
    """Two of three are not enough; with the third, the old replicas go, and the first of the new leads."""
    controller = controller_of(image(MOVING, min_isr=2))
    assert propose(controller, 1, (1, 2, 3, 5, 6)) == (PartitionChange(TOPIC_ID, 0, 1, isr=(1, 2, 3, 5, 6)),)
    ended = propose(controller, 1, (1, 2, 3, 4, 5, 6))
    assert ended == (
        PartitionChange(TOPIC_ID, 0, 2, isr=(4, 5, 6), leader=4, leader_epoch=1, replicas=(4, 5, 6), adding=(), removing=()),
    )
    assert partition_of(controller) == state((4, 5, 6), leader_epoch=1, partition_epoch=2)


def test_a_leader_that_stays_leads_on_in_a_new_epoch(controller_of: ControllerOf) -> None:
    """What the replica that goes has said, or is still to say, must not count if it is brought back."""
    moving = replace(state((4, 2, 1), (1, 2), leader=2), adding=(4,), removing=(1,))
    controller = controller_of(image(moving))
    ended = propose(controller, 2, (1, 2, 4))
    assert ended == (PartitionChange(TOPIC_ID, 0, 1, isr=(2, 4), leader_epoch=1, replicas=(4, 2), adding=(), removing=()),)
    assert partition_of(controller).leader == 2


def test_what_needs_no_new_replica_is_over_at_once(controller_of: ControllerOf) -> None:
    """A smaller number of replicas, or another order of the same."""
    controller = controller_of(image(state((1, 2, 3))))
    fewer = PartitionChange(TOPIC_ID, 0, 1, isr=(2, 3), leader=3, leader_epoch=1, replicas=(3, 2))
    assert alter(controller, (3, 2))[0] == (fewer,)
    assert alter(controller, (2, 3))[0] == (PartitionChange(TOPIC_ID, 0, 2, replicas=(2, 3)),)
    assert alter(controller, (2, 3)) == ((), ReassignmentResult("events", 0, ErrorCode.none, None))


def test_a_smaller_set_waits_for_who_stays(controller_of: ControllerOf) -> None:
    """No complete replica goes before all who stay are complete."""
    controller = controller_of(image(state((1, 2, 3), (1, 2))))
    assert alter(controller, (3,))[0] == (PartitionChange(TOPIC_ID, 0, 1, replicas=(3, 1, 2), removing=(1, 2)),)
    ended = propose(controller, 1, (1, 2, 3))
    assert ended == (PartitionChange(TOPIC_ID, 0, 2, isr=(3,), leader=3, leader_epoch=1, replicas=(3,), removing=()),)


def test_more_replicas_count_for_min_isr_when_they_are_there(controller_of: ControllerOf) -> None:
    """From one replica to two under min.insync.replicas=2: commits go on during the copying, on one, as before."""
    controller = controller_of(image(state((1,)), min_isr=2))
    assert alter(controller, (1, 2))[0] == (PartitionChange(TOPIC_ID, 0, 1, replicas=(1, 2), adding=(2,)),)
    assert propose(controller, 1, (1, 2)) == (PartitionChange(TOPIC_ID, 0, 2, isr=(1, 2), adding=()),)
    # From here on two are needed: who leaves is eligible.
    assert propose(controller, 1, (1,)) == (PartitionChange(TOPIC_ID, 0, 3, isr=(1,), elr=(2,)),)


def test_the_target_being_moved_to_already_changes_nothing(controller_of: ControllerOf) -> None:
    """A retry."""
    assert alter(controller_of(image(MOVING)), (4, 5, 6))[0] == ()


# --- another target, and back


def test_another_target_replaces_the_one_under_way(controller_of: ControllerOf) -> None:
    """What came with the first and is not in the second goes, also from the in-sync set, and the epoch rises for it."""
    controller = controller_of(image(replace(MOVING, isr=(1, 2, 3, 4, 5))))
    records, _ = alter(controller, (5, 1))
    assert records == (PartitionChange(TOPIC_ID, 0, 1, isr=(1, 5), leader_epoch=1, replicas=(5, 1), adding=(), removing=()),)
    controller = controller_of(image(MOVING))
    records, _ = alter(controller, (6, 2))
    assert records == (PartitionChange(TOPIC_ID, 0, 1, leader_epoch=1, replicas=(6, 2, 1, 3), adding=(6,), removing=(1, 3)),)


def test_another_target_keeps_the_only_one_who_is_complete(controller_of: ControllerOf) -> None:
    """Only 4, which came with the first move, is in sync: it stays until the second is complete."""
    alone = replace(MOVING, isr=(4,), leader=4)
    controller = controller_of(image(alone))
    records, _ = alter(controller, (5, 6))
    assert records == (PartitionChange(TOPIC_ID, 0, 1, replicas=(5, 6, 1, 2, 3, 4), adding=(), removing=(1, 2, 3, 4)),)
    ended = propose(controller, 4, (4, 5, 6))
    assert ended == (PartitionChange(TOPIC_ID, 0, 2, isr=(5, 6), leader=5, leader_epoch=1, replicas=(5, 6), removing=()),)


def test_a_move_is_taken_back(controller_of: ControllerOf) -> None:
    """What was added goes, whether in sync or not; the leader is elected anew if it is among those."""
    controller = controller_of(image(replace(MOVING, isr=(1, 2, 4), leader=4)))
    records, result = alter(controller, None)
    assert result.error_code is ErrorCode.none
    assert records == (
        PartitionChange(TOPIC_ID, 0, 1, isr=(1, 2), leader=1, leader_epoch=1, replicas=(1, 2, 3), adding=(), removing=()),
    )


def test_taking_back_loses_nothing(controller_of: ControllerOf) -> None:
    """Where only an added replica is in sync, that would be an unclean election: refused, unless the topic allows those."""
    alone = replace(MOVING, isr=(4,), leader=4)
    records, result = alter(controller_of(image(alone)), None)
    assert (records, result.error_code) == ((), ErrorCode.invalid_replica_assignment)
    assert result.error_message and "unclean" in result.error_message
    allowed = controller_of(image(alone, topic_configs={"unclean.leader.election.enable": "true"}))
    records, result = alter(allowed, None)
    assert result.error_code is ErrorCode.none
    assert (partition_of(allowed).leader, partition_of(allowed).isr) == (1, (1,))


def test_taking_back_elects_who_is_eligible(controller_of: ControllerOf) -> None:
    """2 left when the in-sync set was too small for commits, and so is complete."""
    controller = controller_of(image(replace(MOVING, isr=(4,), elr=(2,), leader=4), min_isr=2))
    _, result = alter(controller, None)
    assert result.error_code is ErrorCode.none
    assert (partition_of(controller).leader, partition_of(controller).isr, partition_of(controller).elr) == (2, (2,), ())


# --- what happens meanwhile


def test_a_target_that_dies_holds_the_move_until_it_is_back_or_another_is_named(controller_of: ControllerOf) -> None:
    """The partition is led and written all the time."""
    controller = controller_of(image(replace(MOVING, isr=(1, 2, 3, 4, 5))))
    controller.on_process_gone(5, 0.2)
    assert partition_of(controller).isr == (1, 2, 3, 4) and partition_of(controller).is_moving
    controller.decide(UnregisterBroker(5), 0.3)
    assert partition_of(controller).is_moving
    alter(controller, (4, 6))
    assert partition_of(controller).target == (4, 6)


def test_sources_that_die_do_not_stop_the_move(controller_of: ControllerOf) -> None:
    """With 1 and 2 gone, 3 leads; when it has completed the targets it may go as well."""
    controller = controller_of(image(MOVING))
    controller.on_process_gone(1, 0.2)
    controller.on_process_gone(2, 0.3)
    assert partition_of(controller).leader == 3
    propose(controller, 3, (3, 4, 5, 6))
    assert partition_of(controller).replicas == (4, 5, 6)


def test_an_election_can_end_a_move(controller_of: ControllerOf) -> None:
    """The only one who is to stay is elected from the eligible: nothing else is waited for."""
    held = replace(state((2, 1), (), elr=(2,), leader=NO_LEADER), removing=(1,))
    controller = controller_of(image_of([1, broker_record(2, 2)], [held], min_isr=2))
    decision = controller.tick(0.1)
    assert decision.records == (
        PartitionChange(TOPIC_ID, 0, 1, isr=(2,), elr=(), leader=2, leader_epoch=1, replicas=(2,), removing=()),
    )


def test_a_topic_can_be_deleted_and_grown_while_it_moves(controller_of: ControllerOf) -> None:
    """New partitions get as many replicas as the move ends with, not as many as there are in between."""
    controller = controller_of(image(MOVING))
    controller.decide(CreatePartitions((NewPartitions("events", 2),)), 0.1)
    grown = controller.image.partition("events", 1)
    assert grown is not None and len(grown.replicas) == 3
    controller.decide(DeleteTopics((TopicReference("events"),)), 0.2)
    _, result = alter(controller, None)
    assert result.error_code is ErrorCode.unknown_topic_or_partition


# --- refusals


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ((), ErrorCode.invalid_replica_assignment),
        ((1, 1), ErrorCode.invalid_replica_assignment),
        ((1, 9), ErrorCode.invalid_replica_assignment),
        ((-1,), ErrorCode.invalid_replica_assignment),
        (None, ErrorCode.no_reassignment_in_progress),
    ],
)
def test_a_bad_target_is_refused(controller_of: ControllerOf, target: tuple[int, ...] | None, code: ErrorCode) -> None:
    """Each with a sentence, and without a record."""
    records, result = alter(controller_of(image(state((1, 2, 3)))), target)
    assert (records, result.error_code) == ((), code) and result.error_message


def test_an_unknown_partition_is_refused_alone(controller_of: ControllerOf) -> None:
    """Its neighbour in the request is moved."""
    controller = controller_of(image(state((1, 2, 3))))
    asked = (Reassignment("events", 7, (1,)), Reassignment("other", 0, None), Reassignment("events", 0, (4,)))
    decision = controller.decide(AlterReassignments(asked), 0.1)
    assert isinstance(decision.reply, AlterReassignmentsReply)
    unknown = ErrorCode.unknown_topic_or_partition
    assert [result.error_code for result in decision.reply.partitions] == [unknown, unknown, ErrorCode.none]
    assert len(decision.records) == 1


def test_the_number_of_replicas_can_be_held_fast(controller_of: ControllerOf) -> None:
    """KIP-860: compared with where a move under way leads to."""
    _, result = alter(controller_of(image(state((1, 2, 3)))), (4, 5), allow_factor=False)
    assert result.error_code is ErrorCode.invalid_replication_factor
    _, result = alter(controller_of(image(MOVING)), (1, 2, 3), allow_factor=False)
    assert result.error_code is ErrorCode.none
    _, result = alter(controller_of(image(MOVING)), None, allow_factor=False)
    assert result.error_code is ErrorCode.none


# --- on disk


def test_a_move_outlives_its_controller(controller_of: ControllerOf) -> None:
    """It is in the image, the snapshot and the log, so the next controller ends it."""
    held = image(MOVING)
    controller = controller_of(load_image(dump_image(held)))
    propose(controller, 1, (1, 2, 3, 4, 5, 6))
    assert partition_of(controller).replicas == (4, 5, 6)


def test_records_from_before_there_were_moves_are_read() -> None:
    """They say nothing of replicas that come or go."""
    written = metadata_pb2.PartitionState(topic_id=TOPIC_ID.bytes, replicas=[1, 2], isr=[1, 2], leader=1)
    change = metadata_pb2.PartitionChange(topic_id=TOPIC_ID.bytes, partition_epoch=1, isr=metadata_pb2.NodeIds(items=[1]))
    batch = metadata_pb2.Batch(
        records=[
            metadata_pb2.Record(partition_record=metadata_pb2.PartitionRecord(state=written)),
            metadata_pb2.Record(partition_change=change),
        ]
    )
    assert decode_records(batch.SerializeToString()) == (
        PartitionRecord(state((1, 2))),
        PartitionChange(TOPIC_ID, 0, 1, isr=(1,)),
    )


@pytest.mark.parametrize(("adding", "removing"), [((4,), ()), ((), (4,)), ((1,), (1,)), ((1, 2, 3), ()), ((), (1, 2, 3))])
def test_a_move_that_cannot_be_is_corrupt(adding: tuple[int, ...], removing: tuple[int, ...]) -> None:
    """Members that are no replicas, both at once, from nowhere, to nowhere."""
    with pytest.raises(CorruptRecord):
        check_partition(replace(state((1, 2, 3)), adding=adding, removing=removing))
