"""A bound on the bytes that all clients together make a node hold."""

from typing import Generic, TypeVar

Owner = TypeVar("Owner")


class Budget(Generic[Owner]):
    """Owned by the Kafka listener: one for requests that are not handled yet, one for answers that are not taken yet.

    Past the bound the owner has to go that has held something for longest without progress. Who only wants to fill our memory
    becomes that sooner or later, in many small pieces as in few large ones; who works with us does not, however much it holds
    at the moment.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._held: dict[Owner, int] = {}  # longest without progress first

    @property
    def is_exceeded(self) -> bool:
        return self.bytes > self.bytes_max

    @property
    def room(self) -> int:
        """What one more may take: half of what is left, so that there is something left for the next."""
        return max(0, self.bytes_max - self.bytes) // 2

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Who holds anything, the one without progress for longest first."""
        return tuple(self._held)

    def hold(self, owner: Owner, size: int, *, progress: bool = False) -> None:
        """From now on the owner holds `size` bytes; `progress` if some of what it held before is done with."""
        before = self._held.get(owner, 0)
        if progress or not size:
            self._held.pop(owner, None)
        if size:
            self._held[owner] = size
        self.bytes += size - before
