"""One partition of `__consumer_offsets` that this node leads, with the groups in it and the transactions that commit offsets.

A transaction's offsets are records of its producer in the same partition; the marker that ends it is appended here too, because
the groups have to hear of it in the order of the log.
"""

from collections.abc import Callable
from uuid import UUID

from quorumlog.coordinators.results import Result, Waiter
from quorumlog.coordinators.shard import GroupShard
from quorumlog.host.ports import Clock
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image
from quorumlog.partitions.partition import Partition

from . import coordinator_shard
from .coordinator_shard import LOAD_BYTES, State
from .replicas import Replicas

__all__ = ["LOAD_BYTES", "LedShard", "Operation", "State"]

Operation = Callable[[GroupShard, Waiter], Result]


class LedShard(coordinator_shard.LedShard[GroupShard]):
    def __init__(
        self,
        partition: Partition,
        replicas: Replicas,
        clock: Clock,
        *,
        image: Callable[[], Image],
        config_of: Callable[[str], GroupConfig],
        new_uuid: Callable[[], UUID],
        load_later: Callable[["LedShard"], None],
    ) -> None:
        super().__init__(
            partition,
            replicas,
            clock,
            image=image,
            make_shard=lambda newest: GroupShard(newest, config_of=config_of, new_uuid=new_uuid),
            commit_timeout_s=config_of("").offsets_commit_timeout_ms / 1000,
            load_later=lambda _: load_later(self),
        )

    def end_transaction(self, append: Callable[[Partition], bool], producer_id: int, *, is_commit: bool) -> None:
        """Have the marker appended, and tell the groups. Raises the ClusterError that keeps either from being done."""
        self._check_serves()
        self._check_writable()
        if append(self.partition):
            self._shard.replay_end(producer_id, is_commit=is_commit)
