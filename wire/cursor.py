"""A place in a frame that came from the network, from which values are taken one by one.

Nothing is believed: each length and count is held against the bytes that are left before anything is made from it, so that no
claim of a stranger reserves memory. What does not fit raises DecodeError with a sentence that names the field.
"""

import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from quorumlog.wire.batches import Buffer
from quorumlog.wire.ids import NO_TOPIC_ID

INT8 = struct.Struct(">b")
INT16 = struct.Struct(">h")
INT32 = struct.Struct(">i")
INT64 = struct.Struct(">q")

# Two bytes on the wire can become a struct of 200 in memory, and an error of its own in the answer, made in 50 microseconds: this
# bounds what one request makes us build (some 20 MB), and for how long nobody else is served (about a second).
ITEMS_MAX = 20_000
RESPONSE_ITEMS_MAX = 1_000_000  # of a node that we have asked
TEXT_BYTES_MAX = 0x7FFF  # also where the length is a varint, as in Kafka
VARINT_BYTES_MAX = 5
VARLONG_BYTES_MAX = 10


class DecodeError(ValueError):
    """Bytes that are not the message they claim to be."""


class Cursor:
    """Lives as long as one message is decoded. `end` is the position behind the last byte that may be read."""

    __slots__ = ("end", "frame", "items_left", "position")

    def __init__(self, frame: Buffer, position: int = 0, *, items_max: int = ITEMS_MAX) -> None:
        self.frame = frame
        self.position = position
        self.end = len(frame)
        self.items_left = items_max

    def take(self, size: int, name: str) -> int:
        """Steps over `size` bytes and returns where they begin."""
        start = self.position
        if size > self.end - start:
            raise DecodeError(f"{name} takes {size} bytes at {start}, but only {self.end - start} are left")
        self.position = start + size
        return start

    def unpack(self, layout: struct.Struct, name: str) -> tuple[Any, ...]:
        return layout.unpack_from(self.frame, self.take(layout.size, name))

    def int8(self, name: str) -> int:
        return int(INT8.unpack_from(self.frame, self.take(1, name))[0])

    def int16(self, name: str) -> int:
        return int(INT16.unpack_from(self.frame, self.take(2, name))[0])

    def int32(self, name: str) -> int:
        return int(INT32.unpack_from(self.frame, self.take(4, name))[0])

    def int64(self, name: str) -> int:
        return int(INT64.unpack_from(self.frame, self.take(8, name))[0])

    def unsigned_varint(self, name: str) -> int:
        position = self.position
        if position < self.end and (byte := self.frame[position]) < 0x80:  # nearly always one byte
            self.position = position + 1
            return byte
        return self._long_varint(name, bytes_max=VARINT_BYTES_MAX)

    def signed_varint(self, name: str) -> int:
        """Zigzag, at most 32 bits."""
        value = self.unsigned_varint(name)
        return (value >> 1) ^ -(value & 1)

    def signed_varlong(self, name: str) -> int:
        """Zigzag, at most 64 bits."""
        position = self.position
        if position < self.end and (value := self.frame[position]) < 0x80:
            self.position = position + 1
        else:
            value = self._long_varint(name, bytes_max=VARLONG_BYTES_MAX)
        return (value >> 1) ^ -(value & 1)

    def _long_varint(self, name: str, *, bytes_max: int) -> int:
        frame, start = self.frame, self.position
        value = 0
        for position in range(start, min(start + bytes_max, self.end)):
            byte = frame[position]
            value |= (byte & 0x7F) << 7 * (position - start)
            if byte < 0x80:
                if value >> (32 if bytes_max == VARINT_BYTES_MAX else 64):
                    break
                self.position = position + 1
                return value
        raise DecodeError(f"{name} at {start} is no varint of at most {bytes_max} bytes")

    def text(self, length: int, name: str) -> str:
        if length > TEXT_BYTES_MAX:
            raise DecodeError(f"{name} has {length} bytes, allowed are {TEXT_BYTES_MAX}")
        start = self.take(length, name)
        try:
            return str(self.frame[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"{name} at {start} is no UTF-8: {error.reason}") from None

    def blob(self, length: int, name: str) -> bytes:
        start = self.take(length, name)
        return bytes(self.frame[start : start + length])

    def view(self, length: int, name: str) -> memoryview:
        """Bytes that stay where they are; the view keeps the frame alive."""
        start = self.take(length, name)
        return memoryview(self.frame)[start : start + length]

    def uuid(self, name: str) -> UUID:
        raw = self.blob(16, name)
        return UUID(bytes=raw) if any(raw) else NO_TOPIC_ID

    def length(self, *, flexible: bool, name: str) -> int:
        """The length of bytes, or the count of an array: int32, or varint less one. -1 is null."""
        value = self.unsigned_varint(name) - 1 if flexible else self.int32(name)
        if value < -1:
            raise DecodeError(f"{name} at {self.position} has length {value}")
        return value

    def text_length(self, *, flexible: bool, name: str) -> int:
        """The length of a string: int16, or varint less one. -1 is null."""
        value = self.unsigned_varint(name) - 1 if flexible else self.int16(name)
        if value < -1:
            raise DecodeError(f"{name} at {self.position} has length {value}")
        return value

    def nullable_text(self, *, flexible: bool, name: str) -> str | None:
        length = self.text_length(flexible=flexible, name=name)
        return None if length < 0 else self.text(length, name)

    def required_text(self, *, flexible: bool, name: str) -> str:
        return self.text(not_null(self.text_length(flexible=flexible, name=name), name), name)

    def count(self, *, flexible: bool, item_bytes_min: int, name: str) -> int:
        """The count of an array that may not be null."""
        return self.claim_items(not_null(self.length(flexible=flexible, name=name), name), item_bytes_min, name)

    def claim(self, count: int, item_bytes_min: int, name: str) -> int:
        """`count`, if so many items of at least so many bytes can still follow."""
        if count * item_bytes_min > self.end - self.position:
            raise DecodeError(f"{name} claims {count} items, but only {self.end - self.position} bytes are left")
        return count

    def claim_items(self, count: int, item_bytes_min: int, name: str) -> int:
        """As claim, of items that will be built, of which one message may have only so many in all its arrays together."""
        self.claim(count, item_bytes_min, name)
        if count > self.items_left:
            raise DecodeError(f"{name} claims {count} items, and this message may have {self.items_left} more")
        self.items_left -= count
        return count

    def int32s(self, *, flexible: bool, name: str) -> tuple[int, ...]:
        count = self.count(flexible=flexible, item_bytes_min=INT32.size, name=name)
        return struct.unpack_from(f">{count}i", self.frame, self.take(count * INT32.size, name))

    def tags(self) -> Iterator[int]:
        """The tags of a struct one by one, the cursor at the value of each and bounded by it. Who does not want a value steps
        to `end`; whoever reads it must use it up."""
        end = self.end
        for _ in range(self._tag_count()):
            tag = self.unsigned_varint("tag")
            size = self.unsigned_varint("size of a tagged field")
            start = self.take(size, "tagged field")
            self.position, self.end = start, start + size
            yield tag
            if self.position != self.end:
                raise DecodeError(f"tagged field {tag} has {size} bytes at {start}, of which {self.position - start} are used")
            self.end = end

    def skip_tags(self) -> None:
        """Steps over tagged fields, none of which this version knows."""
        for _ in range(self._tag_count()):
            self.unsigned_varint("tag")
            self.take(self.unsigned_varint("size of a tagged field"), "tagged field")

    def _tag_count(self) -> int:
        return self.claim(self.unsigned_varint("count of tagged fields"), 2, "tagged fields")

    def finish(self) -> None:
        """Raises DecodeError if anything follows the message."""
        if self.position != self.end:
            raise DecodeError(f"{self.end - self.position} bytes follow the message, which ends at {self.position}")


def not_null(length: int, name: str) -> int:
    if length < 0:
        raise DecodeError(f"{name} is null, which it may not be")
    return length
