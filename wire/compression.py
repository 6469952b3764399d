"""The four compressions of record batches, with a bound on what may come out.

A frame of 6 KB can hold 200 MB, and what a frame claims about its own size is believed by nobody here: room is made step by step,
and never more than the bound.
"""

import struct
import zlib
from enum import IntEnum

import cramjam

from quorumlog.wire.batches import BatchError, Buffer

GZIP_WINDOW = 31  # zlib's name for "with gzip header"
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_START = struct.Struct(">8sii")  # magic, version, least version that can read it
XERIAL_BLOCK_BYTES = 32 * 1024
SNAPPY_EXPANSION_MAX = 32  # 3 bytes make 64 at most
INT32 = struct.Struct(">i")
ROOM_BYTES_MIN = 64 * 1024
ROOM_GROWTH = 4


class Compression(IntEnum):
    """As in bits 0-2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def decompress(compression: int, data: Buffer, *, bytes_max: int) -> Buffer:
    """Raises BatchError if the data is damaged, holds more than `bytes_max`, or its compression is none of Kafka's."""
    match compression:
        case Compression.NONE:
            return _within(data, bytes_max)
        case Compression.GZIP:
            return _gunzip(data, bytes_max)
        case Compression.SNAPPY:
            return _unsnappy(memoryview(data), bytes_max)
        case Compression.LZ4:
            return _unframe("lz4", data, bytes_max)
        case Compression.ZSTD:
            return _unframe("zstd", data, bytes_max)
        case _:
            raise BatchError(f"compression {compression}, known are 0 to {max(Compression)}")


def compress(compression: Compression, data: bytes, *, level: int | None = None) -> bytes:
    """As Kafka's Java client does it: snappy comes in xerial's frames. `level` None is each compression's own default."""
    match compression:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION if level is None else level, wbits=GZIP_WINDOW)
            return compressor.compress(data) + compressor.flush()
        case Compression.SNAPPY:
            return _snappy_xerial(data)
        case Compression.LZ4:
            # Java's decoder reads no frame whose blocks depend on each other.
            lz4 = cramjam.lz4.Compressor(level=level, content_checksum=False, block_linked=False)
            lz4.compress(data)
            return bytes(lz4.finish())
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=level))


def _within(data: Buffer, bytes_max: int) -> Buffer:
    if len(data) > bytes_max:
        raise BatchError(f"{len(data)} bytes of records, allowed are {bytes_max}")
    return data


def _gunzip(data: Buffer, bytes_max: int) -> bytes:
    gunzip = zlib.decompressobj(wbits=GZIP_WINDOW)
    try:
        plain = gunzip.decompress(data, bytes_max + 1)
    except zlib.error as error:
        raise BatchError(f"damaged gzip: {error}") from None
    if len(plain) > bytes_max:
        raise BatchError(f"gzip holds more than {bytes_max} bytes")
    if not gunzip.eof or gunzip.unused_data:
        raise BatchError("damaged gzip: it is cut short, or something follows it")
    return plain


def _unframe(name: str, data: Buffer, bytes_max: int) -> Buffer:
    """lz4 and zstd. cramjam's decoders stop at the end of the room that they get: it grows until all is in, or to the bound."""
    decompress_into = getattr(cramjam, name).decompress_into
    room_bytes = min(max(ROOM_BYTES_MIN, ROOM_GROWTH * len(data)), bytes_max)
    while True:
        room = bytearray(room_bytes)
        try:
            return memoryview(room)[: decompress_into(data, room)]
        except cramjam.DecompressionError as error:
            # It does not tell "no room" from "damaged" but by its words: a damaged frame is tried a few times more.
            if room_bytes == bytes_max:
                raise BatchError(f"{name}, damaged or of more than {bytes_max} bytes: {error}") from None
        room_bytes = min(room_bytes * ROOM_GROWTH, bytes_max)


def _unsnappy(data: memoryview, bytes_max: int) -> bytes:
    """Raw, as librdkafka may send it, or in xerial's frames: a header, then raw blocks with an int32 size each."""
    if data[: len(XERIAL_MAGIC)] != XERIAL_MAGIC:
        return _unsnappy_block(data, bytes_max)
    plain, position = bytearray(), XERIAL_START.size
    while position < len(data):
        start = position + INT32.size
        size = INT32.unpack_from(data, position)[0] if start <= len(data) else -1
        if not 0 <= size <= len(data) - start:
            raise BatchError(f"damaged snappy: block of {size} bytes at {position}, {len(data)} bytes in all")
        plain += _unsnappy_block(data[start : start + size], bytes_max - len(plain))
        position = start + size
    return bytes(plain)


def _unsnappy_block(block: memoryview, bytes_max: int) -> bytes:
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        allowed = min(bytes_max, SNAPPY_EXPANSION_MAX * len(block))
        if size > allowed:
            raise BatchError(f"snappy claims {size} bytes, allowed are {allowed}")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise BatchError(f"damaged snappy: {error}") from None


def _snappy_xerial(data: bytes) -> bytes:
    pieces = [XERIAL_START.pack(XERIAL_MAGIC, 1, 1)]
    for start in range(0, len(data), XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + XERIAL_BLOCK_BYTES]))
        pieces += (INT32.pack(len(block)), block)
    return b"".join(pieces)
