"""From the start of three processes to ready, and to the first acknowledged record: an empty cluster, and one with full logs.

Full logs are restarted after a clean stop and after kill -9 of all. Ready is what each says of itself: ours /readyz, Kafka its
open port. Our cold start contains the formatting of the data directories, Kafka's does not. Logs of more than a few gigabytes are
kept in small segments, of which all but the newest become holes: a disk need not be as large as what is restarted.
"""

import time
from collections.abc import Callable

from confluent_kafka import Producer

from tests.bench.contestants import Cluster, Contestant
from tests.bench.figures import MIB, Figure, S
from tests.bench.meters import resident_mib
from tests.bench.workloads import Bench
from tests.bench.workloads.filling import PORTION_MB, fill_sparsely
from tests.bench.workloads.topics import KEPT, new_topic

NODES = (1, 2, 3)
ACKNOWLEDGED_TIMEOUT_S = 120.0
IN_SMALL_SEGMENTS = KEPT | {"segment.bytes": str(2 << 20)}


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    with contestant.fresh() as cluster:
        ready_at = time.monotonic()
        small = new_topic(cluster.bootstrap_servers, 1, KEPT)
        figures = _figures("empty cluster", cluster, small, cluster.started_at, ready_at)
        config = IN_SMALL_SEGMENTS if bench.scale.stored_mb > PORTION_MB else KEPT
        topic = new_topic(cluster.bootstrap_servers, bench.scale.partitions, config)
        fill_sparsely(cluster, bench, topic, bench.scale.partitions, bench.scale.stored_mb)
        stored = f"{bench.scale.stored_mb / 1e3:g} GB in {bench.scale.partitions:,} partitions"
        figures += _restarted(f"{stored}, after a clean stop", cluster, topic, cluster.stop)
        return figures + _restarted(f"{stored}, after kill -9 of all", cluster, topic, cluster.kill)


def _restarted(case: str, cluster: Cluster, topic: str, end: Callable[..., None]) -> list[Figure]:
    end(*NODES)
    started_at = time.monotonic()
    cluster.start(*NODES)
    return _figures(case, cluster, topic, started_at, time.monotonic())


def _figures(case: str, cluster: Cluster, topic: str, started_at: float, ready_at: float) -> list[Figure]:
    acknowledged_at = _first_acknowledged(cluster.bootstrap_servers, topic)
    return [
        Figure(case, "to ready", S, ready_at - started_at),
        Figure(case, "to the first acknowledged record", S, acknowledged_at - started_at),
        Figure(case, "resident memory", MIB, resident_mib(cluster.pids())),
    ]


def _first_acknowledged(bootstrap: str, topic: str) -> float:
    """When a record of partition 0 was acknowledged."""
    answers: list[tuple[object, float]] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 3})
    producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: answers.append((error, time.monotonic())))
    producer.flush(ACKNOWLEDGED_TIMEOUT_S)
    if not answers or answers[0][0] is not None:
        raise RuntimeError(f"no record of {topic} was acknowledged: {answers}")
    return answers[0][1]
