"""What is wrong with a ConsumerGroupHeartbeat, in the order in which Apache Kafka looks at it."""

from collections.abc import Collection
from typing import NoReturn

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

from .consumer_group import ConsumerGroup, Member
from .consumer_reconcile import Owned
from .consumer_records import UNKNOWN_STATE

LEAVE_EPOCH = -1
LEAVE_STATIC_EPOCH = -2
JOIN_EPOCH = 0
MEMBER_ID_VERSION = 1  # from here on the client makes the member id


def check_request(message: Struct, version: int, assignors: Collection[str]) -> None:
    epoch = message.member_epoch
    if (version >= MEMBER_ID_VERSION or epoch > 0 or epoch == LEAVE_EPOCH) and not message.member_id.strip():
        _refuse("MemberId can't be empty.")
    for name, value in (("GroupId", message.group_id), ("InstanceId", message.instance_id), ("RackId", message.rack_id)):
        if value is not None and not value.strip():
            _refuse(f"{name} can't be empty.")
    if epoch == JOIN_EPOCH:
        _check_join(message)
    elif epoch == LEAVE_STATIC_EPOCH and message.instance_id is None:
        _refuse("InstanceId can't be null.")
    elif epoch < LEAVE_STATIC_EPOCH:
        _refuse(f"MemberEpoch {epoch} is invalid.")
    if message.server_assignor is not None and message.server_assignor not in assignors:
        raise ClusterError(
            ErrorCode.unsupported_assignor,
            f"ServerAssignor {message.server_assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )


def _check_join(message: Struct) -> None:
    if message.rebalance_timeout_ms == -1:
        _refuse("RebalanceTimeoutMs must be provided in first request.")
    if message.topic_partitions is None or message.topic_partitions:
        _refuse("TopicPartitions must be empty when (re-)joining.")
    if message.subscribed_topic_names is None and message.subscribed_topic_regex is None:
        _refuse("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")


def _refuse(reason: str) -> NoReturn:
    raise ClusterError(ErrorCode.invalid_request, reason)


def check_size(group: ConsumerGroup, member_id: str, size_max: int) -> None:
    if len(group.members) >= size_max and member_id not in group.members:
        raise ClusterError(
            ErrorCode.group_max_size_reached, f"The consumer group has reached its maximum capacity of {size_max} members."
        )


def check_epoch(member: Member, epoch: int, owned: Owned) -> None:
    """One that knows an older epoch may not have heard of the new one, if it has nothing that it should not have. One that
    joins (epoch 0) has given up everything."""
    known = member.position
    if known.state == UNKNOWN_STATE and (owned is None or owned):
        _fence(f"Member {member.member_id} is in an unknown state.")
    if epoch == JOIN_EPOCH or epoch == known.epoch:
        return
    if epoch > known.epoch:
        _fence(f"The consumer group member has a greater member epoch ({epoch}) than the one known ({known.epoch}).")
    if epoch != known.previous_epoch or not _is_part(owned, member):
        _fence(f"The consumer group member has a smaller member epoch ({epoch}) than the one known ({known.epoch}).")


def _is_part(owned: Owned, member: Member) -> bool:
    if owned is None:
        return False
    assigned = member.position.assigned
    return all(partition in assigned.get(topic_id, {}) for topic_id, held in owned.items() for partition in held)


def _fence(reason: str) -> NoReturn:
    raise ClusterError(ErrorCode.fenced_member_epoch, f"{reason} The member must abandon all its partitions and rejoin.")


def static_member_of(group: ConsumerGroup, instance_id: str, member_id: str) -> Member:
    """The member by which an instance is known, if it goes by this id."""
    member = group.static_member(instance_id)
    if member is None:
        raise ClusterError(ErrorCode.unknown_member_id, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        raise ClusterError(
            ErrorCode.fenced_instance_id,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {member.member_id}.",
        )
    return member


def check_released(member: Member, member_id: str) -> None:
    """May the instance go on under this new id? Not before the process that had it has left, or its session is over."""
    if member.member_id != member_id and member.position.epoch != LEAVE_STATIC_EPOCH:
        raise ClusterError(
            ErrorCode.unreleased_instance_id,
            f"Static member {member_id} with instance id {member.subscription.instance_id} cannot join the group because "
            f"the instance id is owned by member {member.member_id}.",
        )
