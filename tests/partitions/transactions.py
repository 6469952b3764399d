"""Transactions on one partition, for its tests: batches and markers of producers, and what they come to when read by hand."""

from dataclasses import dataclass, field
from typing import NamedTuple

from quorumlog.partitions.partition import Partition
from quorumlog.partitions.results import Appended
from quorumlog.wire.batches import read_header
from quorumlog.wire.markers import Marker, read_marker
from quorumlog.wire.records import Record, build_batch


def transactional(values: list[bytes], *, producer_id: int, epoch: int = 0, sequence: int = 0) -> bytes:
    records = [Record(offset=i, timestamp=1000 + i, value=value) for i, value in enumerate(values)]
    return build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, is_transactional=True)


def write(partition: Partition, values: list[bytes], *, producer_id: int, epoch: int = 0, sequence: int = 0) -> Appended:
    """Append as the produce handler does, with a coordinator that vouches for everything."""
    batch = transactional(values, producer_id=producer_id, epoch=epoch, sequence=sequence)
    asked = partition.transaction_to_verify(batch)
    guard = asked[1] if asked is not None else None
    return partition.append(batch, acks=1, now=0.0, wall_ms=1000, guard=guard)


def end(
    partition: Partition,
    *,
    producer_id: int,
    commit: bool,
    epoch: int = 0,
    coordinator_epoch: int = 1,
    is_strict: bool = False,
    decision: int = -1,
) -> Appended | None:
    return partition.append_marker(
        Marker(commit, coordinator_epoch),
        producer_id=producer_id,
        producer_epoch=epoch,
        is_strict=is_strict,
        now=0.0,
        wall_ms=1000,
        decision=decision,
    )


class Ended(NamedTuple):
    producer_id: int
    first_offset: int
    marker_offset: int
    is_commit: bool


@dataclass
class ReadByHand:
    """The simple twin: every batch looked at, nothing remembered."""

    opened: dict[int, int] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    @classmethod
    def of(cls, batches: list[tuple[int, int, bytes]]) -> "ReadByHand":
        twin = cls()
        for base_offset, _, batch in batches:
            header = read_header(batch)
            if header.is_control:
                marker = read_marker(batch, header)
                assert marker is not None
                first = twin.opened.pop(header.producer_id, None)
                if first is not None:
                    twin.ended.append(Ended(header.producer_id, first, base_offset, marker.is_commit))
            elif header.is_transactional:
                twin.opened.setdefault(header.producer_id, base_offset)
        return twin

    def last_stable_offset(self, high_watermark: int) -> int:
        undecided = [one.first_offset for one in self.ended if one.marker_offset >= high_watermark]
        return min([high_watermark, *self.opened.values(), *undecided])

    def aborted(self, start: int, end: int) -> list[tuple[int, int]]:
        return [
            (one.producer_id, one.first_offset)
            for one in self.ended
            if not one.is_commit and one.marker_offset >= start and one.first_offset < end
        ]
