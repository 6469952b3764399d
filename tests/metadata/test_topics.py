"""Given this cluster, topics are created, grown, deleted, or refused with Kafka's codes."""

from typing import Any

import pytest

from quorumlog.metadata.image import Image
from quorumlog.metadata.records import ConfigRecord, PartitionRecord, RemoveTopic, ResourceKind, TopicRecord
from quorumlog.metadata.requests import (
    ConfigEntry,
    CreatedTopic,
    CreatePartitions,
    CreatePartitionsReply,
    CreateTopics,
    CreateTopicsReply,
    DeletedTopic,
    DeleteTopics,
    DeleteTopicsReply,
    NewPartitions,
    NewTopic,
    PartitionAssignment,
    TopicReference,
)
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state, uuid


def created(reply: object) -> tuple[CreatedTopic, ...]:
    assert isinstance(reply, CreateTopicsReply)
    return reply.topics


def test_a_topic_is_created_whole(controller_of: ControllerOf) -> None:
    """Topic, settings and partitions come in one decision; all replicas begin in sync."""
    controller = controller_of(image_of())
    new = NewTopic("orders", 2, 2, configs=(ConfigEntry("retention.ms", " 5 "),))
    decision = controller.decide(CreateTopics((new,)), 0.1)
    topic_id = uuid(0x1000)
    assert decision.records == (
        TopicRecord("orders", topic_id),
        ConfigRecord(ResourceKind.TOPIC, "orders", "retention.ms", "5"),
        PartitionRecord(state((1, 2), topic_id=topic_id)),
        PartitionRecord(state((3, 1), topic_id=topic_id, partition=1)),
    )
    assert created(decision.reply) == (CreatedTopic("orders", topic_id, ErrorCode.none, None, 2, 2),)


def test_numbers_left_out_come_from_the_configuration(controller_of: ControllerOf) -> None:
    """-1 is num.partitions and default.replication.factor."""
    controller = controller_of(image_of(), broker_defaults={"num.partitions": "4", "default.replication.factor": "3"})
    (result,) = created(controller.decide(CreateTopics((NewTopic("orders"),)), 0.1).reply)
    assert (result.num_partitions, result.replication_factor) == (4, 3)


def test_replicas_may_be_assigned_by_hand(controller_of: ControllerOf) -> None:
    """Fenced brokers may be named: they begin out of sync, and the first live one leads."""
    controller = controller_of(image_of([1, 2, broker_record(3, 3, fenced=True)]))
    given = (PartitionAssignment(1, (2, 1)), PartitionAssignment(0, (3, 2)))
    decision = controller.decide(CreateTopics((NewTopic("orders", assignments=given),)), 0.1)
    assert decision.records[1:] == (
        PartitionRecord(state((3, 2), (2,), leader=2, topic_id=uuid(0x1000))),
        PartitionRecord(state((2, 1), topic_id=uuid(0x1000), partition=1)),
    )


def by_hand(*replicas: tuple[int, ...], partitions: tuple[int, ...] = (0, 1), **fields: Any) -> NewTopic:
    given = tuple(PartitionAssignment(partition, held) for partition, held in zip(partitions, replicas, strict=False))
    return NewTopic("orders", assignments=given, **fields)


