"""What brokers and clients ask of the active controller, and its replies.

Where a request names several things, each has a result of its own with Kafka's error code, in the order of the request; a
request that is refused as a whole is a `ClusterError`. `proto/controller.proto` has a message of the same name for each.
"""

from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from quorumlog.wire.errors import ErrorCode

from .image import Endpoint, PartitionState
from .records import ResourceKind

PRODUCER_ID_BLOCK = 1_000

# --- brokers


@dataclass(frozen=True, slots=True)
class RegisterBroker:
    """At the start of a process, with a new `incarnation_id`. A retry with the same one is answered alike."""

    node_id: int
    incarnation_id: UUID
    storage_id: UUID
    kafka: Endpoint
    peer: Endpoint
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class RegisterBrokerReply:
    broker_epoch: int


@dataclass(frozen=True, slots=True)
class BrokerHeartbeat:
    node_id: int
    broker_epoch: int
    caught_up: bool  # has applied the metadata log at least up to its own registration
    want_shutdown: bool = False


@dataclass(frozen=True, slots=True)
class BrokerHeartbeatReply:
    fenced: bool
    may_shut_down: bool


@dataclass(frozen=True, slots=True)
class UnregisterBroker:
    node_id: int


@dataclass(frozen=True, slots=True)
class AllocateProducerIds:
    node_id: int
    broker_epoch: int


@dataclass(frozen=True, slots=True)
class AllocateProducerIdsReply:
    first: int
    count: int


# --- topics


@dataclass(frozen=True, slots=True)
class PartitionAssignment:
    partition: int
    replicas: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class NewTopic:
    """-1 takes the cluster's default. With assignments, both numbers must be -1."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    assignments: tuple[PartitionAssignment, ...] | None = None
    configs: tuple[ConfigEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateTopics:
    topics: tuple[NewTopic, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    name: str
    topic_id: UUID
    error_code: ErrorCode
    error_message: str | None
    num_partitions: int  # -1 with an error
    replication_factor: int  # -1 with an error


@dataclass(frozen=True, slots=True)
class CreateTopicsReply:
    topics: tuple[CreatedTopic, ...]


@dataclass(frozen=True, slots=True)
class TopicReference:
    """A topic by its name, or by its id where the name is None."""

    name: str | None = None
    topic_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class DeleteTopics:
    topics: tuple[TopicReference, ...]


@dataclass(frozen=True, slots=True)
class DeletedTopic:
    name: str | None
    topic_id: UUID | None
    error_code: ErrorCode
    error_message: str | None


@dataclass(frozen=True, slots=True)
class DeleteTopicsReply:
    topics: tuple[DeletedTopic, ...]


@dataclass(frozen=True, slots=True)
class NewPartitions:
    """`count` is the total afterwards. `assignments` has the replicas of each added partition; None lets us place them."""

    name: str
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class CreatePartitions:
    topics: tuple[NewPartitions, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class TopicResult:
    name: str
    error_code: ErrorCode
    error_message: str | None


@dataclass(frozen=True, slots=True)
class CreatePartitionsReply:
    topics: tuple[TopicResult, ...]


# --- settings


class ConfigOperation(IntEnum):
    """With Kafka's numbers (KIP-339). APPEND and SUBTRACT are for lists."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True)
class ConfigChange:
    key: str
    operation: ConfigOperation
    value: str | None


@dataclass(frozen=True, slots=True)
class ResourceChanges:
    """All or none of `changes` are made. A broker resource is named by its node id in decimal, or "" for all brokers.

    `replaces`: what is not named is taken back (the older AlterConfigs).
    """

    kind: ResourceKind
    name: str
    changes: tuple[ConfigChange, ...]
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class AlterConfigs:
    resources: tuple[ResourceChanges, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class ResourceResult:
    kind: ResourceKind
    name: str
    error_code: ErrorCode
    error_message: str | None


@dataclass(frozen=True, slots=True)
class AlterConfigsReply:
    resources: tuple[ResourceResult, ...]


# --- replicas and leaders


@dataclass(frozen=True, slots=True)
class IsrProposal:
    """What the leader wants as in-sync set.

    `broker_epochs` says, for each of `new_isr` in order, in which registration the leader saw that replica in sync; -1 where it
    does not know, empty for none. A replica that registered since may have lost its disk and is refused (KIP-903).
    """

    topic_id: UUID
    partition: int
    leader_epoch: int
    partition_epoch: int
    new_isr: tuple[int, ...]
    broker_epochs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AlterIsr:
    node_id: int
    broker_epoch: int
    partitions: tuple[IsrProposal, ...]


@dataclass(frozen=True, slots=True)
class IsrResult:
    """The resulting state, or None with an error."""

    topic_id: UUID
    partition: int
    error_code: ErrorCode
    error_message: str | None
    state: PartitionState | None


@dataclass(frozen=True, slots=True)
class AlterIsrReply:
    partitions: tuple[IsrResult, ...]


@dataclass(frozen=True, slots=True)
class ReportDamage:
    """This replica found committed bytes that fail their CRC and asks to be taken for incomplete."""

    node_id: int
    broker_epoch: int
    topic_id: UUID
    partition: int


@dataclass(frozen=True, slots=True)
class ReportDamageReply:
    """`excluded`: the replica counts as complete no more and may refetch. Otherwise it is the last one and stays as it is."""

    excluded: bool
    state: PartitionState


@dataclass(frozen=True, slots=True)
class TopicPartitions:
    topic: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ElectLeaders:
    """Give leadership to the preferred replicas, or (not `preferred`) to any live one, which may lose records. None is all."""

    preferred: bool
    partitions: tuple[TopicPartitions, ...] | None = None


@dataclass(frozen=True, slots=True)
class ElectionResult:
    topic: str
    partition: int
    error_code: ErrorCode
    error_message: str | None


@dataclass(frozen=True, slots=True)
class ElectLeadersReply:
    """With partitions=None, those that needed no election are left out."""

    partitions: tuple[ElectionResult, ...]


@dataclass(frozen=True, slots=True)
class Reassignment:
    """Where a partition's replicas are to be, the preferred leader first; None takes back the reassignment under way."""

    topic: str
    partition: int
    target: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class AlterReassignments:
    partitions: tuple[Reassignment, ...]
    allow_replication_factor_change: bool = True


@dataclass(frozen=True, slots=True)
class ReassignmentResult:
    topic: str
    partition: int
    error_code: ErrorCode
    error_message: str | None


@dataclass(frozen=True, slots=True)
class AlterReassignmentsReply:
    """Says that the moves have begun, or been taken back; the image shows how far they are."""

    partitions: tuple[ReassignmentResult, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to say: to UnregisterBroker, and for decisions that nobody asked for."""


Request = (
    RegisterBroker
    | BrokerHeartbeat
    | UnregisterBroker
    | AllocateProducerIds
    | CreateTopics
    | DeleteTopics
    | CreatePartitions
    | AlterConfigs
    | AlterIsr
    | ReportDamage
    | ElectLeaders
    | AlterReassignments
)

Reply = (
    RegisterBrokerReply
    | BrokerHeartbeatReply
    | AllocateProducerIdsReply
    | CreateTopicsReply
    | DeleteTopicsReply
    | CreatePartitionsReply
    | AlterConfigsReply
    | AlterIsrReply
    | ReportDamageReply
    | ElectLeadersReply
    | AlterReassignmentsReply
    | Done
)
