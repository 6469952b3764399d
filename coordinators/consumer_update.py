"""The steps by which a consumer group follows its members and topics, each logged at once:

subscribe -> refresh_patterns -> advance_epoch -> assign -> reconcile
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from uuid import UUID

from quorumlog.metadata.image import Image

from .assignors import ASSIGNORS, Candidate
from .consumer_checks import JOIN_EPOCH
from .consumer_group import ConsumerGroup, Member
from .consumer_reconcile import Owned, next_position
from .consumer_records import (
    ConsumerGroupMetadata,
    CurrentAssignment,
    GroupMember,
    PartitionMetadata,
    Position,
    Resolved,
    ResolvedRegex,
    Subscription,
    TargetAssignment,
    TargetEpoch,
)
from .context import Context
from .regex import TopicPatterns


class GroupUpdates:
    """Owned by ConsumerGroups."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._log = context.journal.log
        self.patterns = TopicPatterns()

    # --- members

    def subscribe(self, group_id: str, member_id: str, subscription: Subscription, known: Subscription | None) -> None:
        if subscription != known:
            self._log(GroupMember(group_id, member_id, subscription))

    def remove(self, group: ConsumerGroup, member: Member) -> None:
        """In Kafka's order: a member goes with its subscription."""
        self._log(CurrentAssignment(group.group_id, member.member_id, None))
        self._log(TargetAssignment(group.group_id, member.member_id, None))
        self._log(GroupMember(group.group_id, member.member_id, None))

    def replace_static(self, group: ConsumerGroup, old: Member, new_id: str) -> None:
        """The instance goes on under another id, with all that it had."""
        target = group.targets.get(old.member_id, {})
        position = replace(old.position, epoch=JOIN_EPOCH, previous_epoch=JOIN_EPOCH)
        subscription = old.subscription
        self.remove(group, old)
        self._log(GroupMember(group.group_id, new_id, subscription))
        self._log(TargetAssignment(group.group_id, new_id, target))
        self._log(CurrentAssignment(group.group_id, new_id, position))

    # --- the group

    def refresh_patterns(self, group: ConsumerGroup) -> bool:
        """Regular expressions that nobody uses any more go; the others match the topics that there are. Did any topic change?"""
        image = self._context.image
        changed = False
        for regex in sorted(group.resolved.keys() - group.readers.keys()):
            self._log(ResolvedRegex(group.group_id, regex, None))
            changed = True
        for regex in sorted(group.readers):
            topics = self.patterns.topics(regex, image)
            known = group.resolved.get(regex)
            if known is None or known.topics != topics:
                self._log(ResolvedRegex(group.group_id, regex, Resolved(topics, image.index)))
                changed = True
        return changed

    def advance_epoch(self, group: ConsumerGroup, *, forced: bool) -> None:
        """A new epoch, if the members or what they read changed (`forced`), or the topics that they read."""
        image = self._context.image
        if not forced and group.checked_topics is image.topics:
            return
        metadata_hash = group.hash_in(image)
        if forced or metadata_hash != group.metadata_hash:
            self._log(ConsumerGroupMetadata(group.group_id, group.epoch + 1, metadata_hash))
            if group.has_partition_metadata:
                self._log(PartitionMetadata(group.group_id, exists=False))
        group.checked_topics = image.topics

    def assign(self, group: ConsumerGroup) -> None:
        """A target for each member, once in each epoch."""
        if group.target_epoch >= group.epoch:
            return
        candidates, counts = _candidates(group, self._context.image)
        targets = ASSIGNORS[self.assignor_of(group)](candidates, counts)
        for member_id, target in sorted(targets.items()):
            had = group.targets.get(member_id)
            if had is not target and had != target:
                self._log(TargetAssignment(group.group_id, member_id, target))
        self._log(TargetEpoch(group.group_id, group.epoch))

    def assignor_of(self, group: ConsumerGroup) -> str:
        """The one that most members ask for; the first that is configured, if none asks."""
        configured = [name for name in self._context.config_of(group.group_id).group_consumer_assignors if name in ASSIGNORS]
        asked = Counter(member.subscription.assignor for member in group.members.values())
        return max(configured or ASSIGNORS, key=lambda name: asked[name])

    def reconcile(self, group: ConsumerGroup, member: Member, owned: Owned) -> Position:
        """Its next position, logged if it is another one."""
        member_id = member.member_id
        position = next_position(
            member.position,
            target_epoch=group.target_epoch,
            target=group.targets.get(member_id, {}),
            owned=owned,
            is_free=lambda topic_id, partition: group.owner(topic_id, partition) in (None, member_id),
        )
        if position is not member.position:
            self._log(CurrentAssignment(group.group_id, member_id, position))
        return position


def _candidates(group: ConsumerGroup, image: Image) -> tuple[list[Candidate], dict[UUID, int]]:
    counts: dict[UUID, int] = {}

    @cache
    def readable(names: tuple[str, ...], regex: str) -> frozenset[UUID]:
        topics = [image.topics.get(name) for name in group.topics_of(Subscription(topic_names=names, topic_regex=regex))]
        found = {topic.topic_id: len(topic.partitions) for topic in topics if topic is not None}
        counts.update(found)
        return frozenset(found)

    candidates = [
        Candidate(
            member.member_id,
            member.subscription.instance_id,
            readable(member.subscription.topic_names, member.subscription.topic_regex),
            group.targets.get(member.member_id, {}),
        )
        for member in group.members.values()
    ]
    return candidates, counts
