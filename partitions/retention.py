"""Which segments are too old or too many. Whole segments go, oldest first, and nothing that is not committed."""

from collections.abc import Sequence

from quorumlog.metadata.topic_config import TopicConfig

from .segment import Segment


def is_expired(segment: Segment, config: TopicConfig, wall_ms: int) -> bool:
    """Too old by the newest timestamp in it, or by its creation if its records have no timestamps."""
    newest = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
    return config.retention_ms >= 0 and wall_ms - newest > config.retention_ms


def retained_from(segments: Sequence[Segment], config: TopicConfig, *, high_watermark: int, wall_ms: int) -> int:
    """The offset at which what stays begins. The last segment, which is appended to, always stays."""
    size = sum(segment.size for segment in segments)
    excess = size - config.retention_bytes if config.retention_bytes >= 0 else 0
    offset = segments[0].base_offset
    for segment in segments[:-1]:
        is_too_many = excess >= segment.size > 0
        if segment.next_offset > high_watermark or not (is_too_many or is_expired(segment, config, wall_ms)):
            break
        excess -= segment.size
        offset = segment.next_offset
    return offset
