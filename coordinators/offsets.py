"""The offsets that groups committed: how far each has read each partition."""

from quorumlog.metadata.image import Image

from .context import Context
from .records import OffsetCommit
from .results import Request
from .timers import Key


class Offsets:
    def __init__(self, context: Context) -> None:
        self._context = context

    def replay(self, record: OffsetCommit) -> None:
        raise NotImplementedError

    def on_loaded(self, now: float) -> None:
        raise NotImplementedError

    def commit(self, request: Request, now: float, wall_ms: int) -> None:
        raise NotImplementedError

    def fetch(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def delete(self, request: Request, now: float) -> None:
        raise NotImplementedError

    def delete_group(self, group_id: str) -> None:
        raise NotImplementedError

    def on_image(self, old: Image, image: Image, now: float) -> None:
        raise NotImplementedError

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        raise NotImplementedError
