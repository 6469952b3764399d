"""What each record does to the image. The one place where an image changes, on every node alike.

Replaying cannot fail: the controller replays each decision onto its own image before it has the records logged. A record that
does not fit means that the log or the code is wrong, and raises CorruptRecord, on which the node stops.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from immutables import Map

from .image import NO_LEADER, Broker, Image, PartitionState, Topic
from .records import (
    BrokerChange,
    ConfigRecord,
    CorruptRecord,
    PartitionChange,
    PartitionRecord,
    ProducerIds,
    Record,
    RegisterBroker,
    RemoveTopic,
    ResourceKind,
    TopicRecord,
    UnregisterBroker,
)


def replay_all(image: Image, records: Iterable[Record], index: int) -> Image:
    """The image after the entry at `index`, which holds these records. Raises CorruptRecord."""
    for record in records:
        image = replay(image, record)
    return replace(image, index=index)


def replay(image: Image, record: Record) -> Image:
    """The image after one more record; its index stays. Raises CorruptRecord."""
    match record:
        case RegisterBroker():
            return _register_broker(image, record)
        case BrokerChange():
            return _change_broker(image, record)
        case UnregisterBroker(node_id=node_id, broker_epoch=broker_epoch):
            _registered(image, node_id, broker_epoch)
            return replace(image, brokers=image.brokers.delete(node_id))
        case TopicRecord():
            return _add_topic(image, record)
        case RemoveTopic():
            return _remove_topic(image, record)
        case PartitionRecord(state=state):
            return _add_partition(image, state)
        case PartitionChange():
            return _change_partition(image, record)
        case ConfigRecord():
            return _change_config(image, record)
        case ProducerIds(next_producer_id=next_producer_id):
            _demand(next_producer_id > image.next_producer_id, record, f"next producer id is {image.next_producer_id} already")
            return replace(image, next_producer_id=next_producer_id)
        case _:
            assert_never(record)


def check_partition(state: PartitionState) -> None:
    """What always holds of a partition. Raises CorruptRecord."""
    replicas = set(state.replicas)
    _demand(len(replicas) == len(state.replicas) > 0, state, "replicas are missing or repeated")
    for name, members in (("isr", state.isr), ("elr", state.elr), ("adding", state.adding), ("removing", state.removing)):
        _demand(members == tuple(sorted(set(members))), state, f"{name} is not sorted")
        _demand(replicas.issuperset(members), state, f"{name} has members that are no replicas")
    _demand(not set(state.isr) & set(state.elr), state, "isr and elr overlap")
    _demand(bool(state.original and state.target), state, "a reassignment from nowhere or to nowhere")
    _demand(not set(state.adding) & set(state.removing), state, "adding and removing overlap")
    _demand(state.leader == NO_LEADER or state.leader in state.isr, state, "the leader is not in the isr")
    _demand(min(state.leader_epoch, state.partition_epoch, state.partition) >= 0, state, "a number is negative")


def _demand(holds: bool, thing: object, sentence: str) -> None:
    if not holds:
        raise CorruptRecord(f"{sentence}: {thing}")


# --- brokers


def _register_broker(image: Image, record: RegisterBroker) -> Image:
    _demand(record.broker_epoch >= image.next_broker_epoch, record, f"the next broker epoch is {image.next_broker_epoch}")
    return replace(
        image,
        brokers=image.brokers.set(record.node_id, broker_of(record)),
        next_broker_epoch=record.broker_epoch + 1,
    )


def broker_of(record: RegisterBroker) -> Broker:
    return Broker(**{name: getattr(record, name) for name in Broker.__slots__})


def _registered(image: Image, node_id: int, broker_epoch: int) -> Broker:
    broker = image.brokers.get(node_id)
    if broker is None or broker.broker_epoch != broker_epoch:
        raise CorruptRecord(f"broker {node_id} with epoch {broker_epoch} is not registered; held: {broker}")
    return broker


def _change_broker(image: Image, record: BrokerChange) -> Image:
    broker = _registered(image, record.node_id, record.broker_epoch)
    changed = replace(broker, fenced=record.fenced, in_shutdown=record.in_shutdown)
    return replace(image, brokers=image.brokers.set(record.node_id, changed))


# --- topics


def _add_topic(image: Image, record: TopicRecord) -> Image:
    _demand(record.name not in image.topics and record.topic_id not in image.topic_names, record, "the topic exists")
    return replace(
        image,
        topics=image.topics.set(record.name, Topic(record.name, record.topic_id)),
        topic_names=image.topic_names.set(record.topic_id, record.name),
    )


def _topic(image: Image, record: PartitionState | PartitionChange | RemoveTopic) -> Topic:
    name = image.topic_names.get(record.topic_id)
    if name is None:
        raise CorruptRecord(f"unknown topic: {record}")
    return image.topics[name]


def _remove_topic(image: Image, record: RemoveTopic) -> Image:
    name = _topic(image, record).name
    return replace(
        image,
        topics=image.topics.delete(name),
        topic_names=image.topic_names.delete(record.topic_id),
        topic_configs=image.topic_configs.delete(name) if name in image.topic_configs else image.topic_configs,
    )


def _add_partition(image: Image, state: PartitionState) -> Image:
    topic = _topic(image, state)
    _demand(state.partition not in topic.partitions, state, "the partition exists")
    return _with_partition(image, topic, state)


def _change_partition(image: Image, record: PartitionChange) -> Image:
    topic = _topic(image, record)
    old = topic.partitions.get(record.partition)
    if old is None:
        raise CorruptRecord(f"unknown partition: {record}")
    new = PartitionState(
        topic_id=old.topic_id,
        partition=old.partition,
        replicas=old.replicas if record.replicas is None else record.replicas,
        isr=old.isr if record.isr is None else record.isr,
        elr=old.elr if record.elr is None else record.elr,
        leader=old.leader if record.leader is None else record.leader,
        leader_epoch=old.leader_epoch if record.leader_epoch is None else record.leader_epoch,
        partition_epoch=record.partition_epoch,
        adding=old.adding if record.adding is None else record.adding,
        removing=old.removing if record.removing is None else record.removing,
    )
    _demand(new.partition_epoch > old.partition_epoch, record, f"partition epoch {old.partition_epoch} is held")
    _demand(new.leader_epoch >= old.leader_epoch, record, f"leader epoch {old.leader_epoch} is held")
    _demand(new.leader == old.leader or new.leader_epoch > old.leader_epoch, record, f"a new leader in epoch {old.leader_epoch}")
    return _with_partition(image, topic, new)


def _with_partition(image: Image, topic: Topic, state: PartitionState) -> Image:
    check_partition(state)
    changed = replace(topic, partitions=topic.partitions.set(state.partition, state))
    return replace(image, topics=image.topics.set(topic.name, changed))


# --- settings


def _change_config(image: Image, record: ConfigRecord) -> Image:
    match record.kind:
        case ResourceKind.TOPIC:
            _demand(record.name in image.topics, record, "unknown topic")
            return replace(image, topic_configs=_with_config(image.topic_configs, record))
        case ResourceKind.BROKER:
            return replace(image, broker_configs=_with_config(image.broker_configs, record))
        case ResourceKind.GROUP:
            return replace(image, group_configs=_with_config(image.group_configs, record))
        case _:
            assert_never(record.kind)


def _with_config(configs: Map[str, Map[str, str]], record: ConfigRecord) -> Map[str, Map[str, str]]:
    held = configs.get(record.name, Map[str, str]())
    if record.value is not None:
        held = held.set(record.key, record.value)
    elif record.key in held:
        held = held.delete(record.key)
    if held:
        return configs.set(record.name, held)
    return configs.delete(record.name) if record.name in configs else configs
