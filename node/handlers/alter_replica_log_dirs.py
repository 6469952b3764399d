# AlterReplicaLogDirs, v1 to v2
# v2: flexible
"""Moves replicas between the directories of this node, of which there is one: who asks for that one has what was wanted."""

from typing import Any

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from ..dispatch import Api, Body, Call
from ..services import Services


def handle_alter_replica_log_dirs(services: Services, call: Call) -> Body:
    # Each partition once: the last directory that is named for it counts, as in Kafka.
    wanted = {
        TopicPartition(topic.name, number): directory.path
        for directory in call.message.dirs
        for topic in directory.topics
        for number in topic.partitions
    }
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for tp, path in wanted.items():
        answer = {"partition_index": tp.partition, "error_code": _move(services, tp, path)}
        by_topic.setdefault(tp.topic, []).append(answer)
    return {"results": [{"topic_name": name, "partitions": answers} for name, answers in by_topic.items()]}


def _move(services: Services, tp: TopicPartition, path: str) -> ErrorCode:
    if path != services.config.data_dir:
        return ErrorCode.log_dir_not_found
    try:
        services.replicas.get(tp, services.image)
    except ClusterError as error:
        # As Kafka has said since before there was the other code.
        is_elsewhere = error.code is ErrorCode.not_leader_or_follower
        return ErrorCode.replica_not_available if is_elsewhere else error.code
    return ErrorCode.none


API = Api(key=34, versions=range(1, 3), handle=handle_alter_replica_log_dirs)
