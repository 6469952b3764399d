"""How a classic group gets from one generation to the next.

prepare -> all members join, or the rebalance timeout passes -> complete_join -> the leader syncs -> assign
                                                             -> the rebalance timeout passes -> expire_sync -> prepare
"""

from typing import NamedTuple

from quorumlog.wire.errors import ErrorCode

from .classic_group import ClassicGroup, State
from .classic_member import ClassicMember
from .classic_replies import join_error, joined, sync_error, synced
from .classic_timers import begin_session, join_key, session_key, sync_key
from .codec import encode_record
from .context import Context
from .records import GroupMetadata

NOBODY_JOINED_WAIT_MIN_MS = 1_000


class Moment(NamedTuple):
    """`now` counts for deadlines (monotonic, seconds), `wall_ms` is written into records."""

    now: float
    wall_ms: int


class Rebalancer:
    """Owned by the shard's ClassicGroups."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._timers = context.timers
        self._journal = context.journal

    # --- joining

    def prepare_or_complete(self, group: ClassicGroup, moment: Moment) -> None:
        """A member came or changed."""
        if group.state is State.PREPARING:
            self.complete_if_all_joined(group, moment)
        else:
            self.prepare(group, moment)

    def prepare(self, group: ClassicGroup, moment: Moment) -> None:
        """All members are to join again, as their heartbeats tell them."""
        if group.state is State.COMPLETING:
            self._interrupt_syncs(group, moment, ErrorCode.rebalance_in_progress)
        self._end_sync_wait(group)
        group.is_initial = group.is_empty
        group.state = State.PREPARING
        if group.is_initial:
            self._begin_initial_delay(group, moment)
        elif group.all_joined:
            self.complete_join(group, moment)
        else:
            self._await_joins(group, moment)

    def complete_if_all_joined(self, group: ClassicGroup, moment: Moment) -> None:
        """But an initial rebalance takes its time, since more members are likely to come."""
        if group.state is State.PREPARING and not group.is_initial and group.all_joined:
            self.complete_join(group, moment)

    def complete_join(self, group: ClassicGroup, moment: Moment) -> None:
        """Who has not joined is out, except static members, who are expected back within their sessions."""
        self._timers.cancel(join_key(group.group_id))
        for member in [m for m in group.members.values() if m.join_waiter is None and not m.is_static]:
            self.remove(group, member)
        if not group.members:
            self._journal.log(GroupMetadata(group.group_id, group.saved_empty(moment.wall_ms)))
        elif group.elect_joined_leader():
            self._begin_generation(group, moment)
        else:
            # Static members alone, none of whom is back: until their sessions end. They may have no patience at all.
            self._await_joins(group, moment, least_ms=NOBODY_JOINED_WAIT_MIN_MS)

    def expire_join(self, group: ClassicGroup, moment: Moment) -> None:
        """The time for joining has passed; the initial delay is extended while members come, up to their rebalance timeout."""
        if not (group.is_initial and group.new_member_added and group.initial_remaining_ms):
            self.complete_join(group, moment)
            return
        group.new_member_added = False
        passed_ms = group.initial_delay_ms
        group.initial_delay_ms = min(self._initial_delay_ms(group), group.initial_remaining_ms)
        group.initial_remaining_ms = max(group.initial_remaining_ms - passed_ms, 0)
        self._timers.set(join_key(group.group_id), moment.now + group.initial_delay_ms / 1000)

    def _begin_initial_delay(self, group: ClassicGroup, moment: Moment) -> None:
        group.new_member_added = False
        group.initial_delay_ms = self._initial_delay_ms(group)
        group.initial_remaining_ms = max(group.rebalance_timeout_ms - group.initial_delay_ms, 0)
        self._timers.set(join_key(group.group_id), moment.now + group.initial_delay_ms / 1000)

    def _initial_delay_ms(self, group: ClassicGroup) -> int:
        return self._context.config_of(group.group_id).group_initial_rebalance_delay_ms

    def _await_joins(self, group: ClassicGroup, moment: Moment, *, least_ms: int = 0) -> None:
        timeout_ms = max(group.rebalance_timeout_ms, least_ms)
        self._timers.set(join_key(group.group_id), moment.now + timeout_ms / 1000)

    def _begin_generation(self, group: ClassicGroup, moment: Moment) -> None:
        group.begin_generation()
        for member in group.members.values():
            waiter = group.end_join(member)
            if waiter is not None:
                self._journal.reply(waiter, joined(group, member))
            member.is_new = False
            begin_session(self._timers, group, member, moment.now)
        self._timers.set(sync_key(group.group_id), moment.now + group.rebalance_timeout_ms / 1000)

    # --- syncing

    def assign(self, group: ClassicGroup, assignments: dict[str, bytes], moment: Moment) -> None:
        """The leader has decided: log it, and tell those who wait. Who asks later is told then."""
        record = GroupMetadata(group.group_id, group.saved(moment.wall_ms, assignments))
        if not self.fits(record):
            self._interrupt_syncs(group, moment, ErrorCode.unknown_server_error)
            self.prepare(group, moment)
            return
        self._journal.log(record)
        for member in group.members.values():
            if member.sync_waiter is not None:
                self._journal.reply(member.sync_waiter, synced(group, member))
                member.sync_waiter = None
                begin_session(self._timers, group, member, moment.now)

    def fits(self, record: GroupMetadata) -> bool:
        """Can the log take it? Subscriptions and assignments are as large as members want them."""
        logged = encode_record(record)
        return len(logged.key) + len(logged.value or b"") <= self._context.record_bytes_max

    def on_synced(self, group: ClassicGroup, member: ClassicMember) -> None:
        """The member has asked for its assignment."""
        group.pending_syncs.discard(member.member_id)
        if not group.pending_syncs:
            self._timers.cancel(sync_key(group.group_id))

    def expire_sync(self, group: ClassicGroup, moment: Moment) -> None:
        """Who did not ask for its assignment in time is out."""
        late = [member for member in group.members.values() if member.member_id in group.pending_syncs]
        if not late:
            return
        for member in late:
            self.remove(group, member)
        self.prepare(group, moment)

    def _interrupt_syncs(self, group: ClassicGroup, moment: Moment, code: ErrorCode) -> None:
        for member in group.members.values():
            member.assignment = b""
            if member.sync_waiter is not None:
                self._journal.reply(member.sync_waiter, sync_error(code))
                member.sync_waiter = None
                begin_session(self._timers, group, member, moment.now)

    def _end_sync_wait(self, group: ClassicGroup) -> None:
        group.pending_syncs.clear()
        self._timers.cancel(sync_key(group.group_id))

    # --- members

    def remove(self, group: ClassicGroup, member: ClassicMember, code: ErrorCode = ErrorCode.unknown_member_id) -> None:
        """Whatever it waits for is answered first: if it lives, it joins anew."""
        self.dismiss(group, member, code, answer_to="")
        group.remove(member.member_id)

    def dismiss(self, group: ClassicGroup, member: ClassicMember, code: ErrorCode, *, answer_to: str) -> None:
        """Its requests and its session end."""
        waiter = group.end_join(member)
        if waiter is not None:
            self._journal.reply(waiter, join_error(code, answer_to))
        if member.sync_waiter is not None:
            self._journal.reply(member.sync_waiter, sync_error(code))
            member.sync_waiter = None
        self._timers.cancel(session_key(group.group_id, member.member_id))

    def remove_pending(self, group: ClassicGroup, member_id: str) -> None:
        """Of an id that was given out and not used."""
        group.remove(member_id)
        self._timers.cancel(session_key(group.group_id, member_id))

    def expire_session(self, group: ClassicGroup, member_id: str, moment: Moment) -> None:
        member = group.members.get(member_id)
        if member is not None and member.is_excused:
            return  # its session begins anew when it is answered
        if member is None:
            self.remove_pending(group, member_id)
        else:
            self.remove(group, member)
        if member is not None and group.state in (State.STABLE, State.COMPLETING):
            self.prepare(group, moment)
        elif group.state is State.PREPARING and group.all_joined:
            self.complete_join(group, moment)
