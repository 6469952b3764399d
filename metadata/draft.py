"""A decision in the making: the image as it would be, and the records that make it so."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from quorumlog.wire.errors import ClusterError, ErrorCode

from .image import Broker, Image, PartitionState
from .records import Record
from .replay import replay
from .requests import Reply
from .topic_config import effective_min_isr, unclean_election_allowed

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    session_timeout_s: float = 2.0  # a broker that is silent for longer is fenced
    leader_rebalance_interval_s: float = 300.0  # between two rounds of moving leadership to preferred replicas; 0 is never
    leader_moves_max: int = 100  # in one round
    leader_moves_pause_s: float = 1.0  # between rounds while more than that many are to be moved
    partitions_per_request_max: int = 10_000
    partitions_max: int = 100_000  # in the cluster
    broker_defaults: Mapping[str, str] = field(default_factory=dict)  # static settings under Kafka's names


@dataclass(frozen=True, slots=True)
class Decision:
    """`reply` may leave once `records`, and all records of earlier decisions, are committed."""

    records: tuple[Record, ...]
    reply: Reply


class Draft:
    """Lives for one decision. The controller takes over its image and records at the end, or drops it."""

    def __init__(self, image: Image, config: ControllerConfig) -> None:
        self.image = image
        self.config = config
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.image = replay(self.image, record)
        self.records.append(record)

    def attempt(self, item: Callable[[], T], *, keep: bool = True) -> T | ClusterError:
        """Decide one item of a request. Its records are taken back if it is refused, or is not to be kept."""
        image, record_count = self.image, len(self.records)
        result: T | ClusterError
        try:
            result = item()
        except ClusterError as error:
            result = error
        if isinstance(result, ClusterError) or not keep:
            self.image = image
            del self.records[record_count:]
        return result

    # --- looking

    def registered(self, node_id: int, broker_epoch: int) -> Broker:
        """Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH."""
        broker = self.image.brokers.get(node_id)
        if broker is None:
            raise ClusterError(ErrorCode.broker_id_not_registered, f"broker {node_id} is not registered")
        if broker.broker_epoch != broker_epoch:
            raise ClusterError(
                ErrorCode.stale_broker_epoch, f"broker {node_id} came with epoch {broker_epoch}, held is {broker.broker_epoch}"
            )
        return broker

    def may_lead(self, node_id: int) -> bool:
        broker = self.image.brokers.get(node_id)
        return broker is not None and not broker.fenced and not broker.in_shutdown

    def partitions(self) -> Iterator[tuple[str, PartitionState]]:
        """All of them with their topic's name, in a fixed order, as they were when the iteration began."""
        for name, topic in sorted(self.image.topics.items()):
            for _, state in sorted(topic.partitions.items()):
                yield name, state

    def partitions_on(self, node_id: int) -> Iterator[tuple[str, PartitionState]]:
        return ((name, state) for name, state in self.partitions() if node_id in state.replicas)

    def min_isr(self, topic: str, state: PartitionState) -> int:
        """Counted over the replicas from before a reassignment: those it brings must not make commits wait for them."""
        return effective_min_isr(self.image, topic, len(state.original), self.config.broker_defaults)

    def unclean_election_allowed(self, topic: str) -> bool:
        return unclean_election_allowed(self.image, topic, self.config.broker_defaults)
