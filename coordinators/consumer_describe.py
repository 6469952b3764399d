"""A consumer group as ConsumerGroupDescribe shows it."""

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ErrorCode

from .consumer_group import ConsumerGroup, Member
from .consumer_records import Partitions
from .results import Body

CLASSIC_MEMBER, CONSUMER_MEMBER = range(2)


def not_found(group_id: str) -> Body:
    return {
        "group_id": group_id,
        "error_code": ErrorCode.group_id_not_found,
        "error_message": f"Group {group_id} not found, or not a consumer group.",
    }


def described(group: ConsumerGroup, assignor: str, image: Image) -> Body:
    return {
        "group_id": group.group_id,
        "group_state": group.state_name,
        "group_epoch": group.epoch,
        "assignment_epoch": group.target_epoch,
        "assignor_name": assignor,
        "members": [_described_member(group, member, image) for _, member in sorted(group.members.items())],
    }


def _described_member(group: ConsumerGroup, member: Member, image: Image) -> Body:
    subscription = member.subscription
    return {
        "member_id": member.member_id,
        "instance_id": subscription.instance_id,
        "rack_id": subscription.rack_id,
        "member_epoch": member.position.epoch,
        "client_id": subscription.client_id,
        "client_host": subscription.client_host,
        "subscribed_topic_names": list(subscription.topic_names),
        "subscribed_topic_regex": subscription.topic_regex,
        "assignment": _assignment(_held(member), image),
        "target_assignment": _assignment(group.targets.get(member.member_id, {}), image),
        "member_type": CLASSIC_MEMBER if member.is_classic else CONSUMER_MEMBER,
    }


def _held(member: Member) -> Partitions:
    """With what it was told to give up: it has that still."""
    held: Partitions = {}
    for epochs in (member.position.assigned, member.position.revoking):
        for topic_id, partitions in epochs.items():
            held[topic_id] = (*held.get(topic_id, ()), *partitions)
    return held


def _assignment(partitions: Partitions, image: Image) -> Body:
    """Of topics that are no more nothing can be told, for they have no name."""
    return {
        "topic_partitions": [
            {"topic_id": topic_id, "topic_name": name, "partitions": sorted(indexes)}
            for topic_id, indexes in sorted(partitions.items())
            if (name := image.topic_names.get(topic_id)) is not None
        ]
    }
