"""What the nodes of both clusters are told alike."""

from concurrent.futures import ThreadPoolExecutor

from quorumlog.testing import LocalCluster
from tests.clients.kafka_peer import KafkaCluster


class Nodes:
    """`Cluster`, but for where the data lie and how nodes are started."""

    def __init__(self, cluster: LocalCluster | KafkaCluster, node_ids: tuple[int, ...], started_at: float) -> None:
        self._nodes = cluster
        self._node_ids = node_ids
        self.bootstrap_servers, self.started_at = cluster.bootstrap_servers, started_at

    def pids(self) -> list[int]:
        return [pid for node in self._node_ids if (pid := self._nodes.pid(node)) is not None]

    def kill(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self._nodes.kill(node_id)

    def stop(self, *node_ids: int) -> None:
        with ThreadPoolExecutor(len(node_ids)) as pool:
            list(pool.map(self._nodes.stop, node_ids))

    def pause(self, node_id: int) -> None:
        self._nodes.pause(node_id)

    def resume(self, node_id: int) -> None:
        self._nodes.resume(node_id)