def test_a_topic_is_created_while_a_broker_is_down(controller_of: ControllerOf) -> None:
    """It has a replica there, which joins the in-sync set when the broker is back; until then the others do."""
    controller = controller_of(image_of([1, 2, broker_record(3, 3, fenced=True)]))
    decision = controller.decide(CreateTopics((NewTopic("orders", 1, 3),)), 0.1)
    (made,) = [record.state for record in decision.records if isinstance(record, PartitionRecord)]
    assert (set(made.replicas), made.isr, made.leader in (1, 2)) == ({1, 2, 3}, (1, 2), True)


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (NewTopic("", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic(".", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("..", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("a b", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("a\n", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("ä", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("a" * 250, 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("web_clicks.eu", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("web.clicks.eu", 1, 1), ErrorCode.topic_already_exists),
        (NewTopic("orders", 0, 1), ErrorCode.invalid_partitions),
        (NewTopic("orders", -2, 1), ErrorCode.invalid_partitions),
        (NewTopic("orders", 1, 0), ErrorCode.invalid_replication_factor),
        (NewTopic("orders", 1, -2), ErrorCode.invalid_replication_factor),
        (NewTopic("orders", 1, 4), ErrorCode.invalid_replication_factor),
        (NewTopic("orders", 0, 0), ErrorCode.invalid_replication_factor),
        (NewTopic("__cluster_metadata", 1, 1), ErrorCode.topic_authorization_failed),
        (NewTopic("orders", 2**31 - 1, 1), ErrorCode.policy_violation),
        (NewTopic("orders", 1, 1, configs=(ConfigEntry("colour", "red"),)), ErrorCode.invalid_config),
        (NewTopic("orders", 1, 1, configs=(ConfigEntry("retention.ms", None),)), ErrorCode.invalid_config),
        (NewTopic("orders", 1, 1, configs=(ConfigEntry("cleanup.policy", "shred"),)), ErrorCode.invalid_config),
        (by_hand((1,), (2,), num_partitions=2), ErrorCode.invalid_request),
        (by_hand((1,), (2,), partitions=(0, 2)), ErrorCode.invalid_replica_assignment),
        (by_hand((1,), (2,), partitions=(0, 0)), ErrorCode.invalid_replica_assignment),
        (by_hand(), ErrorCode.invalid_replica_assignment),
        (by_hand(()), ErrorCode.invalid_replica_assignment),
        (by_hand((1, 2), (1,)), ErrorCode.invalid_replica_assignment),
        (by_hand((1, 1)), ErrorCode.invalid_replica_assignment),
        (by_hand((1, 9)), ErrorCode.invalid_replica_assignment),
        (by_hand((3,)), ErrorCode.invalid_replica_assignment),
    ],
)
def test_a_bad_topic_is_refused_without_hurting_its_neighbour(
    controller_of: ControllerOf, new: NewTopic, code: ErrorCode
) -> None:
    """Each topic has its own answer, with a sentence; nothing of the refused one is left."""
    controller = controller_of(image_of([1, 2, broker_record(3, 3, fenced=True)]))
    controller.decide(CreateTopics((NewTopic("web.clicks.eu", 1, 1),)), 0.1)
    decision = controller.decide(CreateTopics((new, NewTopic("good", 1, 1))), 0.2)
    bad, good = created(decision.reply)
    assert (bad.error_code, bad.topic_id, bad.num_partitions) == (code, NO_TOPIC_ID, -1) and bad.error_message
    assert good.error_code is ErrorCode.none
    assert set(controller.image.topics) == {"web.clicks.eu", "good"} and len(decision.records) == 2


def test_a_topic_named_twice_in_a_request_is_created_neither_time(controller_of: ControllerOf) -> None:
    """As Kafka does; names that collide with a neighbour's are refused like those of existing topics."""
    topics = tuple(NewTopic(name, 1, 1) for name in ("a", "a", "b.c", "b_c"))
    decision = controller_of(image_of()).decide(CreateTopics(topics), 0.1)
    assert [topic.error_code for topic in created(decision.reply)] == [
        ErrorCode.invalid_request,  # one result for the two
        ErrorCode.none,
        ErrorCode.invalid_topic_exception,
    ]


def test_validation_only_answers_and_changes_nothing(controller_of: ControllerOf) -> None:
    """The numbers are those that would be; there is no topic id yet."""
    controller = controller_of(image_of())
    before = controller.image
    decision = controller.decide(CreateTopics((NewTopic("orders", 3, 2),), validate_only=True), 0.1)
    assert created(decision.reply) == (CreatedTopic("orders", NO_TOPIC_ID, ErrorCode.none, None, 3, 2),)
    assert decision.records == () and controller.image == before


def test_requests_and_cluster_hold_only_so_many_partitions(controller_of: ControllerOf) -> None:
    """Both bounds are reached exactly, and not passed."""
    controller = controller_of(image_of(), partitions_per_request_max=10, partitions_max=15)
    too_many, ten = NewTopic("a", 11, 1), NewTopic("b", 10, 1)
    reply = created(controller.decide(CreateTopics((too_many, ten, NewTopic("c", 1, 1))), 0.1).reply)
    assert [topic.error_code for topic in reply] == [ErrorCode.policy_violation, ErrorCode.none, ErrorCode.policy_violation]
    reply = created(controller.decide(CreateTopics((NewTopic("d", 6, 1), NewTopic("e", 5, 1))), 0.1).reply)
    assert [topic.error_code for topic in reply] == [ErrorCode.policy_violation, ErrorCode.none]
    grown = controller.decide(CreatePartitions((NewPartitions("e", 6),)), 0.1).reply
    assert isinstance(grown, CreatePartitionsReply) and grown.topics[0].error_code is ErrorCode.policy_violation


# --- growing


def test_partitions_are_added_with_the_replicas_of_the_others(controller_of: ControllerOf) -> None:
    """The replication factor is that of the topic; leaders even out."""
    controller = controller_of(image_of(partitions=[state((1, 2))]))
    decision = controller.decide(CreatePartitions((NewPartitions("events", 3),)), 0.1)
    assert decision.records == (
        PartitionRecord(state((3, 1), partition=1)),
        PartitionRecord(state((2, 3), partition=2)),
    )
    by_hand = NewPartitions("events", 4, ((3, 2),))
    assert controller.decide(CreatePartitions((by_hand,), validate_only=True), 0.2).records == ()
    assert controller.decide(CreatePartitions((by_hand,)), 0.2).records == (PartitionRecord(state((3, 2), partition=3)),)


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (NewPartitions("nobody", 3), ErrorCode.unknown_topic_or_partition),
        (NewPartitions("events", 1), ErrorCode.invalid_partitions),
        (NewPartitions("events", -5), ErrorCode.invalid_partitions),
        (NewPartitions("events", 2, ()), ErrorCode.invalid_replica_assignment),
        (NewPartitions("events", 2, ((1,),)), ErrorCode.invalid_replica_assignment),
        (NewPartitions("events", 2, ((1, 9),)), ErrorCode.invalid_replica_assignment),
        (NewPartitions("events", 2**31 - 1), ErrorCode.policy_violation),
    ],
)
def test_growth_that_cannot_be_is_refused(controller_of: ControllerOf, new: NewPartitions, code: ErrorCode) -> None:
    """Fewer or equal partitions, and assignments that do not fit."""
    decision = controller_of(image_of(partitions=[state((1, 2))])).decide(CreatePartitions((new,)), 0.1)
    assert isinstance(decision.reply, CreatePartitionsReply)
    assert decision.reply.topics[0].error_code is code and decision.records == ()


# --- deleting


def image_with_settings() -> Image:
    return image_of(partitions=[state((1, 2))], topic_configs={"retention.ms": "5"})


def test_topics_are_deleted_by_name_or_id(controller_of: ControllerOf) -> None:
    """Its settings go with it, and the name is free again; each unknown one is answered for itself."""
    for reference in (TopicReference(name="events"), TopicReference(topic_id=TOPIC_ID)):
        controller = controller_of(image_with_settings())
        unknown = (TopicReference(name="no"), TopicReference(topic_id=uuid(9)), TopicReference())
        decision = controller.decide(DeleteTopics((*unknown, reference)), 0.1)
        assert decision.records == (RemoveTopic(TOPIC_ID),)
        assert isinstance(decision.reply, DeleteTopicsReply)
        assert [topic.error_code for topic in decision.reply.topics] == [
            ErrorCode.unknown_topic_or_partition,
            ErrorCode.unknown_topic_id,
            ErrorCode.unknown_topic_id,
            ErrorCode.none,
        ]
        assert decision.reply.topics[-1] == DeletedTopic("events", TOPIC_ID, ErrorCode.none, None)
        assert created(controller.decide(CreateTopics((NewTopic("events", 1, 1),)), 0.2).reply)[0].error_code is ErrorCode.none
        assert len(controller.image.topic_configs) == 0
