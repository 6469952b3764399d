"""The two clusters that the scenarios run on: ours, and Apache Kafka as the reference."""

from pathlib import Path
from typing import Any, Protocol, Self

from confluent_kafka.admin import AdminClient

from quorumlog.testing import LocalCluster
from tests.clients.kafka_peer import SETTINGS, KafkaCluster
from tests.cluster.raw import bugs_in
from tests.cluster.segments import segment_files


class Peer(Protocol):
    """Three nodes with the ids 1 to 3. The settings of both are those that a test cannot wait for, and no others."""

    name: str
    bootstrap_servers: str
    admin: Any

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...
    def kill(self, node_id: int) -> None: ...
    def start(self, node_id: int) -> None: ...
    def log(self, node_id: int) -> str: ...
    def segments(self, topic: str, partition: int) -> list[Path]: ...
    def bugs(self) -> list[str]:
        """What the nodes have logged that only a mistake of theirs explains."""
        ...


class _Nodes:
    """What both do alike."""

    _cluster: LocalCluster | KafkaCluster

    def __enter__(self) -> Self:
        self._cluster.__enter__()
        self.bootstrap_servers = self._cluster.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        return self

    def __exit__(self, *error: Any) -> None:
        self._cluster.__exit__(*error)

    def kill(self, node_id: int) -> None:
        self._cluster.kill(node_id)

    def start(self, node_id: int) -> None:
        self._cluster.start(node_id)

    def log(self, node_id: int) -> str:
        return self._cluster.log(node_id)


class Quorumlog(_Nodes):
    name = "quorumlog"

    def __init__(self) -> None:
        settings = {name.replace(".", "_"): value for name, value in SETTINGS.items() if name.startswith(("group.", "offsets."))}
        self._cluster = LocalCluster(nodes=3, settings=settings | {"leader_rebalance_interval_s": 0, "num_partitions": 2})

    def segments(self, topic: str, partition: int) -> list[Path]:
        return segment_files(self._cluster.nodes[0].data_dir, topic, partition)

    def bugs(self) -> list[str]:
        return list(bugs_in(self._cluster))


class Kafka(_Nodes):
    name = "Apache Kafka"

    def __init__(self) -> None:
        self._cluster = KafkaCluster(settings={"num.partitions": "2", "auto.leader.rebalance.enable": "false"})

    def segments(self, topic: str, partition: int) -> list[Path]:
        return self._cluster.segments(topic, partition)

    def bugs(self) -> list[str]:
        return []


PEERS: dict[str, type[Quorumlog] | type[Kafka]] = {"quorumlog": Quorumlog, "kafka": Kafka}
