"""What a consumer makes of fetched bytes: whole batches, checked, as records."""

from collections.abc import Sequence
from typing import NamedTuple

from quorumlog.wire.batches import CONTROL, BatchError, BatchHeader, check_crc, read_header
from quorumlog.wire.records import iterate_records
from tests.sim.invariants.sight import Violation

DECOMPRESSED_BYTES_MAX = 64 << 20


class Fetched(NamedTuple):
    """(offset, value) of the records from the wanted offset on; where to go on; the epoch of the last batch."""

    records: list[tuple[int, str]]
    next_offset: int
    epoch: int


def read_fetched(
    key: str,
    data: bytes,
    *,
    offset: int,
    epoch: int,
    high_watermark: int,
    aborted: Sequence[tuple[int, int]] = (),
) -> Fetched:
    """`offset` was asked for, `epoch` is that of the record before it (-1: none). Whoever reads what is committed gives the last
    stable offset as the high watermark, and what was told to be `aborted`: (producer id, first offset), by first offset or not.

    Raises Violation for bytes that are no sound batches, do not follow each other, or are not committed yet.
    """
    records: list[tuple[int, str]] = []
    wanted, position, size = offset, 0, len(data)
    to_come = sorted(aborted, key=lambda one: one[1])
    skipped: dict[int, None] = {}  # producers in the midst of a transaction that was aborted
    try:
        while position < size:
            header = read_header(data, position)
            if position + header.size > size:
                raise BatchError(f"{size - position} bytes of a batch of {header.size}")
            batch = memoryview(data)[position : position + header.size]
            check_crc(batch, header)
            _check_place(key, header, offset=offset, epoch=epoch, high_watermark=high_watermark)
            while to_come and to_come[0][1] <= header.last_offset:
                skipped[to_come.pop(0)[0]] = None
            if header.attributes & CONTROL:
                skipped.pop(header.producer_id, None)
            elif not (header.is_transactional and header.producer_id in skipped):
                records += [
                    (record.offset, (record.value or b"").decode())
                    for record in iterate_records(batch, header, decompressed_bytes_max=DECOMPRESSED_BYTES_MAX)
                    if record.offset >= wanted
                ]
            offset, epoch = header.next_offset, header.leader_epoch
            position += header.size
    except BatchError as error:
        raise Violation("client: fetched bytes", f"{key} from offset {offset}: {error}") from error
    return Fetched(records, offset, epoch)


def _check_place(key: str, header: BatchHeader, *, offset: int, epoch: int, high_watermark: int) -> None:
    place = f"{key}: a batch of offsets {header.base_offset} to {header.last_offset}, epoch {header.leader_epoch}"
    if header.last_offset < offset:
        raise Violation("client: fetched order", f"{place} came for offset {offset}")
    if header.leader_epoch < epoch:
        raise Violation("client: fetched epochs", f"{place} came after one of epoch {epoch}")
    if header.last_offset >= high_watermark:
        raise Violation("client: fetched too early", f"{place} came though the high watermark is {high_watermark}")
