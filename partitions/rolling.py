"""When a segment is closed and the next one begun: by its size, by what its index would take, by its age."""

from zlib import crc32

from quorumlog.metadata.topic_config import TopicConfig

from .segment import Segment

INDEX_ENTRY_BYTES = 8  # in a file of Kafka's, whose size `segment.index.bytes` bounds


def segment_bytes_max(config: TopicConfig) -> int:
    """Kafka also closes a segment whose index is full. With an entry for each batch (interval 0) nobody can tell beforehand."""
    if config.index_interval_bytes == 0:
        return config.segment_bytes
    return min(config.segment_bytes, config.segment_index_bytes // INDEX_ENTRY_BYTES * config.index_interval_bytes)


def roll_after_ms(segment: Segment, config: TopicConfig, directory: str) -> int:
    """The age at which a segment is closed, up to `segment.jitter.ms` early: by chance, but the same on each look.

    Where records may wait for compaction only so long, it is closed in time for that.
    """
    segment_ms = min(config.segment_ms, config.max_compaction_lag_ms) if config.is_compacted else config.segment_ms
    jitter_max = min(config.segment_jitter_ms, segment_ms)
    chance = crc32(f"{directory}/{segment.base_offset}".encode()) if jitter_max else 0
    return segment_ms - chance % jitter_max if jitter_max else segment_ms
