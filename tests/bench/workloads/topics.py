"""Topics of the workloads: three replicas; segments so small that they are rolled, and old ones so few that they are removed."""

import itertools

from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
REPLICAS = 3
TIMEOUT_S = 300  # thousands of partitions at once
KEPT = {
    "min.insync.replicas": "2",
    "segment.bytes": str(64 << 20),
    "file.delete.delay.ms": "1000",  # Kafka's minute would keep what is deleted on the disk until the next phase
}
ROLLING = KEPT | {"retention.bytes": str(256 << 20)}
_numbers = itertools.count(1)


def new_topic(bootstrap: str, partitions: int = PARTITIONS, config: dict[str, str] = ROLLING) -> str:
    name = f"bench-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=REPLICAS, config=config)
    admin.create_topics([topic], operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S)[name].result(TIMEOUT_S)
    return name
