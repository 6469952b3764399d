"""The deadlines of classic groups: each member's session, and what the group itself waits for."""

from .classic_group import ClassicGroup
from .classic_member import ClassicMember
from .timers import Key, Timers

NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000  # a client that gave up joining tries anew: its earlier attempts must go away some time


def session_key(group_id: str, member_id: str) -> Key:
    return ("classic", "session", group_id, member_id)


def join_key(group_id: str) -> Key:
    return ("classic", "join", group_id)


def sync_key(group_id: str) -> Key:
    return ("classic", "sync", group_id)


def begin_session(timers: Timers, group: ClassicGroup, member: ClassicMember, now: float) -> None:
    """The member was heard of, or could not be heard of so far. Committing offsets counts, but while a sync is awaited."""
    timeout_ms = NEW_MEMBER_JOIN_TIMEOUT_MS if member.is_new else member.session_timeout_ms
    timers.set(session_key(group.group_id, member.member_id), now + timeout_ms / 1000)


def cancel_all(timers: Timers, group: ClassicGroup) -> None:
    """The group is no more."""
    timers.cancel(join_key(group.group_id))
    timers.cancel(sync_key(group.group_id))
    for member_id in (*group.members, *sorted(group.pending_joins)):
        timers.cancel(session_key(group.group_id, member_id))
