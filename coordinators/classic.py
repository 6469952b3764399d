"""Groups whose members speak the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup."""

from .context import Context
from .records import GroupMetadata
from .results import Body, Request
from .timers import Key


class ClassicGroups:
    def __init__(self, context: Context) -> None:
        self._context = context

    def replay(self, record: GroupMetadata) -> None:
        raise NotImplementedError

    def on_loaded(self, now: float, wall_ms: int) -> None:
        raise NotImplementedError

    def join(self, request: Request, now: float, wall_ms: int) -> None:
        raise NotImplementedError

    def sync(self, request: Request, now: float, wall_ms: int) -> None:
        raise NotImplementedError

    def heartbeat(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def leave(self, request: Request, now: float, wall_ms: int) -> None:
        raise NotImplementedError

    def describe(self, group_id: str) -> Body:
        raise NotImplementedError

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        raise NotImplementedError
