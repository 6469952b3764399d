"""What a partition is told and answers."""

from dataclasses import dataclass

from quorumlog.host.ports import Buffer

from .aborted import AbortedTransaction


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch went. It is safe when the record at `last_offset` is."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int  # -1 where the producer sets the time
    log_start_offset: int
    duplicate: bool  # it was there already; these are the offsets it got the first time
    buffers: list[Buffer]  # the batch as stored, for whoever has to have it too; none of a duplicate
    size: int  # bytes of the buffers
    original_offset: int = -1  # where its first record was before, if nothing but the header was left of it

    @property
    def answered_offset(self) -> int:
        """What its producer is told."""
        return self.base_offset if self.original_offset < 0 else self.original_offset


@dataclass(frozen=True, slots=True)
class Diverging:
    """Two logs part: the leader's records of `epoch`, or of older ones, end at `end_offset`."""

    epoch: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A follower asks for what the leader does not have (any more): it drops its log and begins at the leader's start."""

    log_start_offset: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a follower stands, in the epoch it knows of."""

    leader_epoch: int
    fetch_offset: int  # the end of its log
    flushed_offset: int
    last_epoch: int  # of its last record, -1 without any


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Whole batches as stored, with the watermarks of the moment. The first batch may begin before the offset asked for."""

    buffers: list[Buffer]
    size: int  # bytes of all buffers
    next_offset: int  # where to read on
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    diverging: Diverging | None = None
    aborted: tuple[AbortedTransaction, ...] = ()  # of which records may be among these, where only committed ones were asked for
