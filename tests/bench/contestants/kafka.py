"""Apache Kafka: three combined KRaft nodes with stock settings, but for the replication that the work demands."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.bench.contestants import Cluster, Contestant, Networked, Site, networks
from tests.bench.contestants.nodes import Nodes
from tests.bench.machine import java_version
from tests.chaos.network import Network
from tests.clients import cache
from tests.clients.kafka_peer import KafkaCluster, Setup

SETTINGS = {"default.replication.factor": "3", "min.insync.replicas": "2"}
# What Kafka's own start scripts give: bin/kafka-server-start.sh (heap), bin/kafka-run-class.sh (the rest).
HEAP = ("-Xmx1G", "-Xms1G")
JVM = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
READY_TIMEOUT_S = 600.0  # a restart after a kill reads every log
TOLD = "stock settings and JVM options, heap 1 GB a node, replication factor 3, min.insync.replicas=2; nothing is fsynced"


class StockKafka(Nodes):
    def __init__(self, cluster: KafkaCluster) -> None:
        super().__init__(cluster, tuple(cluster.node_ids), cluster.started_at)
        self._cluster = cluster

    def data_dirs(self) -> list[Path]:
        return [self._cluster.data_dir(node) for node in self._cluster.node_ids]

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self._cluster.start(node_id, wait=False)
        self._cluster.wait_ready()


class NetworkedKafka:
    def __init__(self, cluster: KafkaCluster, network: Network) -> None:
        self._network = network
        self.bootstrap_servers = cluster.bootstrap_servers

    def cut(self, node_id: int) -> None:
        self._network.isolate(node_id)

    def mend(self, node_id: int) -> None:
        self._network.heal()


def contestant(site: Site) -> Contestant:
    place = site.cores.command_prefix
    setup = Setup(SETTINGS, (*HEAP, *JVM), lambda _: place, ready_timeout_s=READY_TIMEOUT_S)

    @contextmanager
    def fresh() -> Iterator[Cluster]:
        with KafkaCluster(3, setup=setup, parent=site.directory) as cluster:
            yield StockKafka(cluster)

    @contextmanager
    def networked() -> Iterator[Networked]:
        with closing(Network((1, 2, 3))) as network:
            setup = Setup(SETTINGS, (*HEAP, *JVM), lambda node: [*network.command_prefix(node), *place], network.address)
            with KafkaCluster(3, setup=setup, parent=site.directory) as cluster:
                yield NetworkedKafka(cluster, network)

    return Contestant(
        "kafka", f"{cache.kafka_version()} ({java_version()})", TOLD, fresh, networked if networks.offered() else None
    )
