"""What the parts of one shard share: classic groups, consumer groups (KIP-848) and offsets decide on the same state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image

from .codec import Record
from .journal import Journal
from .timers import Timers


class Group(Protocol):
    """What offsets, listing and deletion need of a group, whichever protocol its members speak."""

    group_id: str

    @property
    def type_name(self) -> str:
        """ "classic" or "consumer", as ListGroups v5 has it."""
        ...

    @property
    def protocol_type(self) -> str: ...

    @property
    def state_name(self) -> str:
        """As in Kafka: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead; Assigning, Reconciling."""
        ...

    @property
    def is_empty(self) -> bool:
        """No members."""
        ...

    @property
    def has_protocol(self) -> bool:
        """False for a group that only ever had offsets committed for it ("simple" consumers with assigned partitions)."""
        ...

    def check_commit(self, *, member_id: str, instance_id: str | None, generation: int, version: int) -> None:
        """Raises the ClusterError with which OffsetCommit is refused (KIP-848: `generation` is the epoch)."""
        ...

    def check_transactional_commit(self, *, member_id: str, instance_id: str | None, generation: int) -> None:
        """Raises the ClusterError with which TxnOffsetCommit is refused; who says nothing of himself is not asked."""
        ...

    def check_fetch(self, *, member_id: str | None, member_epoch: int) -> None:
        """Raises the ClusterError with which OffsetFetch is refused."""
        ...

    def subscribed_topics(self) -> frozenset[str] | None:
        """What its members read, whose offsets must stay; None if that cannot be told."""
        ...

    def empty_since_ms(self) -> int | None:
        """Wall time at which the last member left, ms; None if there are members, or it is not known."""
        ...

    def tombstones(self) -> Sequence[Record]:
        """What takes the group, which is empty, out of the log and out of the Context; its offsets have records of their own."""
        ...


@dataclass(slots=True)
class Context:
    """Owned by the GroupShard; `image` is replaced by each newer one."""

    image: Image
    config_of: Callable[[str], GroupConfig]
    """The settings that count for a group, by its id."""
    new_uuid: Callable[[], UUID]
    journal: Journal[Record]
    record_bytes_max: int = 1_000_000
    """Key and value of one record together: what is larger cannot be logged, and must be refused before it is decided."""
    timers: Timers = field(default_factory=Timers)
    groups: dict[str, Group] = field(default_factory=dict)
