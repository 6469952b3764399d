"""Finds the header `event-id` of each record in a batch: by it a topic with a window tells an event that comes again.

Most numbers in a record take one byte: those are read in place, for a call would cost more than all else.
"""

from quorumlog.wire.batches import BatchError, BatchHeader
from quorumlog.wire.records import varint

EVENT_ID = b"event-id"
HEADERS_MAX = 500_000  # looked at in one batch: they take two bytes each, and compressed nearly none


Marked = tuple[int, bytes | None, int, int]
"""One record as it lies among the others: offset delta, id (None without one), where it starts and ends."""


def marked_records(data: bytes, header: BatchHeader) -> list[Marked]:
    """Each record of the decompressed payload. The id is the value of the last header of that name; an empty one is none.

    Raises BatchError unless the records are sound and their offsets rise within the batch.
    """
    found: list[Marked] = []
    position, previous, headers_left = 0, -1, HEADERS_MAX
    try:
        for _ in range(header.record_count):
            start = position
            length = data[position]
            if length > 0x7F:
                length, position = varint(data, position)
            else:
                length, position = (length >> 1) ^ -(length & 1), position + 1
            end = position + length
            position += 1  # attributes
            while data[position] > 0x7F:  # timestamp
                position += 1
            delta = data[position + 1]
            if delta > 0x7F:
                delta, position = varint(data, position + 1)
            else:
                delta, position = (delta >> 1) ^ -(delta & 1), position + 2
            for _ in range(2):  # key, value
                size = data[position]
                if size > 0x7F:
                    size, position = varint(data, position)
                else:
                    size, position = (size >> 1) ^ -(size & 1), position + 1
                if size > 0:
                    position += size
            count, position = varint(data, position)
            event_id = None
            if count:
                headers_left -= count
                if count < 0 or headers_left < 0:
                    raise BatchError(f"batch at offset {header.base_offset} has {count} headers in a record")
                event_id, position = _last_id(data, position, count)
            if position != end or not previous < delta <= header.last_offset_delta:
                raise BatchError(f"batch at offset {header.base_offset} is damaged behind byte {start}")
            found.append((delta, event_id, start, end))
            previous = delta
    except IndexError:
        raise BatchError(f"batch at offset {header.base_offset} is damaged behind byte {position}") from None
    if position != len(data):
        raise BatchError(f"{len(data) - position} bytes follow the {header.record_count} records at offset {header.base_offset}")
    return found


def _last_id(data: bytes, position: int, count: int) -> tuple[bytes | None, int]:
    """(the id among these headers, the position behind them). Raises IndexError at what is no header."""
    event_id = None
    for _ in range(count):
        size = data[position]
        if size > 0x7F:
            size, position = varint(data, position)
        else:
            size, position = (size >> 1) ^ -(size & 1), position + 1
        if size < 0:
            raise IndexError(position)
        is_id = size == len(EVENT_ID) and data[position : position + size] == EVENT_ID
        position += size
        size = data[position]
        if size > 0x7F:
            size, position = varint(data, position)
        else:
            size, position = (size >> 1) ^ -(size & 1), position + 1
        if is_id:
            event_id = data[position : position + size] if size > 0 else None
        if size > 0:
            position += size
    return event_id, position
