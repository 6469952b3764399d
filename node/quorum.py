"""The metadata quorum as this node runs it: storage, thread and streams put together, its events brought to the loop."""

from collections.abc import Callable

from quorumlog.raft.config import QuorumConfig

from .cluster import ClusterView
from .config import NodeConfig

COMMAND_BYTES_MAX = 8 << 20


def quorum_config(config: NodeConfig) -> QuorumConfig:
    return QuorumConfig(
        node_id=config.node_id,
        voters=tuple(config.voter_addresses),
        election_timeout_min_s=config.election_timeout_min_ms / 1000,
        election_timeout_max_s=config.election_timeout_max_ms / 1000,
        heartbeat_s=config.raft_heartbeat_ms / 1000,
        snapshot_every_entries=config.snapshot_every_entries,
        command_bytes_max=COMMAND_BYTES_MAX,
        append_batch_bytes=COMMAND_BYTES_MAX + (1 << 16),
    )


class QuorumEvents:
    """Hears the quorum on its own thread, and tells the cluster view and the controller on the loop."""

    def __init__(self, cluster: ClusterView, deliver: Callable[[Callable[[], None]], None]) -> None:
        self._cluster = cluster
        self._deliver = deliver
        self.activate: Callable[[int], None] = lambda _term: None
        self.deactivate: Callable[[], None] = lambda: None

    def on_active(self, term: int) -> None:
        self._deliver(lambda: self.activate(term))

    def on_inactive(self) -> None:
        self._deliver(self.deactivate)

    def on_leader(self, leader: int | None, term: int) -> None:
        self._deliver(lambda: self._cluster.on_leader(leader, term))
