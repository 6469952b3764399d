"""What a broken or hostile client does to a frame, and what reading it may cost."""

import tracemalloc
from collections.abc import Callable
from random import Random

HOSTILE_LENGTHS = (b"\xff\xff\xff\xff\x0f", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff" * 10, b"\xff\xff\xff\xff")


def mutate(random: Random, frame: bytes) -> bytes:
    position = random.randrange(len(frame) + 1)
    hostile = random.choice(HOSTILE_LENGTHS)
    match random.randrange(4):
        case 0:
            return frame[:position]
        case 1:
            return frame[:position] + random.randbytes(1) + frame[position + 1 :]
        case 2:
            return frame[:position] + hostile + frame[position:]
        case _:
            return frame[:position] + hostile + frame[position + len(hostile) :]


def peak_bytes(action: Callable[[], object]) -> int:
    """The most memory that was held at once while it ran."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
