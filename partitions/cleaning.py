"""What is to be compacted: how dirty a log is, whether its turn has come, and what exactly is done then.

A log has a clean part, in which each key is there once, and behind it a dirty one, up to the first segment that may not be
touched yet: the active one, one with records that are not committed or of an open transaction, or one that is too young.
Only whole segments are compacted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quorumlog.metadata.topic_config import TopicConfig

from .aborted import AbortedTransaction
from .segment import RELATIVE_OFFSET_MAX, Segment


@dataclass(frozen=True, slots=True)
class Source:
    """A segment that is compacted."""

    base_offset: int
    next_offset: int
    size: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class ProducerEnd:
    """The last batch of a producer that is known: its end, or -1 where there is only the mark of a transaction in this epoch."""

    producer_id: int
    epoch: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class CleaningJob:
    """All that a pass over a log needs to know; it may be done in another process."""

    directory: str
    sources: tuple[Source, ...]
    first_dirty: int  # below, each key is there once
    has_gaps: bool  # batches may be missing between others
    now_ms: int
    delete_retention_ms: int
    segment_bytes: int
    index_interval_bytes: int
    decompressed_bytes_max: int
    map_bytes: int
    map_load: float
    epoch_starts: tuple[int, ...] = ()
    producers: tuple[ProducerEnd, ...] = ()
    aborted: tuple[AbortedTransaction, ...] = ()


@dataclass(frozen=True, slots=True)
class CleanedGroup:
    """One new segment, durable beside those whose place it is to take."""

    base_offset: int
    next_offset: int
    size: int
    max_timestamp: int
    created_ms: int
    index_blocks: tuple[tuple[int, bytes], ...]  # (first offset, block) as the store has them
    marks_gone: tuple[int, ...]  # offsets of marks of transactions that are not there any more
    is_changed: bool  # False: it is what was there


@dataclass(frozen=True, slots=True)
class CleanedLog:
    """A pass is over: each key is there once up to `end_offset`, or, if not all fitted into the map, less far than was wanted."""

    end_offset: int
    records_read: int
    records_kept: int
    bytes_read: int
    bytes_kept: int


@dataclass(frozen=True, slots=True)
class Dirt:
    """How a log stands."""

    first_dirty: int
    end_offset: int  # of what may be compacted
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool  # something waits for longer than `max.compaction.lag.ms`

    @property
    def ratio(self) -> float:
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0

    def is_due(self, config: TopicConfig) -> bool:
        return self.dirty_bytes > 0 and (self.is_overdue or self.ratio > config.min_cleanable_dirty_ratio)


def dirt_of(segments: Sequence[Segment], config: TopicConfig, *, cleaned_to: int, limit: int, wall_ms: int) -> Dirt:
    """`limit`: nothing above may be touched, for it is not committed, or a transaction may still be open there."""
    clean = [segment for segment in segments[:-1] if segment.next_offset <= min(cleaned_to, limit)]
    dirty = []
    for segment in segments[len(clean) : -1]:
        if segment.next_offset > limit or _is_young(segment, config, wall_ms):
            break
        dirty.append(segment)
    last = [*clean, *dirty][-1:]
    end_offset = last[0].next_offset if last else segments[0].base_offset
    return Dirt(
        first_dirty=min(max(cleaned_to, segments[0].base_offset), end_offset),
        end_offset=end_offset,
        clean_bytes=sum(segment.size for segment in clean),
        dirty_bytes=sum(segment.size for segment in dirty),
        is_overdue=any(wall_ms - segment.created_ms > config.max_compaction_lag_ms for segment in dirty),
    )


def grouped(sources: Sequence[Source], *, end_offset: int, segment_bytes: int) -> Iterator[tuple[Source, ...]]:
    """Neighbours that fit into one segment together, up to the one that holds `end_offset`."""
    group: list[Source] = []
    size = 0
    for source in sources:
        if source.base_offset >= end_offset:
            break
        fits = size + source.size <= segment_bytes and (
            not group or source.next_offset - group[0].base_offset <= RELATIVE_OFFSET_MAX
        )
        if group and not fits:
            yield tuple(group)
            group, size = [], 0
        group.append(source)
        size += source.size
    if group:
        yield tuple(group)


def _is_young(segment: Segment, config: TopicConfig, wall_ms: int) -> bool:
    newest = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
    return config.min_compaction_lag_ms > 0 and newest > wall_ms - config.min_compaction_lag_ms
