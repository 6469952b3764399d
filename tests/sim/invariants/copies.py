"""One replica's log, read from the bytes on its simulated disk: no production code reads them, and no read is counted."""

from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

from crc32c import crc32c

from quorumlog.partitions.partition import Damage, Partition, Role
from quorumlog.partitions.segment import Segment
from quorumlog.wire.batches import CRC_START, HEADER, HEADER_SIZE, BatchHeader
from quorumlog.wire.records import Record, iterate_records
from tests.sim.disk import SimDisk

from .ledger import Ledger

DECOMPRESSED_BYTES_MAX = 64 << 20


class Stand(NamedTuple):
    """Where a replica stands. Compared at every look, so no more than can change what is promised."""

    role: Role
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    proposal_count: int
    proposed_count: int
    high_watermark: int
    flushed_offset: int
    log_start: int
    log_end: int
    truncations: int
    damage: Damage | None


NOWHERE = Stand(Role.OFFLINE, -1, -1, (), 0, 0, 0, 0, 0, 0, 0, None)


class Copy:
    """A partition's replica in one process of a node; afterwards, what is known to be on its disk until the next one opens it.

    `headers` are those of all its batches, below and above the high watermark.
    """

    def __init__(self, node_id: int, life: int, partition: Partition, disk: SimDisk, ledger: Ledger) -> None:
        self.node_id = node_id
        self.life = life
        self.partition = partition
        self.key = (partition.topic_id, partition.tp.partition)
        self.ledger = ledger
        self.before: Stand | None = None
        self.stand = NOWHERE
        self.fault: str | None = None  # why the stored bytes could not be read
        self.is_frozen = False  # its process is gone
        self.is_anew = (
            True  # it did more than go on since the last time: its role, its damage, or what was read before is another
        )
        self.headers: list[BatchHeader] = []
        self._log = partition._log
        self._replica = partition._replica
        self._disk = disk
        self._places: list[tuple[str, int]] = []  # of each batch: its file, and where in it the batch ends
        self._seen: tuple[Any, ...] = ()
        self.swaps_judged = -1  # the compactions of this life that were looked at
        self._begin()

    def __str__(self) -> str:
        return f"{self.partition.tp} on node {self.node_id}"

    def _begin(self) -> None:
        """Nothing is read yet."""
        self.headers.clear()
        self._places.clear()
        self._base, self._position = -1, 0
        self._matched, self._ledger_index, self._durable = 0, 0, 0
        self._truncations, self._swaps = self._log.truncations, self._log.swaps

    # --- noticing

    def has_moved(self) -> bool:
        """True if the replica stands elsewhere than at the last call."""
        partition, log, replica = self.partition, self._log, self._replica
        seen = (
            partition.role,
            replica.leader_epoch,
            partition.partition_epoch,
            replica.isr,
            replica._proposal_count,
            len(replica._proposed),
            replica.high_watermark,
            replica.flushed_offset,
            log.start_offset,
            log.end_offset,
            log.truncations,
            partition.damage,
            log.swaps,
        )
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    def follow(self) -> None:
        """Take over the new stand, and read what was appended."""
        self.before = None if self.stand is NOWHERE else self.stand
        before, stand = self.before, Stand._make(self._seen[:-1])
        self.stand = stand
        self.is_anew = before is None or (before.role, before.leader_epoch) != (stand.role, stand.leader_epoch)
        self.is_anew |= before is not None and before.damage is not stand.damage
        was_cut = self.is_cut
        self._read()
        if before is None or stand.flushed_offset != before.flushed_offset or was_cut:
            self.durable_end()  # while its process lives: a power cut puts anything behind it

    @property
    def is_cut(self) -> bool:
        """The log was truncated, or compacted, since it was read."""
        return (self._log.truncations, self._log.swaps) != (self._truncations, self._swaps)

    @property
    def swaps(self) -> int:
        """Segments of this log that a compaction has replaced in this life."""
        return self._log.swaps

    @property
    def effective_isr(self) -> set[int]:
        """Whom its leader counts."""
        return self._replica.effective_isr

    @property
    def is_leading(self) -> bool:
        return self.stand.role is Role.LEADER

    @property
    def vouches_by_sync(self) -> bool:
        """False where a commit is promised by the operating system's memory only."""
        return self.partition._settings.fsync

    # --- reading

    def reread(self) -> None:
        """Read everything anew."""
        self._begin()
        self._read()

    def _read(self) -> None:
        log = self._log
        if self.is_cut or (self.headers and log.end_offset < self.headers[-1].next_offset):
            self._begin()
        at = 0
        if self._base >= 0:
            # Where retention took the segment that was read last, reading goes on with the one that follows it.
            end = self.headers[-1].next_offset if self.headers else self._base
            at = bisect_right(log._bases, end if log._bases[0] > self._base else self._base) - 1
            if at < 0 or log._bases[at] not in (self._base, end):
                self._begin()
                at = 0
        self.fault = None
        for segment in log.segments[at:]:
            if segment.base_offset != self._base:
                self._base, self._position = segment.base_offset, 0
            self._read_segment(segment)
            if self.fault is not None:
                return

    def _read_segment(self, segment: Segment) -> None:
        if self._position >= segment.size:
            return
        content = self._disk._files.get(segment.path)
        data = b"" if content is None else content.live
        position = self._position
        while position < segment.size:
            header = self._sound_header(data, position, segment)
            if header is None:
                break
            position += header.size
            self.headers.append(header)
            self._places.append((segment.path, position))
        self._position = position

    def _sound_header(self, data: bytes | bytearray, position: int, segment: Segment) -> BatchHeader | None:
        expected = self.headers[-1].next_offset if self.headers else segment.base_offset
        if len(data) - position >= HEADER_SIZE:
            header = BatchHeader._make(HEADER.unpack_from(data, position))
            end = position + header.size
            if header.base_offset != expected and not (self._log.has_gaps and header.base_offset > expected):
                self.fault = f"a batch at offset {header.base_offset} where {expected} comes next"
            elif header.size < HEADER_SIZE or end > min(len(data), segment.size):
                self.fault = f"the batch at offset {expected} has an impossible size, {header.size}"
            elif crc32c(data[position + CRC_START : end]) != header.crc:
                self.fault = f"the batch at offset {expected} fails its CRC"
            else:
                return header
        else:
            self.fault = f"the file ends in the batch at offset {expected}"
        self.fault = f"{self.fault} (byte {position} of {segment.path})"
        return None

    # --- comparing

    def matched_end(self) -> int:
        """Up to here its log is what the cluster has committed."""
        if not self.headers:
            return self.stand.log_start
        committed, own = self.ledger.headers, self.headers
        matched, index = self._matched, self._ledger_index
        if matched == 0:
            index = bisect_left(self.ledger.bases, own[0].base_offset)
        is_keyed = self.is_keyed
        while matched < len(own) and index < len(committed):
            if own[matched] == committed[index] or (is_keyed and _is_left_of(own[matched], committed[index])):
                matched += 1
            elif not is_keyed or committed[index].next_offset > own[matched].base_offset:
                break
            index += 1
        self._matched, self._ledger_index = matched, index
        return own[matched - 1].next_offset if matched else own[0].base_offset

    def commit(self) -> bool:
        """What this replica holds below its high watermark is committed, if it goes on where the cluster's log ends.

        True if that was news.
        """
        high_watermark, ledger = self.stand.high_watermark, self.ledger
        if high_watermark <= ledger.end:
            return False
        self.matched_end()
        count = len(ledger.headers)
        while self._matched < len(self.headers) and self._ledger_index == len(ledger.headers):
            header = self.headers[self._matched]
            if header.next_offset > high_watermark or not ledger.continues_with(header):
                break
            ledger.append(header)
            if self.is_keyed:
                ledger.note_last(self.records_of(self._matched))
            if self.partition.dedup is not None:
                ledger.note_events(self.records_of(self._matched))
            self._matched += 1
            self._ledger_index += 1
        return len(ledger.headers) > count

    @property
    def is_keyed(self) -> bool:
        """Whether only the last record of each key has to stay."""
        return self.partition.is_compacted

    def records_of(self, number: int) -> list[Record]:
        """The records in the so-manieth batch."""
        header, (path, end) = self.headers[number], self._places[number]
        data = bytes(self._disk._files[path].live[end - header.size : end])
        return list(iterate_records(data, header, decompressed_bytes_max=DECOMPRESSED_BYTES_MAX))

    def durable_end(self) -> int:
        """Up to here a power cut can take nothing."""
        if not self.is_frozen:
            start = self.stand.log_start
            while self._durable < len(self.headers):
                if self.headers[self._durable].next_offset > start and not self._is_durable(*self._places[self._durable]):
                    break
                self._durable += 1
        if not self.headers:
            return self.stand.log_start
        return self.headers[self._durable - 1].next_offset if self._durable else self.headers[0].base_offset

    def _is_durable(self, path: str, end: int) -> bool:
        content = self._disk._files.get(path)
        return content is not None and content.synced_size >= end and self._disk._durable_files.get(path) is content

    def held_at_mismatch(self) -> str:
        """What is there instead of what was committed."""
        if self._matched < len(self.headers):
            return f"it holds {brief(self.headers[self._matched])}"
        return f"its log ends at {self.stand.log_end}" + (f", for {self.fault}" if self.fault else "")


def _is_left_of(own: BatchHeader, committed: BatchHeader) -> bool:
    """Whether a compaction may have made one of the other."""
    same = ("base_offset", "leader_epoch", "last_offset_delta", "producer_id", "producer_epoch", "base_sequence")
    return own.record_count <= committed.record_count and all(getattr(own, name) == getattr(committed, name) for name in same)


def brief(header: BatchHeader) -> str:
    return f"offsets {header.base_offset} to {header.last_offset} of epoch {header.leader_epoch}, CRC {header.crc:#010x}"
