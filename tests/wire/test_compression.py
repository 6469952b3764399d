"""Aim: what is compressed comes back whole, and nothing that claims or holds more than allowed costs more than that."""

import zlib

import cramjam
import pytest
from aiokafka import codec as aiokafka_codec
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.wire.batches import BatchError
from quorumlog.wire.compression import Compression, compress, decompress
from tests.wire.mutations import peak_bytes

EVERY = list(Compression)
REAL = [compression for compression in Compression if compression is not Compression.NONE]
MEGABYTE = 2**20
payloads = st.one_of(
    st.binary(max_size=300), st.builds(lambda piece, times: piece * times, st.binary(max_size=40), st.integers(0, 5000))
)


@pytest.mark.parametrize("compression", EVERY)
@given(data=payloads)
def test_round_trip(compression: Compression, data: bytes) -> None:
    """The bound may be just the size, and not one byte less."""
    compressed = compress(compression, data)
    assert bytes(decompress(compression, memoryview(compressed), bytes_max=len(data))) == data
    if data:
        with pytest.raises(BatchError):
            decompress(compression, compressed, bytes_max=len(data) - 1)


@pytest.mark.parametrize("compression", REAL)
def test_bombs_are_refused(compression: Compression) -> None:
    """200 MB in a small frame: refused, for little more memory than is allowed."""
    bomb = compress(compression, bytes(200 * MEGABYTE))

    def refused() -> None:
        with pytest.raises(BatchError):
            decompress(compression, bomb, bytes_max=MEGABYTE)

    assert peak_bytes(refused) < 6 * MEGABYTE


@pytest.mark.parametrize("compression", REAL)
@given(data=st.data())
def test_damage_is_refused_or_read(compression: Compression, data: st.DataObject) -> None:
    """Any bytes: a BatchError, or not more than is allowed."""
    frame = bytearray(compress(compression, b"some records " * 50))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        plain = decompress(compression, bytes(frame[: data.draw(st.integers(0, len(frame)))]), bytes_max=1000)
    except BatchError:
        return
    assert len(plain) <= 1000


@pytest.mark.parametrize("compression", REAL)
def test_a_cut_end_is_refused(compression: Compression) -> None:
    """What lost its last byte is damaged."""
    frame = compress(compression, bytes(range(256)) * 4)
    with pytest.raises(BatchError):
        decompress(compression, frame[:-1], bytes_max=MEGABYTE)


def test_raw_snappy_is_read() -> None:
    """librdkafka sends snappy without frames."""
    data = b"abc" * 100
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(data)), bytes_max=300) == data


@pytest.mark.parametrize("compression", [5, 7, -1])
def test_unknown_compressions_are_refused(compression: int) -> None:
    """There are four."""
    with pytest.raises(BatchError, match=f"compression {compression}, known are 0 to 4"):
        decompress(compression, b"", bytes_max=1)


def test_something_behind_gzip_is_refused() -> None:
    """No producer writes two gzip members, and reading many tiny ones would cost time."""
    with pytest.raises(BatchError, match="something follows"):
        decompress(Compression.GZIP, compress(Compression.GZIP, b"a") * 2, bytes_max=10)
    with pytest.raises(BatchError):
        decompress(Compression.GZIP, zlib.compress(b"a"), bytes_max=10)


def test_agrees_with_aiokafka() -> None:
    """A client library reads ours, and we read its."""
    data = b"the same line again and again\n" * 5000
    for compression, encode, decode in (
        (Compression.GZIP, aiokafka_codec.gzip_encode, aiokafka_codec.gzip_decode),
        (Compression.SNAPPY, aiokafka_codec.snappy_encode, aiokafka_codec.snappy_decode),
        (Compression.LZ4, aiokafka_codec.lz4_encode, aiokafka_codec.lz4_decode),
        (Compression.ZSTD, aiokafka_codec.zstd_encode, aiokafka_codec.zstd_decode),
    ):
        assert bytes(decode(compress(compression, data))) == data
        assert bytes(decompress(compression, bytes(encode(data)), bytes_max=len(data))) == data


def test_blocks_of_lz4_do_not_depend_on_each_other() -> None:
    """Kafka's Java clients read no others ("Dependent block stream is unsupported")."""
    frame = compress(Compression.LZ4, bytes(300_000))
    assert frame[:4] == b"\x04\x22\x4d\x18"
    assert frame[4] & 1 << 5
