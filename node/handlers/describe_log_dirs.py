# DescribeLogDirs, v1 to v5
# v2: flexible    v3: error of the whole request    v4: size of the volume    v5: whether new replicas are kept out
"""Tells how much the replicas on this node take of its one directory."""

from collections.abc import Iterable, Iterator
from typing import Any

from quorumlog.partitions.partition import Partition
from quorumlog.wire.errors import ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_describe_log_dirs(services: Services, call: Call) -> Body:
    total_bytes, usable_bytes = services.volume()
    directory = {
        "error_code": ErrorCode.none,
        "log_dir": services.config.data_dir,
        "topics": list(_topics(_wanted(services, call.message.topics))),
        "total_bytes": total_bytes,
        "usable_bytes": usable_bytes,
    }
    return {"results": [directory]}


def _wanted(services: Services, topics: Iterable[Any] | None) -> list[Partition]:
    """All replicas here, or those of them that were asked for, in order."""
    here = sorted(services.replicas.partitions.items())
    if topics is None:
        return [partition for _, partition in here]
    named = {(topic.topic, number) for topic in topics for number in topic.partitions}
    return [partition for tp, partition in here if tp in named]


def _topics(partitions: Iterable[Partition]) -> Iterator[dict[str, Any]]:
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for partition in partitions:
        by_topic.setdefault(partition.tp.topic, []).append(
            {
                "partition_index": partition.tp.partition,
                "partition_size": partition.size,
                "offset_lag": max(0, partition.high_watermark - partition.log_end_offset),
                "is_future_key": False,
            }
        )
    yield from ({"name": name, "partitions": described} for name, described in by_topic.items())


API = Api(key=35, versions=range(1, 6), handle=handle_describe_log_dirs)
