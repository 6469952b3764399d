"""Topics are created, grown and deleted."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import NO_TOPIC_ID

from .broker_config import broker_value
from .configs import checked
from .draft import Draft
from .image import PartitionState, Topic
from .placement import Placer, Replicas
from .records import ConfigRecord, PartitionRecord, RemoveTopic, ResourceKind, TopicRecord
from .requests import (
    ConfigEntry,
    CreatedTopic,
    CreatePartitions,
    CreatePartitionsReply,
    CreateTopics,
    CreateTopicsReply,
    DeletedTopic,
    DeleteTopics,
    DeleteTopicsReply,
    NewPartitions,
    NewTopic,
    PartitionAssignment,
    TopicReference,
    TopicResult,
)
from .settings import setting_named
from .topic_config import TOPIC_SETTINGS, check_topic_config

NAME_LENGTH_MAX = 249  # so that "<name>-<partition>" fits a file name
NAME = re.compile(r"[a-zA-Z0-9._-]+")
USE_DEFAULT = -1
METADATA_TOPIC = "__cluster_metadata"  # Kafka's tools know the quorum by this name


# --- names


def check_name(name: str) -> None:
    """Raises INVALID_TOPIC_EXCEPTION unless Kafka would take it."""
    if name in ("", ".", "..") or len(name) > NAME_LENGTH_MAX or not NAME.fullmatch(name):
        raise ClusterError(
            ErrorCode.invalid_topic_exception,
            f"topic name {name[:NAME_LENGTH_MAX]!r} of length {len(name)}; allowed are 1 to {NAME_LENGTH_MAX} "
            "of a-z A-Z 0-9 . _ -, but not '.' and not '..'",
        )


def _collision_key(name: str) -> str:
    """Names that differ only in '.' and '_' would get the same metric names."""
    return name.replace(".", "_")


class Names:
    """The names that are taken, for the time of one request."""

    def __init__(self, names: Iterable[str]) -> None:
        self._taken = {_collision_key(name): name for name in names}

    def check_free(self, name: str) -> None:
        """Raises TOPIC_ALREADY_EXISTS, or INVALID_TOPIC_EXCEPTION for one that is too much like another."""
        holder = self._taken.get(_collision_key(name))
        if holder == name:
            raise ClusterError(ErrorCode.topic_already_exists, f"topic {name!r} already exists")
        if holder is not None:
            raise ClusterError(
                ErrorCode.invalid_topic_exception, f"topic name {name!r} differs from {holder!r} only in '.' and '_'"
            )

    def take(self, name: str) -> None:
        self._taken[_collision_key(name)] = name


# --- creating


class Partitions:
    """Makes the partitions of one request, within its bounds."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._placer = Placer(draft.image)
        self._requested = 0
        self._in_cluster = sum(len(topic.partitions) for topic in draft.image.topics.values())

    def count(self, count: int) -> None:
        """Raises POLICY_VIOLATION if these are more than a request may ask for or a cluster may hold. Counts nothing then."""
        config = self._draft.config
        if self._requested + count > config.partitions_per_request_max:
            raise ClusterError(
                ErrorCode.policy_violation,
                f"{self._requested + count} partitions in one request; at most {config.partitions_per_request_max} are taken",
            )
        if self._in_cluster + self._requested + count > config.partitions_max:
            raise ClusterError(
                ErrorCode.policy_violation,
                f"{count} more partitions than {self._in_cluster + self._requested}; the cluster holds {config.partitions_max}",
            )
        self._requested += count

    def placed(self, existing: Iterable[Replicas], count: int, replication_factor: int) -> list[Replicas]:
        """Raises INVALID_REPLICATION_FACTOR if there are fewer brokers, or none is live."""
        if not 1 <= replication_factor <= self._placer.broker_count:
            raise ClusterError(
                ErrorCode.invalid_replication_factor,
                f"replication factor {replication_factor}; {self._placer.broker_count} brokers can take replicas, the least is 1",
            )
        self.count(count)
        return self._placer.place(existing, count, replication_factor)

    def add(self, topic_id: UUID, first: int, assignments: Iterable[Replicas]) -> None:
        """In sync are the live replicas, led by the first of them: there is nothing yet that one could miss."""
        for partition, replicas in enumerate(assignments, start=first):
            live = tuple(node for node in replicas if self._draft.may_lead(node))
            if not live:
                raise _bad_assignment(partition, replicas, "none of them is live")
            state = PartitionState(
                topic_id=topic_id,
                partition=partition,
                replicas=replicas,
                isr=tuple(sorted(live)),
                elr=(),
                leader=live[0],
                leader_epoch=0,
                partition_epoch=0,
            )
            self._draft.add(PartitionRecord(state))


