"""The records of the metadata log. One decision of the controller is one batch of them, applied as a whole or not at all.

`metadata/replay.py` gives each its meaning; `proto/metadata.proto` has a message of the same name and fields for each.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from .image import Endpoint, PartitionState


class CorruptRecord(Exception):
    """Bytes that are no record, or a record that does not fit the image before it. In the metadata log: stop the node."""


class ResourceKind(StrEnum):
    """What a setting belongs to."""

    TOPIC = "topic"
    BROKER = "broker"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class RegisterBroker:
    """A broker came, or came again; replaces what was known of this node id."""

    node_id: int
    broker_epoch: int
    incarnation_id: UUID
    storage_id: UUID
    kafka: Endpoint
    peer: Endpoint
    rack: str | None
    fenced: bool
    in_shutdown: bool


@dataclass(frozen=True, slots=True)
class BrokerChange:
    """A registered broker was fenced, let back, or began to shut down."""

    node_id: int
    broker_epoch: int
    fenced: bool
    in_shutdown: bool


@dataclass(frozen=True, slots=True)
class UnregisterBroker:
    """An operator removed a broker for good. Replicas on it stay listed until they are moved."""

    node_id: int
    broker_epoch: int


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A topic, as yet without partitions and settings; those follow in the same batch."""

    name: str
    topic_id: UUID


@dataclass(frozen=True, slots=True)
class RemoveTopic:
    """The topic, its partitions and its settings are gone."""

    topic_id: UUID


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """A new partition, whole."""

    state: PartitionState


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """What changed in a partition; None is "as before". `leader_epoch` is given whenever the leader changes or a replica goes."""

    topic_id: UUID
    partition: int
    partition_epoch: int
    isr: tuple[int, ...] | None = None
    elr: tuple[int, ...] | None = None
    leader: int | None = None
    leader_epoch: int | None = None
    replicas: tuple[int, ...] | None = None
    adding: tuple[int, ...] | None = None
    removing: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """A setting of a topic or a group (by name) or of brokers (by node id in decimal, or CLUSTER_DEFAULT); None takes it back."""

    kind: ResourceKind
    name: str
    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class ProducerIds:
    """Ids below `next_producer_id` are given out, the newest block of them to `node_id`."""

    next_producer_id: int
    node_id: int


Record = (
    RegisterBroker
    | BrokerChange
    | UnregisterBroker
    | TopicRecord
    | RemoveTopic
    | PartitionRecord
    | PartitionChange
    | ConfigRecord
    | ProducerIds
)
