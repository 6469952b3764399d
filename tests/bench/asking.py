"""Questions to a cluster that librdkafka does not ask, in Kafka's protocol: they work on every contestant."""

import time
from collections.abc import Iterable

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.cluster.leaders import leaders_of
from tests.cluster.raw import RawConnection

METADATA_LOG = {"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}
POLL_S = 0.05
ELECTION_PAUSE_S = 0.5


def active_controller(bootstrap: str, timeout_s: float = 30.0) -> int:
    """The node that leads the metadata quorum, as some node tells."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for address in bootstrap.split(","):
            try:
                with RawConnection(address, timeout_s=2) as node:
                    answer = node.ask("describe_quorum", 0, topics=[METADATA_LOG])
                leader = answer.topics[0].partitions[0].leader_id if answer.topics else -1
            except OSError:
                continue
            if leader >= 0:
                return int(leader)
        time.sleep(POLL_S)
    raise TimeoutError(f"no controller within {timeout_s:g} s")


def preferred_leaders(bootstrap: str, topic: str) -> dict[int, int]:
    """Partition -> the node that leads it while all is well."""
    metadata = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3}).list_topics(topic, timeout=10)
    return {index: partition.replicas[0] for index, partition in metadata.topics[topic].partitions.items()}


def elect_preferred(bootstrap: str, topic: str, partitions: Iterable[int]) -> None:
    """Give leadership back to the preferred replicas."""
    wanted = [TopicPartition(topic, partition) for partition in partitions]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})  # by name: it must live until the answer is there
    admin.elect_leaders(ElectionType.PREFERRED, wanted).result(30)


def restore_leaders(bootstrap: str, topic: str, preferred: dict[int, int], timeout_s: float = 60.0) -> None:
    """Until everybody leads what is theirs; asked again because a replica that has just fallen out of sync is not elected."""
    deadline = time.monotonic() + timeout_s
    while (leaders := leaders_of(bootstrap, topic)) != preferred:
        if time.monotonic() > deadline:
            raise TimeoutError(f"led by {leaders}, not by {preferred}, after {timeout_s:g} s")
        elect_preferred(bootstrap, topic, preferred)
        time.sleep(ELECTION_PAUSE_S)
