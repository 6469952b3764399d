"""Each record does to the image what it says, and one that does not fit is called corruption."""

from dataclasses import replace
from typing import Any

import pytest

from quorumlog.metadata.image import NO_LEADER, Image
from quorumlog.metadata.records import (
    BrokerChange,
    ConfigRecord,
    CorruptRecord,
    PartitionChange,
    PartitionRecord,
    ProducerIds,
    Record,
    RemoveTopic,
    ResourceKind,
    TopicRecord,
    UnregisterBroker,
)
from quorumlog.metadata.replay import replay, replay_all
from tests.metadata.given import TOPIC_ID, broker_record, image_of, state, uuid

EMPTY = Image(cluster_id="test")


def test_broker_registers_is_fenced_and_leaves() -> None:
    """A broker's life: registered, fenced, registered anew with a greater epoch, removed."""
    image = replay(EMPTY, broker_record(1, 7))
    assert (image.is_live(1), image.next_broker_epoch) == (True, 8)
    image = replay(image, BrokerChange(1, 7, fenced=True, in_shutdown=True))
    assert not image.is_live(1) and image.brokers[1].in_shutdown
    image = replay(image, broker_record(1, 8))
    assert image.brokers[1].broker_epoch == 8 and not image.brokers[1].in_shutdown
    assert replay(image, UnregisterBroker(1, 8)).brokers.get(1) is None


def test_topic_comes_and_goes_whole() -> None:
    """Removing a topic takes its partitions, its id and its settings with it."""
    image = image_of(partitions=[state((1, 2, 3))], topic_configs={"retention.ms": "1"})
    assert image.partition("events", 0) == state((1, 2, 3)) and image.topic_names[TOPIC_ID] == "events"
    image = replay(image, RemoveTopic(TOPIC_ID))
    assert (len(image.topics), len(image.topic_names), len(image.topic_configs)) == (0, 0, 0)


def test_change_leaves_what_it_does_not_name() -> None:
    """None is "as before", and an empty tuple is a value."""
    image = image_of(partitions=[state((1, 2, 3))])
    image = replay(image, PartitionChange(TOPIC_ID, 0, 5, isr=(1, 2)))
    assert image.partition("events", 0) == replace(state((1, 2, 3), (1, 2)), partition_epoch=5)
    change = PartitionChange(TOPIC_ID, 0, 6, isr=(), elr=(1, 2), leader=NO_LEADER, leader_epoch=4)
    expected = state((1, 2, 3), (), elr=(1, 2), leader=NO_LEADER, leader_epoch=4, partition_epoch=6)
    assert replay(image, change).partition("events", 0) == expected


def test_settings_are_set_and_taken_back() -> None:
    """A value of None takes a setting back; taking back what is not there is nothing."""
    key = ("events", "retention.ms")
    image = image_of(partitions=[state((1,))])
    image = replay(image, ConfigRecord(ResourceKind.TOPIC, *key, "5"))
    assert dict(image.topic_configs["events"]) == {"retention.ms": "5"}
    for _ in range(2):
        image = replay(image, ConfigRecord(ResourceKind.TOPIC, *key, None))
        assert len(image.topic_configs) == 0
    image = replay(image, ConfigRecord(ResourceKind.BROKER, "", "num.partitions", "3"))
    assert dict(image.broker_configs[""]) == {"num.partitions": "3"}


def test_index_moves_with_the_entry() -> None:
    """All records of an entry share its index; an empty entry moves it too."""
    assert replay_all(EMPTY, (ProducerIds(1000, 1),), 9) == replace(EMPTY, next_producer_id=1000, index=9)
    assert replay_all(EMPTY, (), 10).index == 10


CHANGE: dict[str, Any] = {"topic_id": TOPIC_ID, "partition": 0, "partition_epoch": 6}


@pytest.mark.parametrize(
    "record",
    [
        BrokerChange(1, 99, fenced=True, in_shutdown=False),
        BrokerChange(9, 1, fenced=True, in_shutdown=False),
        UnregisterBroker(9, 1),
        broker_record(1, 1),
        TopicRecord("events", uuid(5)),
        TopicRecord("other", TOPIC_ID),
        RemoveTopic(uuid(5)),
        PartitionRecord(state((1, 2, 3))),
        PartitionRecord(state((1, 2, 3), topic_id=uuid(5))),
        PartitionRecord(state((1, 1), (1,), partition=1)),
        PartitionRecord(state((1, 2), (2, 1), partition=1)),
        PartitionRecord(state((1, 2), (1, 3), partition=1)),
        PartitionRecord(state((1, 2), (1,), elr=(1,), partition=1)),
        PartitionRecord(state((1, 2), (2,), partition=1)),
        PartitionRecord(state((1, 2), partition=-1)),
        PartitionChange(**CHANGE | {"partition": 3}),
        PartitionChange(**CHANGE | {"partition_epoch": 5}),
        PartitionChange(**CHANGE, leader=2),
        PartitionChange(**CHANGE, leader=2, leader_epoch=3),
        PartitionChange(**CHANGE, leader_epoch=2),
        PartitionChange(**CHANGE, isr=(2, 3)),
        ConfigRecord(ResourceKind.TOPIC, "nobody", "retention.ms", "1"),
        ProducerIds(0, 1),
    ],
    ids=repr,
)
def test_a_record_that_does_not_fit_is_corruption(record: Record) -> None:
    """Epochs that fall, members that are no replicas, things that are unknown or doubled: the node must stop, not guess."""
    image = image_of(partitions=[state((1, 2, 3), leader_epoch=3, partition_epoch=5)])
    with pytest.raises(CorruptRecord):
        replay(image, record)
