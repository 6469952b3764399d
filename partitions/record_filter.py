"""What a compaction leaves of a batch.

The last record of each key stays; a deletion (a record without a value) stays for `delete.retention.ms` after the first pass that
met it, which writes that time into the batch (the delete horizon of KIP-534). Offsets, base sequence and last offset of a batch
never change, so that positions of readers and sequences of producers mean what they meant. A batch of which nothing is left goes,
unless something must be learned from it later: then its header stays, without records. That is so of
- the last batch of a producer that is known yet: its next sequence follows from it;
- the first batch of each leader epoch: whoever copies the log, or rebuilds what is known of it, learns where epochs begin;
- the last batch before a segment's end: the log goes on from there without a hole.
A mark of a transaction stays whole then: who replays the log must understand it.
"""

from collections.abc import Sequence

from quorumlog.wire.batches import DELETE_HORIZON, HEADER_SIZE, NO_TIMESTAMP, BatchHeader, Buffer
from quorumlog.wire.compression import decompress
from quorumlog.wire.records import Slice, record_slices, timestamp_delta, with_timestamp_delta
from quorumlog.wire.rewriting import emptied, newest_timestamp, rebuilt

from .cleaned_transactions import CleanedTransactions
from .cleaning import CleaningJob
from .offset_map import OffsetMap


class RecordFilter:
    """Owned by one pass over a log; batches come in order."""

    def __init__(self, job: CleaningJob, seen: OffsetMap, *, end_offset: int) -> None:
        self._job = job
        self._seen = seen
        self._end_offset = end_offset  # the map knows what is before
        self.transactions = CleanedTransactions(job.aborted)
        self._epoch_starts = frozenset(job.epoch_starts)
        self._producers = {one.producer_id: one for one in job.producers}
        self.records_read = 0
        self.records_kept = 0

    def left_of(self, header: BatchHeader, batch: Buffer, *, is_last: bool) -> Buffer | None:
        """The batch as it is to be from now on, None if it goes. `is_last`: before the end of its new segment."""
        data = bytes(self._payload(header, batch))
        slices = list(record_slices(data, header))
        kept, is_idle_mark = self._kept(header, slices)
        self.records_read += len(slices)
        self.records_kept += len(kept)
        if not kept:
            if not is_last and not self._is_needed(header):
                return None
            return batch if header.is_control or not slices else emptied(header)
        has_deletions = is_idle_mark or (not header.is_control and not all(has_value for _, _, has_value, _, _ in kept))
        if has_deletions and header.delete_horizon_ms == NO_TIMESTAMP:
            return _with_horizon(header, data, kept, self._job.now_ms + self._job.delete_retention_ms)
        if len(kept) == len(slices):
            return batch
        return rebuilt(
            header,
            b"".join([data[start:end] for _, _, _, start, end in kept]),
            record_count=len(kept),
            newest_timestamp=_newest(header, data, kept),
        )

    def _payload(self, header: BatchHeader, batch: Buffer) -> Buffer:
        payload = memoryview(batch)[HEADER_SIZE : header.size]
        if not header.record_count:  # an emptied batch has no payload, compressed or not
            return payload
        return decompress(header.compression, payload, bytes_max=self._job.decompressed_bytes_max)

    def _kept(self, header: BatchHeader, slices: list[Slice]) -> tuple[list[Slice], bool]:
        """The records that stay, and whether they are the mark of a transaction that has none left."""
        is_over = NO_TIMESTAMP < header.delete_horizon_ms <= self._job.now_ms
        if header.is_control:
            is_idle = self.transactions.is_idle(header, slices[0][1] if slices else None)
            return ([] if is_idle and is_over else slices), is_idle
        if self.transactions.is_aborted(header):
            return [], False
        base, end, get = header.base_offset, self._end_offset, self._seen.get
        kept = []
        for one in slices:
            delta, key, has_value, _, _ = one
            offset = base + delta
            if offset >= end or (key is not None and (has_value or not is_over) and offset >= get(key)):
                kept.append(one)
        return kept, False

    def _is_needed(self, header: BatchHeader) -> bool:
        if header.base_offset in self._epoch_starts:
            return True
        producer = self._producers.get(header.producer_id)
        if producer is None:
            return False
        if producer.last_offset >= 0:
            return header.last_offset == producer.last_offset
        return header.is_control and header.producer_epoch == producer.epoch


def _with_horizon(header: BatchHeader, data: bytes, kept: Sequence[Slice], horizon_ms: int) -> bytes:
    """The horizon takes the place of the base timestamp: all others are counted from it instead."""
    shift = header.base_timestamp - horizon_ms
    records = [with_timestamp_delta(data, start, end, timestamp_delta(data, start)[0] + shift) for _, _, _, start, end in kept]
    newest = _newest(header, data, kept)
    header = header._replace(attributes=header.attributes | DELETE_HORIZON, base_timestamp=horizon_ms)
    return rebuilt(header, b"".join(records), record_count=len(records), newest_timestamp=newest)


def _newest(header: BatchHeader, data: bytes, kept: Sequence[Slice]) -> int:
    return newest_timestamp(header, data, (start for _, _, _, start, _ in kept))
