"""Members of consumer groups, whichever protocol they speak: how they come, are kept track of, and go.

Timers, by group and member; each ends the membership:
    session      nothing was heard of it
    rebalance    it did not give up in time what it shall not have any more
    join, sync   a classic member did not join in time when it was asked to, or did not fetch its assignment after that
"""

from collections.abc import Sequence
from dataclasses import replace

from quorumlog.wire.errors import ClusterError, ErrorCode

from .consumer_checks import LEAVE_STATIC_EPOCH
from .consumer_group import ConsumerGroup, Member
from .consumer_migration import Migration
from .consumer_reconcile import Owned
from .consumer_records import UNREVOKED_PARTITIONS, CurrentAssignment, Subscription
from .consumer_update import GroupUpdates
from .context import Context
from .timers import NEVER, Key

TIMERS = ("session", "rebalance", "join", "sync")


class Members:
    """Owned by ConsumerGroups."""

    def __init__(self, context: Context, updates: GroupUpdates, migration: Migration) -> None:
        self._context = context
        self._updates = updates
        self._migration = migration
        self._timers = context.timers

    def group(self, group_id: str) -> ConsumerGroup:
        group = self._context.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            raise ClusterError(ErrorCode.group_id_not_found, f"Group {group_id} not found, or not a consumer group.")
        return group

    # --- coming

    def enter(self, group: ConsumerGroup, known: Member | None, member_id: str, subscription: Subscription) -> None:
        """A new member, one that tells something new of itself, or one that takes the place of a static member."""
        if known is not None and (known.member_id != member_id or known.position.epoch == LEAVE_STATIC_EPOCH):
            self.cancel_timers(group, known)
            self._updates.replace_static(group, known, member_id)
        told_before = group.members[member_id].subscription if member_id in group.members else None
        self._updates.subscribe(group.group_id, member_id, subscription, told_before)

    def follow(self, group: ConsumerGroup, *, forced: bool) -> None:
        """What the members and the topics ask for: a new epoch, and a target for it."""
        self.advance(group, forced=forced)
        self._updates.assign(group)

    def advance(self, group: ConsumerGroup, *, forced: bool) -> None:
        changed = self._updates.refresh_patterns(group)
        self._updates.advance_epoch(group, forced=forced or changed)

    def reconcile(self, group: ConsumerGroup, member: Member, owned: Owned, now: float) -> None:
        before = member.position
        after = self._updates.reconcile(group, member, owned)
        if after is not before and not member.is_classic:
            if after.state == UNREVOKED_PARTITIONS:
                self._begin_revocation(group, member, now)
            else:
                self.cancel("rebalance", group, member)

    # --- going

    def pause(self, group: ConsumerGroup, member: Member) -> None:
        """A static member restarts: what it has stays its own until its session is over. What it was giving up it has not
        any more."""
        assigned = {topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in member.position.assigned.items()}
        position = replace(member.position, epoch=LEAVE_STATIC_EPOCH, assigned=assigned, revoking={})
        self._context.journal.log(CurrentAssignment(group.group_id, member.member_id, position))
        self.cancel("rebalance", group, member)

    def remove(self, group: ConsumerGroup, members: Sequence[Member], now: float) -> None:
        for member in members:
            self.cancel_timers(group, member)
        leaving = {member.member_id for member in members}
        if self._migration.may_downgrade(group, leaving):
            self.downgrade(group, leaving, now, rebalance=True)
            return
        for member in members:
            self._updates.remove(group, member)
        self.advance(group, forced=True)

    def downgrade(self, group: ConsumerGroup, leaving: set[str], now: float, *, rebalance: bool) -> None:
        for member in group.members.values():
            self.cancel_timers(group, member)
        self._migration.downgrade(group, leaving, now, rebalance=rebalance)

    # --- time

    def on_loaded(self, group: ConsumerGroup, now: float) -> None:
        for _, member in sorted(group.members.items()):
            self.begin_session(group, member, now)
            if member.position.state == UNREVOKED_PARTITIONS:
                self._begin_revocation(group, member, now)

    def on_timer(self, key: Key, now: float) -> None:
        _, _, group_id, member_id = key
        group = self.group(str(group_id))
        self.remove(group, [group.member(str(member_id))], now)

    def begin_session(self, group: ConsumerGroup, member: Member, now: float) -> None:
        classic = member.subscription.classic
        config = self._context.config_of(group.group_id)
        timeout_ms = config.group_consumer_session_timeout_ms if classic is None else classic.session_timeout_ms
        self._timers.set(_key("session", group, member), now + timeout_ms / 1000)

    def begin(self, kind: str, group: ConsumerGroup, member: Member, now: float) -> None:
        """It has as long as a rebalance may take in its eyes."""
        self._timers.set(_key(kind, group, member), now + member.subscription.rebalance_timeout_ms / 1000)

    def begin_if_absent(self, kind: str, group: ConsumerGroup, member: Member, now: float) -> None:
        if self._timers.deadline(_key(kind, group, member)) == NEVER:
            self.begin(kind, group, member, now)

    def cancel(self, kind: str, group: ConsumerGroup, member: Member) -> None:
        self._timers.cancel(_key(kind, group, member))

    def cancel_timers(self, group: ConsumerGroup, member: Member) -> None:
        for kind in TIMERS:
            self.cancel(kind, group, member)

    def _begin_revocation(self, group: ConsumerGroup, member: Member, now: float) -> None:
        self.begin("rebalance", group, member, now)


def _key(kind: str, group: ConsumerGroup, member: Member) -> Key:
    return ("consumer", kind, group.group_id, member.member_id)
