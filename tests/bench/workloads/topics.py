"""Topics of the workloads: three replicas; segments so small that they are rolled, and old ones so few that they are removed."""

import itertools

from tests.events import create_topic

PARTITIONS = 6
ROLLING = {
    "min.insync.replicas": "2",
    "segment.bytes": str(64 << 20),
    "retention.bytes": str(256 << 20),
    "file.delete.delay.ms": "1000",  # Kafka's minute would keep what is deleted on the disk until the next phase
}
KEPT = {"min.insync.replicas": "2", "segment.bytes": str(64 << 20), "file.delete.delay.ms": "1000"}
_numbers = itertools.count(1)


def new_topic(bootstrap: str, partitions: int = PARTITIONS, config: dict[str, str] | None = None) -> str:
    name = f"bench-{next(_numbers)}"
    create_topic(bootstrap, name, partitions=partitions, config=config or ROLLING)
    return name