def create_topics(draft: Draft, request: CreateTopics, new_uuid: Callable[[], UUID]) -> CreateTopicsReply:
    """Each topic has a result of its own. With `validate_only` the results say what would have been."""
    named = Counter(topic.name for topic in request.topics)
    names, partitions = Names(draft.image.topics), Partitions(draft)
    results = []
    for new in _each_once(request.topics):
        outcome = draft.attempt(
            lambda new=new: _create(draft, new, named[new.name], names, partitions, new_uuid),  # type: ignore[misc]
            keep=not request.validate_only,
        )
        results.append(_created(new, outcome, request.validate_only))
        if not isinstance(outcome, ClusterError):
            names.take(new.name)
    return CreateTopicsReply(tuple(results))


def _created(new: NewTopic, outcome: Topic | ClusterError, validate_only: bool) -> CreatedTopic:
    if isinstance(outcome, ClusterError):
        return CreatedTopic(new.name, NO_TOPIC_ID, outcome.code, outcome.message, -1, -1)
    topic_id = NO_TOPIC_ID if validate_only else outcome.topic_id
    replicas = len(outcome.partitions[0].replicas)
    return CreatedTopic(new.name, topic_id, ErrorCode.none, None, len(outcome.partitions), replicas)


def _create(
    draft: Draft, new: NewTopic, times_named: int, names: Names, partitions: Partitions, new_uuid: Callable[[], UUID]
) -> Topic:
    if times_named > 1:
        raise ClusterError(ErrorCode.invalid_request, f"topic {new.name[:NAME_LENGTH_MAX]!r} is named {times_named} times")
    check_name(new.name)
    if new.name == METADATA_TOPIC:
        raise ClusterError(ErrorCode.topic_authorization_failed, f"{METADATA_TOPIC} is the quorum's log, and no topic")
    names.check_free(new.name)
    configs = _checked_configs(new.configs)
    assignments = _assignments(draft, new, partitions)
    topic_id = new_uuid()
    draft.add(TopicRecord(new.name, topic_id))
    for key, value in configs.items():
        draft.add(ConfigRecord(ResourceKind.TOPIC, new.name, key, value))
    check_topic_config(draft.image, new.name, draft.config.broker_defaults)
    partitions.add(topic_id, 0, assignments)
    return draft.image.topics[new.name]


def _checked_configs(entries: Iterable[ConfigEntry]) -> dict[str, str]:
    """Raises INVALID_CONFIG."""
    return {entry.key: checked(setting_named(TOPIC_SETTINGS, entry.key), entry.value) for entry in entries}


def _assignments(draft: Draft, new: NewTopic, partitions: Partitions) -> list[Replicas]:
    if new.assignments is not None:
        return _given_assignments(draft, new, new.assignments, partitions)
    if new.replication_factor == 0 or new.replication_factor < USE_DEFAULT:
        raise ClusterError(
            ErrorCode.invalid_replication_factor,
            f"replication factor {new.replication_factor}; the least is 1, or -1 for the default",
        )
    if new.num_partitions == 0 or new.num_partitions < USE_DEFAULT:
        raise ClusterError(
            ErrorCode.invalid_partitions, f"{new.num_partitions} partitions; the least is 1, or -1 for the default"
        )
    count = _or_default(draft, new.num_partitions, "num.partitions")
    return partitions.placed((), count, _or_default(draft, new.replication_factor, "default.replication.factor"))


def _or_default(draft: Draft, number: int, name: str) -> int:
    return int(broker_value(draft.image, name, draft.config.broker_defaults)) if number == USE_DEFAULT else number


def _given_assignments(
    draft: Draft, new: NewTopic, given: tuple[PartitionAssignment, ...], partitions: Partitions
) -> list[Replicas]:
    if (new.num_partitions, new.replication_factor) != (USE_DEFAULT, USE_DEFAULT):
        raise ClusterError(
            ErrorCode.invalid_request, "with assignments, the number of partitions and the replication factor must be -1"
        )
    by_partition = {assignment.partition: assignment.replicas for assignment in given}
    if not given or sorted(assignment.partition for assignment in given) != list(range(len(given))):
        raise ClusterError(
            ErrorCode.invalid_replica_assignment, "assignments must name each partition from 0 on, without gap or repeat"
        )
    partitions.count(len(given))
    replicas = [by_partition[partition] for partition in range(len(given))]
    _check_assignments(draft, replicas, replication_factor=len(replicas[0]), first=0)
    return replicas


