"""What a leader does with a batch of a topic that drops events which come again: those records go, the others are stored.

- Of a batch of which something is left the offsets, sequences and times stay: readers see a hole where a record was.
- Of one of which nothing is left an idempotent producer's header is stored, so that its sequence goes on; of others nothing is.
  Its acknowledgment names the first record's original, and waits until all originals are committed: one that is not may yet be
  cut off, and what was acknowledged would be lost with it.
"""

from dataclasses import dataclass

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.batches import BatchError, BatchHeader, Buffer, read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.event_ids import EVENT_ID, Marked, marked_records
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.rewriting import emptied, newest_timestamp, rebuilt

from .dedup import Dedup, payload_of
from .event_ids import Pair, hashed
from .producers import ProducerBatch
from .topic_rules import check_recompressed, level_of, wanted_compression


@dataclass(frozen=True, slots=True)
class Originals:
    """Where the records of a batch are that were all there before."""

    first: int  # that of its first record
    last: int  # the greatest


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is to be appended, if anything is."""

    records: Buffer
    header: BatchHeader
    learned: list[Pair]  # the ids in it, and where they will be
    originals: Originals | None = None  # where nothing is left


def sift(
    tp: TopicPartition, batch: Buffer, header: BatchHeader, dedup: Dedup, config: TopicConfig, *, end_offset: int, wall_ms: int
) -> Sifted:
    """The batch, to be appended at `end_offset`, without records that came before. Raises INVALID_RECORD."""
    try:
        data, marked = _looked_into(batch, header, dedup)
    except BatchError as error:
        raise ClusterError(ErrorCode.invalid_record, f"{tp}: {error}") from error
    if not any(event_id for _, event_id, _, _ in marked):
        return Sifted(batch, header, [])
    ids = [hashed(event_id) if event_id else None for _, event_id, _, _ in marked]
    known = dedup.ids.known([one for one in ids if one is not None], wall_ms)
    kept: list[Marked] = []
    learned: list[Pair] = []
    originals: list[int] = []
    for record, one in zip(marked, ids, strict=True):
        if one is None:
            kept.append(record)
        elif one in known:
            originals.append(known[one])
        else:
            known[one] = end_offset + record[0]
            learned.append((one, known[one]))
            kept.append(record)
    if not originals:
        return Sifted(batch, header, learned)
    dedup.dropped += len(originals)
    if not kept:
        left = emptied(header)
        return Sifted(left, read_header(left), [], Originals(originals[0], max(originals)))
    left = _without(tp, header, data, kept, config)
    return Sifted(left, read_header(left), learned)


def originals_of_repeat(batch: Buffer, header: BatchHeader, dedup: Dedup, known: ProducerBatch, wall_ms: int) -> Originals:
    """What a batch is answered that was appended as `known`: that place, unless nothing was left of it then."""
    place = Originals(known.first_offset, known.last_offset)
    try:
        _, marked = _looked_into(batch, header, dedup)
    except BatchError:  # it came before anybody looked
        return place
    ids = [hashed(event_id) for _, event_id, _, _ in marked if event_id]
    originals = dedup.ids.known(ids, wall_ms)
    is_known = 0 < len(marked) == len(ids) and all(one in originals for one in ids)
    if not is_known or any(place.first <= one <= place.last for one in originals.values()):
        return place
    return Originals(originals[ids[0]], max(place.last, *originals.values()))


def _looked_into(batch: Buffer, header: BatchHeader, dedup: Dedup) -> tuple[bytes, list[Marked]]:
    """The records' bytes, and where each lies; none of these if surely no record has an id. Raises BatchError."""
    data = payload_of(batch, header, dedup.decompressed_bytes_max)
    return data, marked_records(data, header) if EVENT_ID in data else []


def _without(tp: TopicPartition, header: BatchHeader, data: bytes, kept: list[Marked], config: TopicConfig) -> bytes:
    """Compressed as the topic wants it, so that this is done once."""
    wanted = wanted_compression(config)
    left = rebuilt(
        header,
        b"".join([data[start:end] for _, _, start, end in kept]),
        record_count=len(kept),
        newest_timestamp=newest_timestamp(header, data, (start for _, _, start, _ in kept)),
        compression=wanted,
        level=None if wanted is None else level_of(wanted, config),
    )
    if wanted is not None and wanted != header.compression:
        check_recompressed(tp, len(left), config)
    return left
