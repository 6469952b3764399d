"""The part of a partition that compaction is: when its turn is, what to do then, and taking over what was done.

The work itself is done elsewhere (`cleaner.py`), while the log goes on. What it comes back with counts only if the segments it
was made from are still there: retention, a truncation or a deletion may have come in between, and then it is thrown away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from quorumlog.host.ports import WriteBatch
from quorumlog.metadata.topic_config import TopicConfig

from .aborted import AbortedTransaction
from .cleaning import CleanedGroup, CleanedLog, CleaningJob, Dirt, ProducerEnd, Source, dirt_of
from .log import Log
from .segment import Segment, cleaned_name
from .swap import remove_cleaned

REQUESTED = 3.0  # more urgent than any share of dirt


@dataclass(frozen=True, slots=True, eq=False)
class Cleaning:
    """A job, and what must still be so when it is done."""

    job: CleaningJob
    segments: tuple[Segment, ...]  # those of the job's sources
    truncations: int
    request: int  # that is met when it is done


class Compaction:
    """Owned by its partition."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._request = 0  # the last one that the active segment was closed for
        self._request_end = 0  # what it asks for lies before

    @property
    def last_run_ms(self) -> int:
        """When the last pass ended; -1 if there was none."""
        return self._log.compaction.last_run_ms

    @property
    def request_met(self) -> int:
        return self._log.compaction.request_met

    def dirt(self, config: TopicConfig, *, limit: int, wall_ms: int) -> Dirt:
        return dirt_of(self._log.segments, config, cleaned_to=self._log.compaction.cleaned_to, limit=limit, wall_ms=wall_ms)

    def urgency(self, config: TopicConfig, *, limit: int, wall_ms: int) -> float:
        """0 if it is not this log's turn; whoever has the most comes first."""
        if self._is_requested(config):
            self._close_active(config, wall_ms)
            return REQUESTED if limit >= self._request_end else 0.0
        dirt = self.dirt(config, limit=limit, wall_ms=wall_ms)
        return dirt.ratio + dirt.is_overdue if dirt.is_due(config) else 0.0

    def is_waiting(self, config: TopicConfig) -> bool:
        """Whether a request is not met yet."""
        return self._is_requested(config)

    def begin(
        self,
        config: TopicConfig,
        *,
        limit: int,
        wall_ms: int,
        aborted: Sequence[AbortedTransaction],
        map_bytes: int,
        map_load: float,
        decompressed_bytes_max: int,
    ) -> Cleaning:
        log = self._log
        dirt = self.dirt(config, limit=limit, wall_ms=wall_ms)
        segments = tuple(segment for segment in log.segments[:-1] if segment.next_offset <= dirt.end_offset)
        job = CleaningJob(
            directory=log.directory,
            sources=tuple(Source(one.base_offset, one.next_offset, one.size, one.created_ms) for one in segments),
            first_dirty=dirt.first_dirty,
            has_gaps=log.has_gaps,
            now_ms=wall_ms,
            delete_retention_ms=config.delete_retention_ms,
            segment_bytes=log.segment_bytes,
            index_interval_bytes=log.index_interval_bytes,
            decompressed_bytes_max=decompressed_bytes_max,
            map_bytes=map_bytes,
            map_load=map_load,
            epoch_starts=tuple(log.epochs.starts),
            producers=tuple(_last_batches(log)),
            aborted=tuple(aborted),
        )
        is_asked = self._is_requested(config) and limit >= self._request_end
        request = config.quorumlog_compaction_request if is_asked else log.compaction.request_met
        return Cleaning(job, segments, log.truncations, request)

    def swap_in(self, cleaning: Cleaning, cleaned: CleanedGroup) -> Callable[[], None] | None:
        """Take over a new segment: what is left to do for it, in another thread, before anything else of this job is taken over.

        None if the log has changed since: nothing else of this job counts.
        """
        log = self._log
        old = [segment for segment in cleaning.segments if cleaned.base_offset <= segment.base_offset < cleaned.next_offset]
        if log.truncations != cleaning.truncations or not _is_run(log.segments, old):
            return None
        if not cleaned.is_changed:
            return partial(log.disk.delete, f"{log.directory}/{cleaned_name(cleaned.base_offset)}")
        return log.swap_in(old, cleaned).finish

    def is_current(self, cleaning: Cleaning, base_offset: int) -> bool:
        """Whether the segment that begins there is still the one that the job is about."""
        if self._log.truncations != cleaning.truncations:
            return False
        held = [segment for segment in self._log.segments if segment.base_offset == base_offset]
        return bool(held) and held[0] in cleaning.segments

    def end(self, cleaning: Cleaning, cleaned: CleanedLog, wall_ms: int) -> None:
        """Remember how far it came."""
        log = self._log
        log.settle_swap()
        if log.truncations != cleaning.truncations:
            return
        batch = WriteBatch()
        is_whole = not cleaning.segments or cleaned.end_offset >= cleaning.segments[-1].next_offset
        request = cleaning.request if is_whole else log.compaction.request_met
        changed = replace(log.compaction, cleaned_to=cleaned.end_offset, last_run_ms=wall_ms, request_met=request)
        log.set_compaction(changed, batch)
        log.store.write(batch)
        remove_cleaned(log.disk, log.directory)

    def abandon(self) -> None:
        """Nothing works on this log any more, and nothing more will come."""
        self._log.settle_swap()
        remove_cleaned(self._log.disk, self._log.directory)

    def _is_requested(self, config: TopicConfig) -> bool:
        return config.quorumlog_compaction_request > 0 and config.quorumlog_compaction_request != self.request_met

    def _close_active(self, config: TopicConfig, wall_ms: int) -> None:
        """What was written before the request is to be compacted, so it may not lie in the active segment."""
        if self._request == config.quorumlog_compaction_request:
            return
        if self._log.active.size > 0:
            self._log.roll(wall_ms)
        self._request, self._request_end = config.quorumlog_compaction_request, self._log.end_offset


def _last_batches(log: Log) -> list[ProducerEnd]:
    return [
        ProducerEnd(producer_id, state.epoch, state.batches[-1].last_offset if state.batches else -1)
        for producer_id, state in log.producers.known()
    ]


def _is_run(segments: Sequence[Segment], old: Sequence[Segment]) -> bool:
    """Whether these are still there, one behind the other."""
    if not old or old[0] not in segments:
        return False
    at = segments.index(old[0])
    return list(segments[at : at + len(old)]) == list(old) and at + len(old) < len(segments)