def _check_assignments(draft: Draft, assignments: list[Replicas], *, replication_factor: int, first: int) -> None:
    """Raises INVALID_REPLICA_ASSIGNMENT."""
    for partition, replicas in enumerate(assignments, start=first):
        if len(replicas) != replication_factor or not replicas:
            raise _bad_assignment(partition, replicas, f"expected {max(1, replication_factor)} replicas")
        if len(set(replicas)) < len(replicas):
            raise _bad_assignment(partition, replicas, "a broker is named twice")
        unknown = [node for node in replicas if node not in draft.image.brokers]
        if unknown:
            raise _bad_assignment(partition, replicas, f"broker {unknown[0]} is not registered")


def _bad_assignment(partition: int, replicas: Replicas, why: str) -> ClusterError:
    return ClusterError(ErrorCode.invalid_replica_assignment, f"partition {partition} on brokers {list(replicas)}: {why}")


New = TypeVar("New", NewTopic, NewPartitions)


def _each_once(topics: Iterable[New]) -> Iterable[New]:
    """A topic that is named twice has one result, as in Kafka; it is refused, whichever was meant."""
    return {topic.name: topic for topic in topics}.values()


# --- growing


def create_partitions(draft: Draft, request: CreatePartitions) -> CreatePartitionsReply:
    """Each topic has a result of its own."""
    named = Counter(topic.name for topic in request.topics)
    partitions = Partitions(draft)
    results = []
    for new in _each_once(request.topics):
        outcome = draft.attempt(
            lambda new=new: _grow(draft, new, named[new.name], partitions),  # type: ignore[misc]
            keep=not request.validate_only,
        )
        code, message = (ErrorCode.none, None) if outcome is None else (outcome.code, outcome.message)
        results.append(TopicResult(new.name, code, message))
    return CreatePartitionsReply(tuple(results))


def _grow(draft: Draft, new: NewPartitions, times_named: int, partitions: Partitions) -> None:
    if times_named > 1:
        raise ClusterError(ErrorCode.invalid_request, f"topic {new.name[:NAME_LENGTH_MAX]!r} is named {times_named} times")
    topic = draft.image.topics.get(new.name)
    if topic is None:
        raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no topic {new.name[:NAME_LENGTH_MAX]!r}")
    held = len(topic.partitions)
    if new.count <= held:
        raise ClusterError(
            ErrorCode.invalid_partitions, f"topic {new.name!r} has {held} partitions; {new.count} would not be more"
        )
    existing = [state.target for _, state in sorted(topic.partitions.items())]
    replication_factor = len(existing[0])
    if new.assignments is None:
        assignments = partitions.placed(existing, new.count - held, replication_factor)
    else:
        assignments = list(new.assignments)
        if len(assignments) != new.count - held:
            raise ClusterError(
                ErrorCode.invalid_replica_assignment, f"{len(assignments)} assignments for {new.count - held} new partitions"
            )
        partitions.count(len(assignments))
        _check_assignments(draft, assignments, replication_factor=replication_factor, first=held)
    partitions.add(topic.topic_id, held, assignments)


# --- deleting


def delete_topics(draft: Draft, request: DeleteTopics) -> DeleteTopicsReply:
    """Each topic has a result of its own."""
    return DeleteTopicsReply(tuple(_deleted(draft, reference) for reference in request.topics))


def _deleted(draft: Draft, reference: TopicReference) -> DeletedTopic:
    outcome = draft.attempt(lambda: _delete(draft, reference))
    if isinstance(outcome, ClusterError):
        return DeletedTopic(reference.name, reference.topic_id, outcome.code, outcome.message)
    return DeletedTopic(outcome.name, outcome.topic_id, ErrorCode.none, None)


def _delete(draft: Draft, reference: TopicReference) -> Topic:
    topic = _referenced(draft, reference)
    draft.add(RemoveTopic(topic.topic_id))
    return topic


def _referenced(draft: Draft, reference: TopicReference) -> Topic:
    """Raises UNKNOWN_TOPIC_OR_PARTITION for a name, UNKNOWN_TOPIC_ID for an id."""
    if reference.name is not None:
        topic = draft.image.topics.get(reference.name)
        if topic is None:
            raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no topic {reference.name[:NAME_LENGTH_MAX]!r}")
        return topic
    if reference.topic_id is None or reference.topic_id not in draft.image.topic_names:
        raise ClusterError(ErrorCode.unknown_topic_id, f"there is no topic with id {reference.topic_id}")
    return draft.image.topics[draft.image.topic_names[reference.topic_id]]
