"""What a compaction knows of transactions, as it reads the log from its beginning: whose records to drop, which marks to keep.

Records of an aborted transaction go at once. The mark that ended it stays until they all went, and then for `delete.retention.ms`
more: a reader between the two must still learn that they were aborted. An emptied batch of a transaction counts like one with
records: without a mark behind it the transaction would seem to be open. Source: KIP-98, KIP-534.
"""

import struct
from collections import deque
from collections.abc import Sequence

from quorumlog.wire.batches import BatchHeader

from .aborted import AbortedTransaction

ABORT = 0
_MARK = struct.Struct(">hh")  # version, type: the key of a mark


class CleanedTransactions:
    """Owned by one pass over a log. Batches are told in their order."""

    def __init__(self, aborted: Sequence[AbortedTransaction]) -> None:
        self._coming = deque(sorted(aborted, key=lambda one: (one.first_offset, one.producer_id)))
        self._open: dict[int, AbortedTransaction] = {}  # aborted ones that we are in the middle of, by producer
        self._seen: dict[int, None] = {}  # producers of these whose records are still there
        self._committed: dict[int, None] = {}  # producers with records that no mark was met of yet

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether a batch of records belongs to an aborted transaction."""
        self._advance(header)
        if not header.is_transactional:
            return False
        if header.producer_id in self._open:
            self._seen[header.producer_id] = None
            return True
        self._committed[header.producer_id] = None
        return False

    def is_idle(self, header: BatchHeader, key: bytes | None) -> bool:
        """Whether a mark ends a transaction of which no record is left."""
        self._advance(header)
        producer_id = header.producer_id
        if key is None or len(key) < _MARK.size:  # emptied by another broker: Kafka does that, we do not
            self._open.pop(producer_id, None)
            return True
        if _MARK.unpack_from(key)[1] != ABORT:
            return self._committed.pop(producer_id, False) is False
        is_known = self._open.pop(producer_id, None) is not None
        return not is_known or self._seen.pop(producer_id, False) is False

    def _advance(self, header: BatchHeader) -> None:
        while self._coming and self._coming[0].first_offset <= header.last_offset:
            aborted = self._coming.popleft()
            if aborted.last_offset >= header.base_offset:  # not over before a pass over the dirty part alone began
                self._open[aborted.producer_id] = aborted
