"""Offsets that transactions have committed and nothing has decided yet: they count from the moment at which their producer's
transaction ends well, unless a later offset for the same partition has come to count before.

    TxnOffsetCommit -> pending, by producer -> COMMIT marker -> committed
                                            -> ABORT marker  -> gone

"Later" is by the order of the log, in which all of this is replayed.
"""

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

StoredT = TypeVar("StoredT")


class Place(NamedTuple):
    group_id: str
    topic: str
    partition: int


class PendingOffsets(Generic[StoredT]):
    """Owned by the offsets of a shard."""

    def __init__(self) -> None:
        self._by_producer: dict[int, dict[Place, tuple[int, StoredT | None]]] = {}  # order and offset; None: outdone
        self._producers: dict[str, dict[int, None]] = {}  # with something pending, by group
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._by_producer)

    def __contains__(self, place: Place) -> bool:
        return any(place in self._by_producer[producer_id] for producer_id in self._producers.get(place.group_id, ()))

    def has_group(self, group_id: str) -> bool:
        return group_id in self._producers

    def places(self, group_id: str | None = None) -> list[Place]:
        """All, or those of a group."""
        producers = self._by_producer if group_id is None else self._producers.get(group_id, ())
        found = {place: None for producer_id in producers for place in self._by_producer[producer_id]}
        return [place for place in found if group_id in (None, place.group_id)]

    def add(self, producer_id: int, place: Place, stored: StoredT) -> None:
        self._order += 1
        self._by_producer.setdefault(producer_id, {})[place] = (self._order, stored)
        self._producers.setdefault(place.group_id, {})[producer_id] = None

    def outdo(self, place: Place, *, before: int | None = None) -> None:
        """A newer offset counts: of those that are pending, none that is older (than the one of this order) ever will."""
        for producer_id in self._producers.get(place.group_id, ()):
            offsets = self._by_producer[producer_id]
            if place in offsets and (before is None or offsets[place][0] < before):
                offsets[place] = (offsets[place][0], None)

    def forget(self, place: Place) -> None:
        """The place was deleted."""
        for producer_id in list(self._producers.get(place.group_id, ())):
            offsets = self._by_producer[producer_id]
            if offsets.pop(place, None) is not None and not any(one.group_id == place.group_id for one in offsets):
                self._drop_group(place.group_id, producer_id)
            if not offsets:
                del self._by_producer[producer_id]

    def end(self, producer_id: int, *, is_commit: bool) -> Iterator[tuple[Place, StoredT]]:
        """The producer's transaction has ended; what counts by that."""
        offsets = self._by_producer.pop(producer_id, {})
        for group_id in {place.group_id: None for place in offsets}:
            self._drop_group(group_id, producer_id)
        for place, (order, stored) in offsets.items():
            if is_commit and stored is not None:
                self.outdo(place, before=order)
                yield place, stored

    def _drop_group(self, group_id: str, producer_id: int) -> None:
        producers = self._producers.get(group_id, {})
        producers.pop(producer_id, None)
        if not producers:
            self._producers.pop(group_id, None)
