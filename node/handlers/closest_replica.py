"""Which replica a consumer should read from: one in its own rack, if that is in sync and the leader stands elsewhere (KIP-392).

Only where `replica.selector.class` says so, as in Kafka; else everybody reads from the leader.
"""

from quorumlog.partitions.partition import Partition
from quorumlog.wire.fetch import FetchPartition

from ..config import RACK_AWARE_SELECTOR
from ..services import Services


class ClosestReplica:
    """Lives while one fetch of a client that told its rack is in work."""

    def __init__(self, rack: str, racks: dict[int, str | None]) -> None:
        self._rack = rack
        self._racks = racks  # of the brokers that serve

    @classmethod
    def of(cls, services: Services, rack: str) -> "ClosestReplica | None":
        if not rack or services.config.replica_selector_class != RACK_AWARE_SELECTOR:
            return None
        image = services.image
        return cls(rack, {node: broker.rack for node, broker in image.brokers.items() if image.is_live(node)})

    def replica_for(self, partition: Partition, wanted: FetchPartition) -> int | None:
        """The node to go to instead of the leader, which we are; None to stay."""
        if self._racks.get(partition.node_id) == self._rack:
            return None
        if not partition.log_start_offset <= wanted.fetch_offset <= partition.high_watermark:
            return None  # to be told so by us
        return next((node for node in partition.read_replicas(wanted.fetch_offset) if self._racks.get(node) == self._rack), None)
