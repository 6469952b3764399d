"""Aim: frames come out whole however the stream is cut, hostile sizes are refused, and memory follows what has come."""

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.wire.frames import FrameError, FrameReader, framed


def stream_of(frames: list[bytes]) -> bytes:
    return b"".join(bytes(part) for frame in frames for part in framed([frame]))


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(min_value=0, max_value=50)))
def test_any_cut_gives_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    """The twin is the list of frames itself: whatever the pieces, they come back."""
    stream, reader, seen = stream_of(frames), FrameReader(40), []
    for cut in cuts:
        piece, stream = stream[:cut], stream[cut:]
        seen += reader.receive(piece)
    seen += reader.receive(stream)
    assert [bytes(frame) for frame in seen] == frames
    assert reader.unfinished_bytes == 0


def test_byte_by_byte() -> None:
    """The slowest stream there is."""
    reader, seen = FrameReader(10), []
    for byte in stream_of([b"abc", b"", b"0123456789"]):
        seen += reader.receive(bytes([byte]))
    assert [bytes(frame) for frame in seen] == [b"abc", b"", b"0123456789"]


@pytest.mark.parametrize("size", [-1, -(2**31), 11, 2**31 - 1])
@pytest.mark.parametrize("cut", [1, 4])
def test_hostile_sizes_are_refused(size: int, cut: int) -> None:
    """A negative size or one over the maximum ends the stream, also when it comes in pieces."""
    prefix = size.to_bytes(4, "big", signed=True)
    with pytest.raises(FrameError, match=f"frame of {size} bytes, allowed are 0 to 10"):
        reader = FrameReader(10)
        reader.receive(prefix[:cut])
        reader.receive(prefix[cut:])


def test_a_claimed_size_reserves_nothing() -> None:
    """A gigabyte announced and ten bytes sent cost ten bytes."""
    reader = FrameReader(2**30)
    tracemalloc.start()
    reader.receive((2**30).to_bytes(4, "big") + b"0123456789")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.unfinished_bytes == 14
    assert peak < 10_000


def test_a_big_frame_in_small_pieces_is_linear() -> None:
    """16 MB in 64 KiB pieces take memory once and little time."""
    reader, piece, count = FrameReader(2**24), bytes(2**16), 2**8
    started = time.process_time()
    reader.receive((2**24).to_bytes(4, "big"))
    frames = [frame for _ in range(count) for frame in reader.receive(piece)]
    assert [len(frame) for frame in frames] == [2**24]
    assert time.process_time() - started < 0.5


def test_a_frame_owns_its_memory() -> None:
    """What comes later does not change a frame, and nobody can write to one."""
    reader = FrameReader(10)
    (first,) = reader.receive(stream_of([b"first"]) + b"\x00\x00")
    (second,) = reader.receive(b"\x00\x06second")
    reader.receive(stream_of([b"xxxxxx"]))
    assert (bytes(first), bytes(second)) == (b"first", b"second")
    assert first.readonly
    assert second.readonly


def test_framed_copies_nothing() -> None:
    """A reply is a list of buffers with the size in front."""
    records = memoryview(b"records")
    parts = framed([b"head", records])
    assert parts == [b"\x00\x00\x00\x0b", b"head", records]
    assert parts[2] is records
