"""What the cluster has committed of one partition: it only ever grows."""

from uuid import UUID

from quorumlog.wire.batches import BatchHeader
from quorumlog.wire.records import Record


class Ledger:
    """Made when the first replica shows; outlives all of them, until the topic is deleted."""

    def __init__(self, key: tuple[UUID, int]) -> None:
        self.key = key
        self.headers: list[BatchHeader] = []
        self.bases: list[int] = []
        self.last: dict[bytes, Record] = {}  # of each key, where only that has to stay
        self.events: dict[bytes, int] = {}  # by id, where events that come again are dropped
        self.repeated: list[tuple[bytes, int, int]] = []  # events that are there twice, and where
        self.excuse: str | None = None  # why nothing more can be asked of it

    @property
    def end(self) -> int:
        return self.headers[-1].next_offset if self.headers else 0

    def continues_with(self, header: BatchHeader) -> bool:
        return not self.headers or header.base_offset == self.end

    def append(self, header: BatchHeader) -> None:
        self.headers.append(header)
        self.bases.append(header.base_offset)

    def note_last(self, records: list[Record]) -> None:
        for record in records:
            if record.key is not None:
                self.last[record.key] = record

    def note_events(self, records: list[Record]) -> None:
        for record in records:
            for name, value in record.headers:
                if name == "event-id" and value is not None:
                    first = self.events.setdefault(value, record.offset)
                    if first != record.offset:
                        self.repeated.append((value, first, record.offset))

    def at(self, offset: int) -> BatchHeader | None:
        """The first batch that ends behind `offset`."""
        return next((header for header in self.headers if header.next_offset > offset), None)
