"""Groups whose members speak the protocol of KIP-848: the coordinator assigns, members reconcile by heartbeats."""

from quorumlog.metadata.image import Image

from .consumer_records import ConsumerRecord
from .context import Context
from .results import Body, Request
from .timers import Key


class ConsumerGroups:
    def __init__(self, context: Context) -> None:
        self._context = context

    def takes(self, request: Request) -> bool:
        """Does this request of the classic protocol name a group of ours (a member that has not been upgraded yet)?"""
        return False

    def replay(self, record: ConsumerRecord) -> None:
        raise NotImplementedError

    def on_loaded(self, now: float) -> None:
        raise NotImplementedError

    def heartbeat(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_join(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_sync(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_heartbeat(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def classic_leave(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def describe(self, group_id: str) -> Body:
        raise NotImplementedError

    def on_image(self, old: Image, image: Image, now: float) -> None:
        raise NotImplementedError

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        raise NotImplementedError
