"""What compaction leaves."""

from quorumlog.wire.records import Record

from .copies import Copy
from .model import Model
from .sight import Invariant, News


class CompactionKeepsLast(Invariant):
    """Of each key the last committed record is in every replica's log as it was written, unless it deletes the key; and nothing
    is in a log that was not written there.

    Looked at after each compaction, and at the end.
    """

    name = "compaction-keeps-last"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for copy in news.copies:
            if copy.is_keyed and copy.swaps != copy.swaps_judged:
                copy.swaps_judged = copy.swaps
                self._check(copy)

    def finish(self) -> None:
        for key in self._model.states:
            for copy in self._model.copies.get(key, {}).values():
                if copy.is_keyed and not copy.is_frozen:
                    self._check(copy)

    def _check(self, copy: Copy) -> None:
        if copy.ledger.excuse is not None or self._model.is_doubtful(copy) or copy.fault is not None:
            return
        held = {record.offset: record for number in range(len(copy.headers)) for record in copy.records_of(number)}
        for key, last in copy.ledger.last.items():
            if copy.stand.log_start <= last.offset < copy.stand.high_watermark:
                self._check_last(copy, key, last, held.get(last.offset))

    def _check_last(self, copy: Copy, key: bytes, last: Record, found: Record | None) -> None:
        if found is None and last.value is None:
            return
        if found is None or (found.key, found.value, found.timestamp) != (last.key, last.value, last.timestamp):
            raise self.broken(f"{copy}: the last record of {key!r} is {last}, and at its offset there is {found}")
