"""Who leads what, as a client and as the nodes themselves tell it."""

import collections
import time
import urllib.request

from confluent_kafka.admin import AdminClient

from quorumlog.testing import LocalCluster


def leaders_of(bootstrap: str, topic: str) -> dict[int, int]:
    """Partition -> leading node, -1 for none."""
    metadata = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=10)
    return {index: partition.leader for index, partition in metadata.topics[topic].partitions.items()}


def in_sync_of(bootstrap: str, topic: str) -> dict[int, list[int]]:
    metadata = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=10)
    return {index: sorted(partition.isrs) for index, partition in metadata.topics[topic].partitions.items()}


def busiest_leader(bootstrap: str, topic: str) -> int:
    """The node that leads most partitions, the lowest id of several."""
    counts = collections.Counter(leaders_of(bootstrap, topic).values())
    return min(counts, key=lambda node: (-counts[node], node))


def metric(http: str, name: str) -> float:
    """One metric without labels, from a node's /metrics."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=2) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                return float(line.rpartition(" ")[2])
    raise KeyError(name)


def active_controller(cluster: LocalCluster, timeout_s: float = 10.0) -> int:
    """The node that is the active controller, which leads the Raft quorum."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for node in cluster.nodes:
            try:
                if metric(node.http, "quorumlog_controller_active") == 1:
                    return node.node_id
            except OSError:
                continue
        time.sleep(0.02)
    raise TimeoutError(f"no active controller within {timeout_s} s")


def wait_in_sync(bootstrap: str, topic: str, replicas: int = 3, timeout_s: float = 30.0) -> float:
    """Wait until every partition has all its replicas in sync; the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        if all(len(isr) == replicas for isr in in_sync_of(bootstrap, topic).values()):
            return time.monotonic() - started
        time.sleep(0.05)
    raise TimeoutError(f"not in sync after {timeout_s} s: {in_sync_of(bootstrap, topic)}")
