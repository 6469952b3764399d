"""The control record that ends a transaction on one partition: all of it is committed, or none.

    key     version int16 (0), type int16: 0 ABORT, 1 COMMIT
    value   version int16 (0), coordinator epoch int32

It stands alone in a batch with the attributes CONTROL and TRANSACTIONAL, the producer's id and epoch, and no sequence. Source:
Kafka protocol guide, "Control Records"; KIP-98.
"""

import struct
from typing import NamedTuple

from quorumlog.wire.batches import BatchError, BatchHeader, Buffer
from quorumlog.wire.records import Record, build_batch, keys_and_values

VERSION = 0
ABORT, COMMIT = 0, 1
KEY = struct.Struct(">hh")
VALUE = struct.Struct(">hi")
CONTROL_BYTES_MAX = 1 << 10  # of the one record inside; nobody compresses it, so nothing grows


class Marker(NamedTuple):
    """How a transaction ended, as decided by the coordinator of this epoch."""

    is_commit: bool
    coordinator_epoch: int


def build_marker(marker: Marker, *, producer_id: int, producer_epoch: int, wall_ms: int) -> bytes:
    """The batch that ends a producer's transaction."""
    key = KEY.pack(VERSION, COMMIT if marker.is_commit else ABORT)
    record = Record(timestamp=wall_ms, key=key, value=VALUE.pack(VERSION, marker.coordinator_epoch))
    return build_batch([record], producer_id=producer_id, producer_epoch=producer_epoch, is_transactional=True, is_control=True)


def read_marker(batch: Buffer, header: BatchHeader) -> Marker | None:
    """The marker in a control batch; None of one that is of another type, or whose record a compaction has taken out."""
    try:
        for key, value in keys_and_values(batch, header, decompressed_bytes_max=CONTROL_BYTES_MAX):
            if key is None or value is None:
                return None
            kind: int = KEY.unpack_from(key)[1]
            epoch: int = VALUE.unpack_from(value)[1]
            return Marker(kind == COMMIT, epoch) if kind in (ABORT, COMMIT) else None
    except (BatchError, struct.error):
        return None
    return None
