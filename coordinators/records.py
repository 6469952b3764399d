"""The records of offsets and classic groups in `__consumer_offsets`, in Apache Kafka's own format."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """What a group committed for a partition."""

    offset: int
    leader_epoch: int  # -1 where the consumer told none
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int  # -1: by the coordinator's retention


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """Key types 0 and 1. `committed` None is a tombstone."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None


@dataclass(frozen=True, slots=True)
class MemberMetadata:
    """A member as it is saved when a generation became stable. Times are ms."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class GroupState:
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    current_state_timestamp_ms: int  # -1: not known
    members: tuple[MemberMetadata, ...]


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """Key type 2. `state` None is a tombstone."""

    group_id: str
    state: GroupState | None


def encode_key(record: OffsetCommit | GroupMetadata) -> bytes:
    raise NotImplementedError


def encode_value(record: OffsetCommit | GroupMetadata) -> bytes | None:
    raise NotImplementedError


def decode(key_type: int, key: bytes, value: bytes | None) -> OffsetCommit | GroupMetadata | None:
    """None for a type that this version does not know. Raises CorruptRecord."""
    raise NotImplementedError
